"""MPC: solutions against an interior-point solver and plain Newton, gradients against central differences."""

from __future__ import annotations

import warnings

import pytest
import torch

from gradslam_ng.planning import MPC, Cartpole, LinearDynamics, Pendulum, QuadraticCost, Unicycle
from tests.planning.differences import assert_gradients
from tests.planning.test_lqr import dense, problem

F64 = torch.float64
SYSTEMS = ("pendulum", "cartpole", "unicycle")


def tensor(*values):
    return torch.tensor(values, dtype=F64)


def inputs_of(name):
    """Parameters of the dynamics, weights of the cost, goal, start, limits, weight of slew, the control before."""
    shared = {"slew": tensor(0.03), "previous": tensor([0.1], [0.0]).expand(2, 2 if name == "unicycle" else 1)}
    return {
        "pendulum": {
            "dynamics": tensor(10.0, 1.0, 1.0), "weights": tensor(1.0, 1.0, 0.1, 0.01), "goal": tensor(1.0, 0.0, 0.0),
            "x0": torch.stack([tensor(a, 0.3) for a in (2.5, 0.4)]), "limit": tensor(2.0),
        },
        "cartpole": {
            "dynamics": tensor(9.8, 1.0, 0.1, 0.5), "weights": tensor(0.1, 0.1, 1.0, 1.0, 0.1, 0.01),
            "goal": tensor(0.0, 0.0, 1.0, 0.0, 0.0), "x0": tensor([0.5, 0.0, 0.4, 0.0], [0.0, 0.2, -0.5, 0.5]),
            "limit": tensor(4.0),
        },
        "unicycle": {
            "dynamics": tensor(0.9, 0.8), "weights": tensor(1.0, 2.0, 0.1, 0.05, 0.05), "goal": tensor(1.0, 0.6, 0.5),
            "x0": tensor([0.0, 0.0, 0.3], [0.5, 0.9, -1.0]), "limit": tensor(0.8, 1.2),
        },
    }[name] | shared  # fmt: skip


def controller(name, values, **options):
    """The controller and its start. Angles of the start become cosine and sine."""
    constants, goal, weights = values["dynamics"], values["goal"], values["weights"]
    dynamics = {
        "pendulum": lambda: Pendulum(constants),
        "cartpole": lambda: Cartpole(constants),
        "unicycle": lambda: Unicycle(0.1, constants),
    }[name]()
    x0 = values["x0"]
    if name == "pendulum":
        x0 = torch.stack([x0[:, 0].cos(), x0[:, 0].sin(), x0[:, 1]], -1)
    elif name == "cartpole":
        x0 = torch.stack([x0[:, 0], x0[:, 1], x0[:, 2].cos(), x0[:, 2].sin(), x0[:, 3]], -1)
    n = x0.shape[-1]

    def cost(x, u):
        return 0.5 * (weights[:n] * (x - goal).square()).sum(-1) + 0.5 * (weights[n:] * u.square()).sum(-1)

    mpc = MPC(
        dynamics, cost=cost, horizon=12, controls=values["previous"].shape[-1],
        limits=(-values["limit"], values["limit"]), slew=values["slew"], **options,
    )  # fmt: skip
    return mpc, x0


def loss_of(name, key, **options):
    values = inputs_of(name)

    def loss(x):
        changed = values | {key: x}
        mpc, x0 = controller(name, changed, **options)
        plan = mpc(x0, previous=changed["previous"])
        assert plan.converged.all()
        weights = torch.linspace(-1, 1, plan.u.numel(), dtype=F64).view_as(plan.u)
        return (plan.u * weights).sum() + 0.1 * plan.x.square().sum() + 0.1 * plan.cost.sum()

    return loss, values[key]


@pytest.mark.parametrize("key", ["dynamics", "weights", "goal", "x0", "limit", "slew", "previous"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_implicit_gradients_meet_central_differences(name, key):
    loss, x = loss_of(name, key)
    assert_gradients(loss, x.contiguous(), 1e-6, step=1e-5)


@pytest.mark.parametrize("backward", ["unroll", "truncated"])
@pytest.mark.parametrize(("name", "key"), [("pendulum", "dynamics"), ("unicycle", "limit"), ("unicycle", "x0")])
def test_other_ways_back_agree(name, key, backward):
    gradients = []
    for way in ("implicit", backward):
        loss, x = loss_of(name, key, backward=way, backward_iterations=2)
        x = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(x), x)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-6, atol=1e-8)


