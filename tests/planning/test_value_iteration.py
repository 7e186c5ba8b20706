"""Value iteration against Dijkstra's algorithm and linear solutions, its gradients, and what must be refused."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from benchmarks.planning.harmonic import serpentine
from gradslam_ng.planning import ValueIteration, shortest_path
from tests.planning.differences import assert_gradients
from tests.planning.test_shortest_path import random_cost

INF = torch.inf
KNIGHT = [(a, b) for a in (-2, -1, 1, 2) for b in (-2, -1, 1, 2) if abs(a) != abs(b)]


def maze(size, seed=0, walls=0.25):
    cost = random_cost(size, size, walls=walls, seed=seed)
    cost[size // 2, size // 2] = 1.5
    return cost, (size // 2, size // 2)


def mean(found):
    return torch.where(found.reachable, found.cost_to_go, 0.0).sum() / found.reachable.sum()


@pytest.mark.parametrize("size", [15, 27, 49, 256])
def test_hard_values_are_shortest_paths_and_every_start_arrives(size):
    cost, goal = maze(size)
    found, expected = ValueIteration(8)(cost, goal), shortest_path(cost, goal)
    assert torch.equal(found.cost_to_go, expected.cost_to_go) and bool(found.converged)
    for start in found.reachable.nonzero()[:: size * size // 20]:
        path = found.path(start)
        w, steps = cost[tuple(path.T)], path.diff(dim=0).double().norm(dim=-1)
        assert path[-1].tolist() == list(goal)
        total = float((0.5 * (w[1:] + w[:-1]) * steps).sum())
        assert total == pytest.approx(float(expected.cost_to_go[tuple(start)]), rel=1e-12)


def test_sweeps_keep_hard_values_and_soft_ones_near_them():
    cost, goal = maze(15)
    hard = ValueIteration(8)(cost, goal).cost_to_go
    swept = ValueIteration(8, iterations=3)(cost, goal)
    assert bool(swept.converged) and int(swept.iterations) == 3
    torch.testing.assert_close(swept.cost_to_go, hard, rtol=1e-12, atol=1e-12)
    gaps = []
    for temperature in (0.2, 0.05, 0.0125):
        soft = ValueIteration(8, temperature=temperature)(cost, goal).cost_to_go
        gap = torch.where(hard.isfinite(), hard - soft, 0.0)
        assert gap.min() >= -1e-12  # entropy only lowers
        gaps.append(float(gap.max()))
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0


@pytest.mark.parametrize("temperature", [0.05, 0.3])
def test_soft_values_solve_the_linear_equation_of_their_exponentials(temperature):
    cost, goal = maze(9)
    found = ValueIteration(8, temperature=temperature)(cost, goal)
    z = torch.where(found.reachable, torch.exp(-found.cost_to_go / temperature), 0.0)
    hard = ValueIteration(8)(cost, goal)
    q = hard.action_costs()  # of which only steps are used
    steps = q - torch.stack(
        [torch.roll(hard.cost_to_go, (-a, -b), (0, 1)) for a, b in ValueIteration(8).moves.tolist()]
    )
    total = torch.zeros_like(z)
    for (a, b), c in zip(ValueIteration(8).moves.tolist(), steps, strict=True):
        total += torch.where(c.isfinite(), torch.exp(-c / temperature) * torch.roll(z, (-a, -b), (0, 1)), 0.0)
    total[goal] = 1.0
    torch.testing.assert_close(total, z, rtol=1e-9, atol=0)


@pytest.mark.parametrize("actions", [4, 8, KNIGHT, [(0, 1), (1, 0), (0, -1)], [(1, 1), (-1, 0), (0, -1)]])
def test_any_set_of_actions(actions):
    cost, goal = maze(9, walls=0.1)
    found = ValueIteration(actions)(cost, goal)
    q = found.action_costs()
    best = torch.where(found.reachable, q.amin(0), INF)
    best[goal] = 0.0
    torch.testing.assert_close(best, found.cost_to_go, rtol=1e-12, atol=0)
    assert found.reachable.sum() > 20
    soft = ValueIteration(actions, temperature=0.1)(cost, goal)
    assert bool(soft.converged) and torch.equal(soft.reachable, found.reachable)


def test_in_space():
    cost = random_cost(4, 5, 4, walls=0.2)
    cost[2, 2, 2] = 1.0
    found = ValueIteration(26, temperature=0.05)(cost, (2, 2, 2))
    assert bool(found.converged)
    assert found.path(found.reachable.nonzero()[0])[-1].tolist() == [2, 2, 2]


@pytest.mark.parametrize(("temperature", "discount"), [(0.0, 1.0), (0.1, 1.0), (0.3, 1.0), (0.1, 0.9), (0.0, 0.9)])
def test_implicit_gradients_meet_central_differences(temperature, discount):
    cost, goal = maze(6)
    walls, cost = cost.isinf(), torch.where(cost.isinf(), 1.0, cost)
    weights = torch.linspace(-1, 2, 36, dtype=torch.float64).view(6, 6)

    def loss(cost, temperature=temperature, discount=discount):
        found = ValueIteration(8, temperature=temperature, discount=discount, cell=0.5)(
            torch.where(walls, INF, cost), goal
        )
        assert bool(found.converged)
        return (torch.where(found.reachable, found.cost_to_go, 0.0) * weights).sin().sum()

    assert_gradients(loss, cost, 1e-8)
    if temperature:
        at = torch.tensor(temperature, dtype=torch.float64)
        assert_gradients(lambda x: loss(cost, temperature=x), at[None].squeeze(), 1e-7)
    if discount < 1:
        at = torch.tensor(discount, dtype=torch.float64)
        assert_gradients(lambda x: loss(cost, discount=x), at, 1e-7)


def test_second_derivatives_of_soft_values():
    cost, goal = maze(5, walls=0.0)

    def slope(x):
        x = x if x.requires_grad else x.detach().requires_grad_()
        value = mean(ValueIteration(8, temperature=0.3)(x, goal)).square()
        return torch.autograd.grad(value, x, create_graph=True)[0].square().sum()

    assert_gradients(slope, cost, 1e-6)


def test_gradients_of_the_policy():
    cost, goal = maze(5, walls=0.0)
    found = ValueIteration(8, temperature=0.2)(cost, goal)
    p = found.policy()
    inner = torch.ones(5, 5, dtype=torch.bool)
    inner[goal] = False
    torch.testing.assert_close(p.sum(0), inner.double(), rtol=1e-10, atol=0)
    weights = torch.randn(8, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_gradients(lambda x: (ValueIteration(8, temperature=0.2)(x, goal).policy() * weights).sum(), cost, 1e-7)
    hard = ValueIteration(8)(cost, goal).policy()
    assert torch.equal(hard.sum(0), inner.double()) and set(hard.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_unrolled_and_truncated_gradients_become_the_implicit_one(temperature):
    cost, goal = maze(7)
    gradients = {}
    for backward, count in (("implicit", None), ("unroll", 60), ("truncated", 60), ("truncated", 2)):
        x = cost.clone().requires_grad_()
        iterations = {"iterations": count} if backward == "unroll" else {"backward_iterations": count or 10}
        found = ValueIteration(8, temperature=temperature, backward=backward, **iterations)(x, goal)
        assert bool(found.converged)
        gradients[backward, count] = torch.autograd.grad(mean(found), x)[0]
    expected = gradients["implicit", None]
    for way in (("unroll", 60), ("truncated", 60)):
        torch.testing.assert_close(gradients[way], expected, rtol=1e-8, atol=1e-10)
    assert (gradients["truncated", 2] - expected).abs().max() > 0.05 * expected.abs().max()


def test_unrolling_finds_ways_of_so_many_steps():
    cost = torch.ones(1, 12, dtype=torch.float64, requires_grad=True)
    found = ValueIteration(4, backward="unroll", iterations=5)(cost, (0, 0))
    assert found.reachable[0].tolist() == [True] * 6 + [False] * 6 and not bool(found.converged)
    (gradient,) = torch.autograd.grad(mean(found), cost)
    assert gradient.isfinite().all() and (gradient[0, 6:] == 0).all()


def test_what_has_not_converged_has_no_implicit_gradient_and_says_so():
    cost = torch.where(serpentine(49), 1.0, INF).double()
    cost = torch.stack([cost, torch.ones_like(cost)]).requires_grad_()
    with pytest.warns(UserWarning, match="2 of 2 have not converged"):
        found = ValueIteration(8, temperature=0.1, iterations=2)(cost, (1, 1))
    assert not found.converged.any()
    assert not found.cost_to_go.requires_grad or (torch.autograd.grad(mean(found), cost)[0] == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = ValueIteration(8, temperature=0.1)(cost, (1, 1))
        exact = torch.autograd.grad(mean(whole), cost)[0]
    assert whole.converged.all() and exact.abs().max() > 0
    with pytest.warns(UserWarning, match="1 of 2"):
        mixed = ValueIteration(8, temperature=0.01, iterations=150)(
            torch.stack([10 * cost[0].detach(), cost[1].detach()]).requires_grad_(), (1, 1)
        )
    assert mixed.converged.sum() == 1


@pytest.mark.parametrize("iterations", [1, 10, 30, 50, 150])
def test_after_any_number_of_sweeps_the_gradient_is_right_or_none(iterations):
    """Of values that have not converged it could be off by any factor."""
    cost = torch.stack([torch.where(serpentine(17), 1.0, INF).double(), maze(17)[0]]).requires_grad_()
    goals = torch.tensor([[1, 1], [8, 8]])
    (exact,) = torch.autograd.grad(mean(ValueIteration(8, temperature=0.1)(cost, goals)), cost)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says what has not converged
        found = ValueIteration(8, temperature=0.1, iterations=iterations)(cost, goals)
    assert found.converged.tolist() == [iterations >= 50, iterations >= 30]
    gradient = torch.zeros_like(cost)
    if found.cost_to_go.requires_grad:
        (gradient,) = torch.autograd.grad(mean(found), cost)
    for k, converged in enumerate(found.converged.tolist()):
        torch.testing.assert_close(gradient[k], exact[k] if converged else 0 * exact[k], rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [15, 129])
def test_a_winding_corridor_needs_more_than_fifty_sweeps_and_gets_them(size):
    free = serpentine(size)
    cost = torch.where(free, 1.0, INF).double().requires_grad_()
    for temperature in (0.0, 0.1):
        found = ValueIteration(8, temperature=temperature)(cost, (1, 1))
        assert bool(found.converged) and torch.equal(found.reachable, free)
        assert int(found.iterations) < 20
        (gradient,) = torch.autograd.grad(mean(found), cost)
        assert gradient.isfinite().all()
        far = int(torch.where(free, found.cost_to_go, 0.0).argmax())
        assert len(found.path((far // size, far % size))) > size * size // 7
    few = ValueIteration(8, temperature=0.1, iterations=50)(cost.detach(), (1, 1))
    assert bool(few.converged) == (size == 15) and int(few.iterations) == 50


def test_discounting_is_no_remedy_for_far_goals():
    free = serpentine(33)
    cost = torch.where(free, 1.0, INF).double().requires_grad_()
    exact, discounted = (ValueIteration(4, discount=g)(cost, (1, 1)) for g in (1.0, 0.9))
    far = int(torch.where(free, exact.cost_to_go, 0.0).argmax())
    at = far // 33, far % 33
    assert discounted.cost_to_go[at] < 1 / (1 - 0.9) + 1e-6 < exact.cost_to_go[at]
    beside = tuple(exact.path(at)[-2].tolist())  # the last cell of the way
    near = torch.autograd.grad(discounted.cost_to_go[at], cost)[0][beside]
    assert near < 1e-3 < torch.autograd.grad(exact.cost_to_go[at], cost)[0][beside]


def test_soft_values_that_do_not_exist_are_refused():
    cost = torch.ones(20, 20, dtype=torch.float64)
    assert bool(ValueIteration(4, temperature=0.7)(cost, (3, 3)).converged)  # 4 exp(-1 / 0.7) = 0.96
    with pytest.raises(ValueError, match=r"spectral radius.*got 1\.[0-9]+"):
        ValueIteration(4, temperature=0.8)(cost, (3, 3))
    walk = math.log(2 * math.cos(math.pi / 21) * 2)  # the largest eigenvalue of free walks on 20 x 20 cells
    assert bool(ValueIteration(4, temperature=0.985 / walk)(cost, (0, 0)).converged)
    assert bool(ValueIteration(4, temperature=0.8, discount=0.9)(cost, (3, 3)).converged)
    with pytest.raises(ValueError, match="spectral radius"):
        ValueIteration(8, temperature=0.1)(0 * cost, (3, 3))


def test_a_batch_is_each_alone_bit_for_bit():
    easy, hard = torch.ones(17, 17, dtype=torch.float64), torch.where(serpentine(17), 1.3, INF).double()
    for temperature in (0.0, 0.1):
        solver = ValueIteration(8, temperature=temperature)
        costs = torch.stack([easy, hard, maze(17)[0]]).requires_grad_()
        goals = torch.tensor([[3, 3], [1, 1], [8, 8]])
        found = solver(costs, goals)
        together = torch.autograd.grad(mean(found) * found.reachable.sum(), costs)[0]
        for k in range(3):
            one = costs[k].detach().clone().requires_grad_()
            alone = solver(one, goals[k])
            assert torch.equal(alone.cost_to_go, found.cost_to_go[k])
            gradient = torch.autograd.grad(mean(alone) * alone.reachable.sum(), one)[0]
            torch.testing.assert_close(gradient, together[k], rtol=1e-13, atol=1e-13)
            assert torch.equal(found.path(goals[k] + 1, index=k), alone.path(goals[k] + 1))


def test_what_is_kept_for_the_backward_pass_is_small_and_the_same_for_all_sweeps():
    cost, goal = maze(64)
    kept = []
    for iterations in (50, 500):
        sizes = {}

        def pack(x, sizes=sizes):
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            found = ValueIteration(8, temperature=0.05, iterations=iterations)(cost.clone().requires_grad_(), goal)
        assert bool(found.converged)
        kept.append(sum(sizes.values()))
    assert kept[0] == kept[1] < 1e6


def test_temperature_as_a_parameter_learns():
    solver = ValueIteration(8, temperature=torch.nn.Parameter(torch.tensor(0.2)))
    cost, goal = maze(9)
    mean(solver(cost.float(), goal)).backward()
    assert [name for name, _ in solver.named_parameters()] == ["temperature"]
    assert solver.temperature.grad < 0  # entropy lowers values
    assert solver(cost.float(), goal).cost_to_go.dtype == torch.float32


def test_at_a_tie_the_hard_gradient_is_that_of_one_side_and_the_soft_one_between():
    cost = torch.ones(3, 3, dtype=torch.float64)
    cost[1, 1] = INF
    for temperature in (0.0, 0.1):
        x = cost.clone().requires_grad_()
        found = ValueIteration(4, temperature=temperature)(x, (1, 0))
        (gradient,) = torch.autograd.grad(found.cost_to_go[1, 2], x)
        assert 0 <= gradient[0, 1] <= 1 and gradient.isfinite().all()
    assert float(gradient[0, 1]) == pytest.approx(float(gradient[2, 1]))


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_no_way_one_cell_and_cells_that_cost_little(temperature):
    cost = torch.ones(5, 5, dtype=torch.float64)
    cost[:, 2] = INF
    cost.requires_grad_()
    solver = ValueIteration(8, temperature=temperature)
    found = solver(cost, (2, 0))
    assert (found.cost_to_go[:, 2:] == INF).all() and bool(found.converged)
    (gradient,) = torch.autograd.grad(found.cost_to_go.sum(), cost)
    assert gradient.isfinite().all() and (gradient[:, 2:] == 0).all()
    assert not found.policy().isnan().any() and not found.action_costs().isnan().any()
    with pytest.raises(ValueError, match="no"):
        found.path((2, 4))
    assert found.path((2, 0)).tolist() == [[2, 0]]
    one = torch.full((1, 1), 3.0, requires_grad=True)
    alone = solver(one, (0, 0))
    assert alone.cost_to_go.item() == 0 and torch.autograd.grad(alone.cost_to_go.sum(), one)[0].item() == 0
    if not temperature:
        nothing = torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.grad(solver(nothing, (0, 0)).cost_to_go.sum(), nothing)[0].isfinite().all()


def test_transforms_are_right_or_refused():
    cost, goal = maze(5, walls=0.0)
    change = torch.rand(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for temperature in (0.0, 0.2):
        solver = ValueIteration(8, temperature=temperature)
        jacobian = torch.func.jacrev(lambda c, solver=solver: solver(c, goal).cost_to_go)(cost)
        step = 1e-6 * change
        slope = (solver(cost + step, goal).cost_to_go - solver(cost - step, goal).cost_to_go) / 2e-6
        torch.testing.assert_close((jacobian * change).sum((-2, -1)), slope, rtol=1e-6, atol=1e-7)
        unrolled = ValueIteration(8, temperature=temperature, backward="unroll", iterations=60)
        for each in (solver, unrolled) if temperature == 0 else (unrolled,):
            _, tangent = torch.func.jvp(lambda c, each=each: each(c, goal).cost_to_go, (cost,), (change,))
            torch.testing.assert_close(tangent, slope, rtol=1e-6, atol=1e-7)
    with pytest.raises(RuntimeError, match="forward-mode"):
        torch.func.jvp(lambda c: solver(c, goal).cost_to_go, (cost,), (change,))
    with pytest.raises(RuntimeError, match="leading axes"):
        torch.vmap(lambda c: solver(c, goal).cost_to_go)(cost[None])


def test_bad_arguments_are_named():
    cost = torch.ones(4, 5)
    for error, said, call in (
        (ValueError, "connectivity", lambda: ValueIteration(5)),
        (ValueError, "actions", lambda: ValueIteration([(0.5, 1.0)])),
        (ValueError, "actions", lambda: ValueIteration([(0, 0), (1, 0)])),
        (ValueError, "actions", lambda: ValueIteration([(1, 0), (1, 0)])),
        (ValueError, "actions", lambda: ValueIteration(torch.zeros(0, 2, dtype=torch.int64))),
        (ValueError, "backward", lambda: ValueIteration(8, backward="exact")),
        (ValueError, "iterations", lambda: ValueIteration(8, backward="unroll")),
        (ValueError, "iterations", lambda: ValueIteration(8, iterations=0)),
        (ValueError, "actions.*axes", lambda: ValueIteration(26)(cost, (0, 0))),
        (ValueError, "temperature", lambda: ValueIteration(8, temperature=-1.0)(cost, (0, 0))),
        (ValueError, "temperature", lambda: ValueIteration(8, temperature=float("nan"))(cost, (0, 0))),
        (ValueError, "discount", lambda: ValueIteration(8, discount=1.1)(cost, (0, 0))),
        (ValueError, "discount", lambda: ValueIteration(8, discount=0.0)(cost, (0, 0))),
        (ValueError, "cost", lambda: ValueIteration(8)(cost * torch.nan, (0, 0))),
        (ValueError, "cost", lambda: ValueIteration(8)(-cost, (0, 0))),
        (ValueError, "goal.*wall", lambda: ValueIteration(8)(torch.full((3, 3), INF), (1, 1))),
        (ValueError, "goal.*grid", lambda: ValueIteration(8)(cost, (9, 1))),
    ):
        with pytest.raises(error, match=said):
            call()
