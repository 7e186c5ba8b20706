"""No argument is accepted and ignored: each changes what comes out."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gradslam_ng import planning
from tests.planning import arguments

COST = torch.ones(5, 6, dtype=torch.float64) + torch.rand(
    5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
)
OPEN = torch.ones(5, 6, dtype=torch.bool)


def moved(cost: float | Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, u: (x - 0.4).square().sum(-1) + cost * u.square().sum(-1)


def drag(x: Tensor, u: Tensor) -> Tensor:
    return x + 0.3 * u - 0.2 * (2 * x).sin()


def mpc(previous: Tensor | None = None, u_init: Tensor | None = None, weight: float = 0.1, **options) -> Tensor:
    options = {"limits": (-0.5, 0.5), "slew": 0.1, "iterations": 20, "horizon": 4} | options
    solver = planning.MPC(drag, cost=moved(weight), controls=1, **options)
    found = solver(torch.tensor([[0.8]], dtype=torch.float64), u_init, previous)
    return torch.cat([found.u.flatten(), found.iterations.double()])


def cem(**options) -> Tensor:
    options = {"samples": 20, "elites": 4, "iterations": 3} | options
    generator = torch.Generator().manual_seed(options.pop("seed", 0))
    mean, std = (torch.full((2,), options.pop(name, value), dtype=torch.float64) for name, value in
                 (("mean", 0.0), ("std", 1.0)))  # fmt: skip
    return planning.cem(lambda x: (x - 0.7).square().sum(-1), mean, std, generator=generator, **options).mean


def smooth(**options) -> Tensor:
    options = {"radius": 0.2, "iterations": 50, "backward": "detach"} | options
    path = torch.stack([torch.linspace(-1, 1, 6), torch.full((6,), 0.05)], -1).double()
    return planning.smooth(path, lambda p: p.norm(dim=-1) - 0.3, **options).position


def values(goal: tuple[int, int] = (1, 2), **options) -> Tensor:
    actions = options.pop("actions", 8)
    return planning.ValueIteration(actions, **{"temperature": 0.1} | options)(COST, goal).cost_to_go


def clearance(**options) -> Tensor:
    unknown = torch.tensor([True, False, True])
    distance = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    return planning.clearance_cost(distance, **{"radius": 0.1, "unknown": unknown} | options)


def policy(**options) -> Tensor:
    grid = planning.ResistorGrid(OPEN, **{name: options.pop(name) for name in ("walls",) if name in options})
    found = planning.policy_iteration(grid, (1, 2), **{"steps": 2} | options)
    return torch.cat([found.conductance.flatten(), found.total.flatten()])


CASES: dict[str, arguments.Case] = {
    "shortest_path": (
        lambda goal=(1, 2), **options: planning.shortest_path(COST, goal, **options).cost_to_go,
        {"goal": (3, 3), "connectivity": 4, "cell": 0.5},
    ),
    "travel_time": (
        lambda goal=(1, 2), **options: planning.travel_time(COST, goal, **options).time,
        {"goal": (3, 3), "cell": 0.5},
    ),
    "ValueIteration": (
        values,
        {"goal": (3, 3), "actions": 4, "temperature": 0.2, "discount": 0.9, "iterations": 1, "cell": 2.0},
    ),
    "clearance_cost": (
        clearance,
        {"radius": 0.25, "softness": 0.1, "weight": 5.0, "unknown": None, "unknown_weight": 1.0},
    ),
    "MPC": (
        mpc,
        {
            "limits": (-0.1, 0.1),
            "slew": 1.0,
            "horizon": 3,
            "iterations": 1,
            "tolerance": 0.5,
            "previous": torch.tensor([[0.4]], dtype=torch.float64),
            "u_init": torch.full((1, 4, 1), 0.3, dtype=torch.float64),
        },
    ),
    "cem": (
        cem,
        {"samples": 30, "elites": 8, "iterations": 4, "temperature": 0.1, "limits": (-0.1, 0.1), "seed": 1, "mean": 0.2,
         "std": 2.0},
    ),
    "smooth": (
        smooth,
        {"radius": 0.3, "safety_distance": 0.3, "dt": 0.4, "acceleration": 2.0, "sigma": 0.2, "between": 2,
         "iterations": 2, "tolerance": 0.1},
    ),
    "policy_iteration": (
        policy,
        {
            "walls": "reflecting",
            "index": lambda controller: controller.travel().square(),
            "gradient": "surrogate",
            "steps": 3,
            "rate": 0.1,
            "conductance": torch.linspace(1, 2, len(planning.ResistorGrid(OPEN).edges), dtype=torch.float64),
        },
    ),
}  # fmt: skip
CASES |= arguments.CASES
BACK = {"backward", "backward_iterations", "checkpoint"}  # of the gradient alone, tested with each planner's
DATA = {
    "MPC": {"dynamics", "cost", "controls"}, "cem": {"cost"}, "smooth": {"path", "distance"}, "shortest_path": {"cost"},
    "travel_time": {"cost"}, "clearance_cost": {"distance"}, "policy_iteration": {"grid", "goal"}, "esdf": {"grid"},
    "path_clearance": {"path", "grid"}, "safe_path": {"grid"},
}  # fmt: skip
PAIRS = [(name, argument) for name, (_, changes) in CASES.items() for argument in changes]


@pytest.mark.parametrize(("name", "argument"), PAIRS)
def test_every_argument_counts(name, argument):
    function, changes = CASES[name]
    before, after = function(), function(**{argument: changes[argument]})
    same = before.shape == after.shape and torch.equal(before.nan_to_num(posinf=-1), after.nan_to_num(posinf=-1))
    assert not same


@pytest.mark.parametrize("name", ["MPC", "VIN", "ConvGPPN", "ValueIteration", *(
    name for name in planning.__all__ if inspect.isfunction(getattr(planning, name)) and not name.startswith("estimate")
)])  # fmt: skip
def test_no_argument_is_left_out(name):
    """Of planners in `planning.__all__`; those that estimate a floor and what is up have nothing but data."""
    named = set(inspect.signature(getattr(planning, name)).parameters)
    tried = set(CASES[name][1]) | DATA.get(name, set()) | BACK | ({"generator"} if "seed" in CASES[name][1] else set())
    assert named <= tried


@pytest.mark.parametrize("backward", ["implicit", "implicit-gn", "unroll", "truncated", "detach"])
def test_every_way_back_through_a_plan_has_a_gradient_and_the_same_plan(backward):
    weight = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    solver = planning.MPC(drag, cost=moved(weight), horizon=4, controls=1, limits=(-2.0, 2.0), backward=backward)
    plan = solver(torch.tensor([[0.8]], dtype=torch.float64))
    expected = mpc(limits=(-2.0, 2.0), slew=None)[:-1]
    torch.testing.assert_close(plan.u.detach().flatten(), expected, rtol=1e-7, atol=1e-9)
    assert plan.u.requires_grad == (backward != "detach")
    if backward != "detach":
        (slope,) = torch.autograd.grad(plan.u[0, 0, 0], weight)
        assert abs(float(slope)) > 1e-6


def test_a_minimum_learned_through_three_iterations_is_not_that_of_more():
    """With three the mean is where it was asked for; with 10 and 100 it goes on to the minimum, and stays finite."""
    theta = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    start = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)

    def mean(count: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        options = {"iterations": count, "elites": 5, "samples": 40, "generator": generator}
        return planning.cem(lambda x: (x - theta).square().sum(-1), *start, **options).mean[0]

    for _ in range(5):  # Newton's method
        found = mean(3)
        (slope,) = torch.autograd.grad(found, theta)
        with torch.no_grad():
            theta -= (found - 0.3) / slope
    for count, target in ((3, 0.3), (10, float(theta.detach())), (100, float(theta.detach()))):
        found = mean(count)
        (slope,) = torch.autograd.grad(found, theta)
        assert abs(float(found.detach()) - target) < 0.03 and 0 < float(slope) < 1.1
    assert abs(float(theta.detach()) - 0.3) > 0.001
