"""The task of Coelho, Sitaraman and Grupen (1995): a controller that travels the least, safe at every step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.planning.harmonic import GOAL, coelho, least_travel, random_starts, shortest
from gradslam_ng.planning import Controller, ResistorGrid, policy_iteration
from gradslam_ng.planning.policy_iteration import local_gradient, surrogate
from tests.planning.differences import assert_gradients


@pytest.fixture(scope="module")
def grid():
    return ResistorGrid(coelho())


def random_conductances(grid, seed=0):
    return random_starts(grid, 1, seed=seed)[0]


def test_travel_against_random_walks_of_the_controller():
    free = torch.ones(6, 5, dtype=torch.bool)
    free[2, 1:4] = False
    grid = ResistorGrid(free)
    controller = Controller(grid.potential(random_conductances(grid), (5, 2)))
    total = controller.slope.sum(-1).clamp(min=1e-300)
    length = controller.slope.norm(dim=-1) / total
    P = torch.zeros(len(grid.cells), len(grid.cells), dtype=torch.float64)
    for axis in range(2):
        share = controller.slope[:, axis] / total
        P[torch.arange(len(P)), controller.targets()[:, axis].clamp(min=0)] += share
    expected = torch.linalg.solve(torch.eye(len(P), dtype=torch.float64) - P, length)
    torch.testing.assert_close(controller.travel(), expected)


@pytest.mark.parametrize("walls", ["absorbing", "reflecting"])
@pytest.mark.parametrize("log", [False, True])
def test_gradient_of_the_travel_distance_meets_central_differences(walls, log):
    if log and walls == "reflecting":
        pytest.skip("its potential needs no logarithm")
    free = torch.ones(5, 6, dtype=torch.bool)
    free[2, 1:4] = False
    grid = ResistorGrid(free, walls=walls)  # at random conductances: no ties
    loss = lambda g: Controller(grid.potential(g, (4, 3), log=log)).travel().square().sum()  # noqa: E731
    assert_gradients(loss, random_conductances(grid, seed=1), 1e-6, step=1e-5)


def test_travel_at_a_cost_of_each_step():
    """Two rows of conductances, three of costs: each as alone; the gradient to both meets central differences."""
    free = torch.ones(5, 6, dtype=torch.bool)
    free[2, 1:4] = False
    grid = ResistorGrid(free)
    g = random_starts(grid, 2, seed=3)
    cost = 0.5 + torch.rand(3, 1, len(grid.cells), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = Controller(grid.potential(g, (4, 3))).travel(cost)
    assert together.shape == (3, 2, len(grid.cells))
    for k in range(3):
        for row in range(2):
            alone = Controller(grid.potential(g[row], (4, 3)))
            torch.testing.assert_close(together[k, row], alone.travel(cost[k, 0]), rtol=1e-13, atol=0)
    controller = Controller(grid.potential(g[0], (4, 3)))
    torch.testing.assert_close(controller.travel(torch.full_like(cost[0, 0], 2.0)), 2 * controller.travel())
    assert_gradients(lambda c: controller.travel(c).square().sum(), cost[0, 0], 1e-8)
    priced = lambda g: Controller(grid.potential(g, (4, 3))).travel(cost[1, 0]).square().sum()  # noqa: E731
    assert_gradients(priced, g[0], 1e-6, step=1e-5)


@pytest.mark.parametrize(("bad", "error"), [
    (1.0, TypeError), (torch.ones(3), ValueError), (torch.full((210,), torch.nan), ValueError),
    (torch.ones(210, dtype=torch.int64), TypeError),
])  # fmt: skip
def test_costs_of_steps_that_make_no_sense(grid, bad, error):
    controller = Controller(grid.potential(random_conductances(grid), GOAL))
    assert len(grid.cells) == 210
    with pytest.raises(error, match="step_cost: expected"):
        controller.travel(bad)


def test_policy_iteration_keeps_away_from_what_costs(grid):
    """A strip of cells that cost ten times as much is crossed less."""
    strip = (grid.cells[:, 1] < 5).double()
    dear = 1 + 9 * strip
    policy = policy_iteration(grid, GOAL, index=lambda controller: controller.travel(dear), steps=30)
    assert policy.total.min() < 0.97 * policy.total[0] and (policy.least_gain > 0).all()
    inside = [
        Controller(grid.potential(g, GOAL)).travel(strip).sum()
        for g in (torch.ones(len(grid.edges), dtype=torch.float64), policy.conductance)
    ]
    assert inside[1] < inside[0]


def test_the_lower_bound_in_three_dimensions():
    """Along an axis, in the plane and in space, as the equation says; never less than the straight line."""
    free = torch.ones(9, 9, 9, dtype=torch.bool)
    far = shortest(free, (4, 4, 4))
    assert far[8, 4, 4] == 4 and np.allclose(far[5, 5, 4], 1 + 0.5**0.5)
    assert np.allclose(far[5, 5, 5], 1 + 0.5**0.5 + 1 / 3**0.5)
    straight = np.linalg.norm(np.argwhere(free.numpy()) - 4, axis=1)
    assert (far.ravel() >= straight - 1e-12).all()
    grid = ResistorGrid(free)
    travel = Controller(grid.potential(random_starts(grid, 1)[0], (4, 4, 4))).travel()
    assert (travel.numpy() >= far.ravel() - 1e-9).all()


def test_at_a_tie_the_gradient_lies_between_the_one_sided_differences(grid):
    g = torch.ones(len(grid.edges), dtype=torch.float64, requires_grad=True)

    def total(g):
        return Controller(grid.potential(g, GOAL)).travel().sum()

    (gradient,) = torch.autograd.grad(total(g), g)
    base = total(g.detach())
    for k in range(0, len(g), 40):
        e = torch.zeros(len(g), dtype=torch.float64)
        e[k] = 1e-6
        sides = sorted([float(total(g.detach() + e) - base) / 1e-6, float(base - total(g.detach() - e)) / 1e-6])
        assert sides[0] - 1e-3 <= gradient[k] <= sides[1] + 1e-3


def test_exact_descent_reaches_the_optimum_from_anywhere_and_is_safe_throughout(grid):
    starts = torch.cat([torch.ones(1, len(grid.edges), dtype=torch.float64), random_starts(grid, 2)])
    policy = policy_iteration(grid, GOAL, starts, steps=250)
    optimum = least_travel(coelho(), GOAL)
    above = policy.total / optimum - 1
    assert (above[0] > 0.06).all()
    assert (above.amin(0) < 1e-3).all() and (above >= -1e-9).all()
    assert (policy.least_gain > 0).all()
    assert (policy.conductance >= 1 - 1e-12).all()
    controller = Controller(grid.potential(policy.conductance, GOAL))
    assert controller.led_home().all()
    torch.testing.assert_close(controller.travel().sum(-1), policy.total.amin(0), rtol=1e-9, atol=0)


@pytest.mark.parametrize("gradient", ["surrogate", "local"])
def test_the_paper_s_gradients_improve_and_are_safe_too(grid, gradient):
    policy = policy_iteration(grid, GOAL, gradient=gradient, steps=40)
    assert policy.total.amin() < 0.97 * policy.total[0]
    assert (policy.least_gain > 0).all()


@pytest.mark.parametrize("rate", [0.3, 2.0, 5.0])
def test_steps_of_any_size_keep_conductances_positive_and_every_cell_led_home(grid, rate):
    policy = policy_iteration(grid, GOAL, steps=5, rate=rate)
    assert (policy.conductance > 0).all() and (policy.least_gain > 0).all()


def test_the_surrogate_at_equal_conductances(grid):
    """Cosines between the three gradients, as measured independently: 0.69 local and exact, 0.57 with the travel's."""
    g = torch.ones(len(grid.edges), dtype=torch.float64, requires_grad=True)
    potential = grid.potential(g, GOAL)
    travel = Controller(potential).travel()
    error = surrogate(potential, travel.detach())
    (exact,) = torch.autograd.grad(error, g, retain_graph=True)
    (to_value,) = torch.autograd.grad(error, potential.value, retain_graph=True)
    (true,) = torch.autograd.grad(travel.sum(), g)
    local = local_gradient(potential, g.detach(), to_value)
    assert float(torch.cosine_similarity(local, exact, 0)) == pytest.approx(0.69, abs=0.02)
    assert float(torch.cosine_similarity(exact, true, 0)) == pytest.approx(0.57, abs=0.05)