def test_the_last_convex_approximation_is_biased_and_the_exact_hessian_is_not():
    """Far from upright the pendulum's second derivatives count: the bias that the documentation of `MPC` gives."""
    gradients = {}
    for way in ("implicit", "implicit-gn"):
        values = inputs_of("pendulum") | {"limit": tensor(torch.inf)}
        values["x0"] = torch.stack([tensor(a, 0.3) for a in (1.0, 1.5)])
        x = values["dynamics"].requires_grad_()
        mpc, x0 = controller("pendulum", values, backward=way)
        plan = mpc(x0)
        assert plan.converged.all()
        gradients[way] = torch.autograd.grad((plan.u * torch.linspace(-1, 1, 24, dtype=F64).view(2, 12, 1)).sum(), x)[0]
    bias = (gradients["implicit-gn"] - gradients["implicit"]).norm() / gradients["implicit"].norm()
    assert 1e-5 < bias < 0.1


def quadratic_problem(dtype=F64, **options):
    """A box-limited problem in matrices, whose limits hold a quarter of the controls."""
    C, c, F, f, x0 = (x.requires_grad_() for x in problem(batch=4, steps=10, dtype=dtype))
    settings = {"limits": (-0.6, 0.6)} | options
    mpc = MPC(LinearDynamics(F, f=f), cost=QuadraticCost(C, c=c), horizon=10, controls=2, **settings)
    return mpc, x0, (C, c, F, f, x0)


def projected_gradient(plan, C, c, F, f, x0, limit):
    """How far plain projected gradient descent would go from a plan."""
    u = plan.u.detach().requires_grad_()
    x, cost = x0.detach(), 0.0
    for t in range(u.shape[1]):
        tau = torch.cat([x, u[:, t]], -1)
        cost = cost + 0.5 * torch.einsum("bi,bij,bj", tau, C[:, t], tau) + (c[:, t] * tau).sum()
        if t + 1 < u.shape[1]:
            x = (F[:, t] @ tau[..., None])[..., 0] + f[:, t]
    (slope,) = torch.autograd.grad(cost, u)
    return (u - (u - slope).clamp(-limit, limit)).abs().max()


def test_a_box_limited_quadratic_problem_is_solved_exactly():
    mpc, x0, (C, c, F, f, _) = quadratic_problem()
    plan = mpc(x0)
    share = (plan.u.abs() == 0.6).double().mean()
    assert plan.converged.all() and 0.1 < share < 0.6 and plan.u.abs().max() <= 0.6
    assert projected_gradient(plan, C, c, F, f, x0, 0.6) < 1e-9


@pytest.mark.parametrize("name", ["C", "c", "F", "f", "x0"])
def test_gradients_of_a_box_limited_quadratic_problem(name):
    values = dict(zip(("C", "c", "F", "f", "x0"), (x[1:2] for x in problem(batch=4, steps=4)), strict=True))

    def loss(x):
        p = values | {name: x}
        mpc = MPC(
            LinearDynamics(p["F"], f=p["f"]), cost=QuadraticCost(p["C"], c=p["c"]), horizon=4, controls=2,
            limits=(-0.6, 0.6),
        )  # fmt: skip
        plan = mpc(p["x0"])
        return plan.u.pow(3).sum() + plan.x.square().sum()

    assert_gradients(loss, values[name], 1e-7)


def test_without_limits_a_quadratic_problem_is_an_lqr():
    mpc, x0, inputs = quadratic_problem(limits=None)
    plan = mpc(x0)
    torch.testing.assert_close(torch.cat([plan.x[1], plan.u[1]], -1), dense(*(x[1] for x in inputs))[0])
    assert plan.margin.isinf().all() and (plan.iterations == 1).all()


def test_functions_and_matrices_are_the_same_problem():
    _, x0, (C, c, F, f, _) = quadratic_problem(slew=0.2)
    C, c, F, f = (x.detach()[:, :1] for x in (C, c, F, f))
    plans = []
    for functions in (False, True):
        dynamics, cost = LinearDynamics(F.expand(-1, 9, -1, -1), f=f.expand(-1, 9, -1)), QuadraticCost(C, c=c)
        if functions:
            matrix = (F, f, C, c)
            dynamics = lambda x, u, m=matrix: (m[0] @ torch.cat([x, u], -1)[..., None])[..., 0] + m[1]  # noqa: E731
            cost = lambda x, u, m=matrix: QuadraticCost(m[2], c=m[3]).evaluate(torch.cat([x, u], -1))  # noqa: E731
        start = x0.detach().clone().requires_grad_()
        plan = MPC(dynamics, cost=cost, horizon=10, controls=2, limits=(-0.6, 0.6), slew=0.2)(start)
        plans.append((plan.u, torch.autograd.grad(plan.u.pow(2).sum(), start)[0]))
    torch.testing.assert_close(plans[0], plans[1])


def test_slew_is_a_cost_on_changes():
    mpc, x0, _ = quadratic_problem(limits=None)
    heavy = quadratic_problem(limits=None, slew=1e6)[0](x0, previous=torch.full((4, 2), 0.3, dtype=F64))
    torch.testing.assert_close(heavy.u.detach(), torch.full_like(heavy.u, 0.3), atol=1e-3, rtol=0)
    free_start = quadratic_problem(limits=None, slew=1e6)[0](x0).u.detach()
    assert (free_start - free_start[:, :1]).abs().max() < 1e-3 < (free_start[:, 0] - 0.3).abs().min()
    nothing = quadratic_problem(limits=None, slew=0.0)[0](x0)
    torch.testing.assert_close(nothing.u, mpc(x0).u)


# ---- limits ----


def test_limits_that_meet_fix_the_controls_and_have_the_gradient():
    low = torch.full((2,), 0.2, dtype=F64, requires_grad=True)
    mpc, x0, _ = quadratic_problem(limits=(low, low))
    plan = mpc(x0)
    assert plan.converged.all() and (plan.u == 0.2).all()
    (gradient,) = torch.autograd.grad(plan.u.sum(), low)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 40.0))  # 4 elements, 10 steps


def test_limits_of_some_steps_may_be_infinite():
    low = torch.full((10, 2), -torch.inf, dtype=F64)
    low[3] = 0.1
    low.requires_grad_()
    mpc, x0, _ = quadratic_problem(limits=(low, torch.inf))
    plan = mpc(x0)
    assert plan.converged.all() and (plan.u[:, 3] >= 0.1).all()
    (gradient,) = torch.autograd.grad(plan.u.sum(), low)
    assert gradient.isfinite().all() and gradient[3].abs().max() > 0 and gradient[:3].abs().max() == 0


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((0.5, -0.5), "low at most high"),
        ((torch.nan, 1.0), "low has NaN"),
        ((torch.zeros(3), 1.0), "broadcast to"),
        ((torch.inf, torch.inf), "room for a control"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits, message):
    mpc, x0, _ = quadratic_problem(limits=limits)
    with pytest.raises(ValueError, match=f"limits: .*{message}"):
        mpc(x0)


def test_the_margin_is_the_way_to_the_next_kink():
    """One step, one control: u = x clipped to [-1, 1], with a kink at 1."""

    def plan(x):
        mpc = MPC(
            lambda x, u: x, cost=lambda x, u: 0.5 * (u - x).square().sum(-1), horizon=1, controls=1, limits=(-1.0, 1.0)
        )
        return mpc(x)

    x = tensor([0.7], [1.4], [1.0 - 1e-9], [-3.0]).requires_grad_()
    found = plan(x)
    torch.testing.assert_close(found.margin, tensor(0.3, 0.4, 1e-9, 2.0), atol=1e-12, rtol=1e-6)
    (slope,) = torch.autograd.grad(found.u.sum(), x)
    torch.testing.assert_close(slope, tensor([1.0], [0.0], [1.0], [0.0]))
    at_kink = tensor([1.0]).requires_grad_()
    (slope,) = torch.autograd.grad(plan(at_kink).u.sum(), at_kink)
    assert 0 <= float(slope) <= 1