def test_locality_is_the_circuit_of_thevenin():
    """dphi/dg_k = (I - R A)^-1 R (e_k - g/S)(phi_0 - phi_k) of a node and its ports, by the circuit without it."""
    free = torch.ones(5, 5, dtype=torch.bool)
    grid = ResistorGrid(free)
    g = random_conductances(grid)
    potential = grid.potential(g, (4, 4))
    node = 12  # the middle
    ports = grid.neighbors[node]
    at = [int(((grid.edges == node).any(1) & (grid.edges == p).any(1)).nonzero()) for p in ports]
    fixed = potential.goal
    matrix = grid.matrix(g, fixed).dense().clone()
    matrix[node], matrix[:, node], matrix[node, node] = 0, 0, 1
    for port, edge in zip(ports.tolist(), at, strict=True):
        matrix[port, port] -= g[edge]
    R = torch.linalg.inv(matrix)[ports[:, None], ports]
    own, S = g[at], g[at].sum()
    A = own[:, None] * own / S - torch.diag(own)
    phi, eye = potential.value, torch.eye(4, dtype=torch.float64)
    change = torch.linalg.solve(eye - R @ A, R @ ((eye - own[:, None] / S) * (phi[node] - phi[ports])))  # (port, k)
    change_node = (own @ change + phi[ports] - phi[node]) / S
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)
    to_value = torch.zeros(25, dtype=torch.float64)
    to_value[torch.cat([ports, torch.tensor([node])])] = weights
    expected = weights[:4] @ change + weights[4] * change_node
    g_leaf = g.clone().requires_grad_()
    (exact,) = torch.autograd.grad((grid.potential(g_leaf, (4, 4)).value * to_value).sum(), g_leaf)
    torch.testing.assert_close(expected, exact[at], rtol=1e-8, atol=1e-12)
    only = torch.zeros(25, dtype=torch.float64)
    only[node] = 1.0  # within the neighborhood of both ends of its resistors: nothing is left out
    (exact,) = torch.autograd.grad((grid.potential(g_leaf, (4, 4)).value * only).sum(), g_leaf)
    torch.testing.assert_close(local_gradient(potential, g, only)[at], exact[at], rtol=1e-8, atol=1e-12)


def test_another_index_and_bad_arguments(grid):
    def squared(controller):
        return controller.travel().square()

    policy = policy_iteration(grid, GOAL, index=squared, steps=20)
    assert policy.total.amin() < policy.total[0]
    for options in ({"gradient": "other"}, {"steps": 0}, {"conductance": torch.ones(3)}):
        with pytest.raises(ValueError, match="expected"):
            policy_iteration(grid, GOAL, **options)


def test_the_optimum_is_that_of_an_open_room():
    total = least_travel(torch.ones(3, 3, dtype=torch.bool), (1, 1))
    assert total == pytest.approx(4 + 4 * (1 + np.sqrt(0.5)))