def test_at_the_switch_of_a_limit_the_gradient_lies_between_the_one_sided_differences():
    """The limit just reaches what one control would be without it: weakly active."""
    C, c, F, f, x0 = problem(batch=1, steps=8)

    def total(limit):
        mpc = MPC(LinearDynamics(F, f=f), cost=QuadraticCost(C, c=c), horizon=8, controls=2, limits=(-9.0, limit))
        return mpc(x0).u.sum()

    free = MPC(LinearDynamics(F, f=f), cost=QuadraticCost(C, c=c), horizon=8, controls=2)(x0).u.detach()
    at = free.max().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(at), at)
    here = float(total(at.detach()))
    below, above = ((float(total(at.detach() + step)) - here) / step for step in (-1e-6, 1e-6))
    assert abs(below) > 0.1 and above == pytest.approx(0, abs=1e-8)  # beyond the switch the limit does nothing
    assert min(below, above) - 1e-6 <= float(gradient) <= max(below, above) + 1e-6


# ---- convergence ----


def test_elements_do_not_depend_on_each_other():
    """Easy and hard starts together and alone."""
    values = inputs_of("cartpole")
    values["x0"] = tensor([0.0, 0.0, 0.01, 0.0], [0.5, 0.0, 3.0, 0.0], [0.2, 0.1, 1.5, 1.0])
    values = {key: x for key, x in values.items() if key != "previous"} | {"previous": tensor([0.1])}
    mpc, x0 = controller("cartpole", values)
    together = mpc(x0)
    assert together.converged.all() and len(set(together.iterations.tolist())) > 1
    for i in range(3):
        alone = mpc(x0[i : i + 1])
        assert alone.iterations[0] == together.iterations[i]
        torch.testing.assert_close(alone.u[0], together.u[i], rtol=1e-12, atol=1e-12)


def test_what_has_not_converged_says_so_and_has_no_gradient():
    values = inputs_of("cartpole")
    values["x0"] = tensor([0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 3.0, 0.0])  # the first is at its goal
    values["x0"].requires_grad_()
    mpc, x0 = controller("cartpole", values, iterations=1)
    with pytest.warns(RuntimeWarning, match="1 of 2 plans have not converged"):
        plan = mpc(x0)
    assert plan.converged.tolist() == [True, False]
    (gradient,) = torch.autograd.grad(plan.u.sum(), values["x0"])
    assert gradient[0].abs().max() > 0 and gradient[1].abs().max() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not controller("cartpole", values, iterations=1, backward="unroll")[0](x0).converged.all()


def test_the_error_of_the_gradient_is_bounded_by_that_of_the_plan():
    gradients = []
    for tolerance in (1e-3, 1e-5, 1e-11):
        loss, x = loss_of("unicycle", "dynamics", tolerance=tolerance)
        x = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(x), x)[0])
    errors = [(g - gradients[-1]).norm() / gradients[-1].norm() for g in gradients[:-1]]
    assert errors[0] < 0.1 and errors[1] < 1e-3


def test_a_stationary_maximum_is_no_solution():
    """Upright by symmetry, where the cost is least if it falls: no minimum, whatever the slope."""
    mpc = MPC(lambda x, u: x + u, cost=lambda x, u: (x.square() - 1).square().sum(-1) + 1e-2 * u.square().sum(-1),
              horizon=5, controls=1)  # fmt: skip
    x0 = torch.zeros(1, 1, dtype=F64, requires_grad=True)
    with pytest.warns(RuntimeWarning, match="strict minimum"):
        plan = mpc(x0)
    assert not plan.converged.any() and plan.u.isfinite().all()
    moved = mpc(x0, u_init=torch.full((1, 5, 1), 0.1, dtype=F64))
    assert moved.converged.all() and moved.cost < plan.cost
    torch.testing.assert_close(moved.x[0, -2].detach(), tensor(1.0), atol=0.05, rtol=0)


def test_an_indefinite_lagrangian_at_a_minimum_has_the_right_gradient():
    """The cost curves down in one state, and control keeps it: no stage is convex, the whole problem is."""

    def loss(weight):
        def cost(x, u):
            return (-weight * x[..., :1].square() + u.square()).sum(-1) + 0.1 * x[..., 0].cos()

        plan = MPC(lambda x, u: 0.8 * x + u.sin(), cost=cost, horizon=3, controls=1)(tensor([0.7]))
        assert plan.converged.all()
        return plan.u.pow(3).sum() + plan.u.sum()

    assert_gradients(loss, tensor(0.3), 1e-7)


@pytest.mark.parametrize("part", ["transition", "effect", "weight"])
@pytest.mark.parametrize("effect", [[[0.3], [0.0]], [[0.0], [0.0]]], ids=["one state", "no state"])
def test_uncontrollable_dynamics_have_a_plan_and_its_gradient(effect, part):
    """One state grows by itself, and controls move the other, or nothing at all."""
    values = {"transition": tensor([1.0, 0.2], [0.0, 1.1]), "effect": tensor(*effect), "weight": tensor(0.1)}

    def loss(x):
        given = values | {part: x}

        def dynamics(x, u):
            return x @ given["transition"].T + u @ given["effect"].T

        def cost(x, u):
            return x.square().sum(-1) + given["weight"] * (u - 0.2).square().sum(-1)

        plan = MPC(dynamics, cost=cost, horizon=6, controls=1, limits=(-3.0, 3.0))(tensor([1.0, 0.5]))
        assert plan.converged.all()
        if not given["effect"].any():
            torch.testing.assert_close(plan.u, torch.full_like(plan.u, 0.2))
        return plan.u.sum() + plan.x.square().sum() + given["weight"]

    assert_gradients(loss, values[part], 1e-6)


@pytest.mark.parametrize("limits", [None, (-1.0, 1.0)])
def test_controls_that_neither_cost_nor_do_anything_have_no_gradient_and_say_so(limits):
    weight = tensor(0.0).requires_grad_()
    mpc = MPC(lambda x, u: x, cost=lambda x, u: x.square().sum(-1) + weight * u.square().sum(-1), horizon=5, controls=1,
              limits=limits)  # fmt: skip
    with pytest.warns(RuntimeWarning, match="strict minimum"):
        plan = mpc(tensor([1.0]))
    assert not plan.converged.any() and plan.u.abs().max() == 0
    assert torch.autograd.grad(plan.u.sum(), weight)[0] == 0


# ---- forms ----


def test_single_precision():
    exact, x0, _ = quadratic_problem()
    rough, x0_32, inputs = quadratic_problem(dtype=torch.float32)
    plan = rough(x0_32)
    assert plan.u.dtype == torch.float32 and plan.converged.all()
    torch.testing.assert_close(plan.u.double(), exact(x0).u, atol=1e-5, rtol=0)
    assert all(g.isfinite().all() for g in torch.autograd.grad(plan.u.square().sum(), inputs))


def test_one_control_and_one_element_with_limits():
    values = {key: x[:1] if key in ("x0", "previous") else x for key, x in inputs_of("pendulum").items()}
    x = values["dynamics"].requires_grad_()
    mpc, x0 = controller("pendulum", values)
    plan = mpc(x0)
    assert (plan.u.abs() == 2).any()
    assert torch.autograd.grad(plan.u.sum(), x)[0].abs().min() > 0


def test_a_horizon_of_one_step():
    mpc = MPC(lambda x, u: x, cost=lambda x, u: (u - x).square().sum(-1), horizon=1, controls=2)
    torch.testing.assert_close(mpc(tensor([0.3, 0.4])).u[0, 0], tensor(0.3, 0.4))


def test_parameters_of_modules_are_those_of_the_controller():
    dynamics = Pendulum(torch.nn.Parameter(tensor(10.0, 1.0, 1.0)))
    mpc = MPC(dynamics, cost=lambda x, u: x[..., 1:].square().sum(-1) + u.square().sum(-1), horizon=5, controls=1)
    assert [name for name, _ in mpc.named_parameters()] == ["dynamics.constants"]
    mpc(tensor([0.9, 0.1, 0.0])).u.sum().backward()
    assert dynamics.constants.grad.abs().min() > 0


def test_parameters_of_each_element():
    """Two pendulums of different mass at once, and each alone."""
    values = inputs_of("pendulum")
    constants = tensor([10.0, 1.0, 1.0], [9.0, 2.0, 0.8])
    mpc, x0 = controller("pendulum", values | {"dynamics": constants[:, None]})
    together = mpc(x0)
    for i in range(2):
        alone, _ = controller("pendulum", values | {"dynamics": constants[i]})
        torch.testing.assert_close(alone(x0[i : i + 1]).u[0], together.u[i])


def test_the_start_of_the_search_gets_a_gradient_only_by_unrolling():
    mpc, x0, _ = quadratic_problem(iterations=1, backward="unroll")
    u = torch.zeros(4, 10, 2, dtype=F64, requires_grad=True)
    assert mpc(x0, u_init=u).u.requires_grad
    mpc, x0, _ = quadratic_problem()
    assert torch.autograd.grad(mpc(x0, u_init=u).u.sum(), u, allow_unused=True)[0] is None


def test_second_derivatives_are_refused():
    mpc, x0, inputs = quadratic_problem()
    (g,) = torch.autograd.grad(mpc(x0).u.pow(3).sum(), inputs[1], create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        g.sum().backward()


def test_detach_and_no_grad():
    mpc, x0, _ = quadratic_problem(backward="detach")
    assert not mpc(x0).u.requires_grad
    with torch.no_grad():
        assert not quadratic_problem()[0](x0).u.requires_grad


def test_inputs_are_not_changed():
    mpc, x0, inputs = quadratic_problem()
    u = torch.full((4, 10, 2), 5.0, dtype=F64)
    before = [x.clone() for x in (*inputs, u)]
    mpc(x0, u_init=u).u.sum().backward()
    assert all(torch.equal(x, y) for x, y in zip((*inputs, u), before, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon: expected at least 1"),
        ({"controls": 0}, "controls: expected at least 1"),
        ({"backward": "adjoint"}, "backward: expected one of implicit"),
        ({"iterations": -1}, "iterations: expected at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MPC(lambda x, u: x, cost=lambda x, u: x[..., 0], **{"horizon": 3, "controls": 1} | options)


@pytest.mark.parametrize(
    ("dynamics", "cost", "message"),
    [
        (lambda x, u: x[..., :1], lambda x, u: x[..., 0], r"dynamics: expected next states \(2, 1, 3\)"),
        (lambda x, u: x, lambda x, u: x, r"cost: expected a number for each step \(2, 4\)"),
        (lambda x, u: x, lambda x, u: x[..., 0] / 0, "cost: expected finite numbers along the first trajectory"),
        (lambda x, u: 1e200 * x**3, lambda x, u: x[..., 0] ** 2, "cost: expected finite numbers"),
    ],
)
def test_functions_that_return_what_they_should_not_are_refused(dynamics, cost, message):
    with pytest.raises(ValueError, match=message):
        MPC(dynamics, cost=cost, horizon=4, controls=1)(torch.ones(2, 3, dtype=F64))


def test_starts_that_do_not_fit_are_refused():
    mpc, x0, _ = quadratic_problem()
    with pytest.raises(ValueError, match=r"x0: expected \(B, n\)"):
        mpc(x0[0])
    with pytest.raises(ValueError, match=r"u_init: expected \(4, 10, 2\), got \(4, 9, 2\)"):
        mpc(x0, u_init=torch.zeros(4, 9, 2, dtype=F64))
    with pytest.raises(ValueError, match="previous: expected None"):
        mpc(x0, previous=torch.zeros(4, 2, dtype=F64))
    with pytest.raises(ValueError, match="x0: expected finite"):
        mpc(x0 * torch.nan)
    with pytest.raises(ValueError, match="slew: expected weights of at least 0"):
        quadratic_problem(slew=-1.0)[0](x0)
