"""Shortest paths against closed forms and an independent search; gradients against central differences; bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from benchmarks.planning.harmonic import serpentine
from gradslam_ng.planning import shortest_path
from tests.planning.differences import assert_gradients_on_maps

INF = torch.inf


def random_cost(*shape, walls=0.25, seed=0):
    """float64, a share of it walls."""
    rng = np.random.default_rng(seed)
    cost = torch.from_numpy(1 + rng.random(shape))
    return torch.where(torch.from_numpy(rng.random(shape) < walls), INF, cost)


def relaxed(cost, goal, connectivity):
    """The cost to go by repeated relaxation, cell by cell."""
    d = cost.ndim
    most = {4: 1, 8: 2, 6: 1, 18: 2, 26: 3}[connectivity]
    moves = [m for m in itertools.product((-1, 0, 1), repeat=d) if 0 < sum(map(abs, m)) <= most]

    def has_way(a, move):
        """Single steps through free cells of the box."""
        if not all(0 <= k < size for k, size in zip(a, cost.shape, strict=True)) or cost[a] == INF:
            return False
        steps = [axis for axis in range(d) if move[axis]]
        return not steps or any(
            has_way(
                tuple(k + (move[axis] if i == axis else 0) for i, k in enumerate(a)),
                tuple(0 if i == axis else k for i, k in enumerate(move)),
            )
            for axis in steps
        )

    found = {cell: INF for cell in itertools.product(*map(range, cost.shape))}
    found[goal] = 0.0
    edges = []
    for a in found:
        for move in moves:
            if has_way(a, move):
                b = tuple(k + m for k, m in zip(a, move, strict=True))
                edges.append((a, b, 0.5 * float(cost[a] + cost[b]) * sum(m * m for m in move) ** 0.5))
    before = None
    while before != found:
        before = dict(found)
        for a, b, c in edges:
            found[a] = min(found[a], c + found[b])
    return torch.tensor([found[cell] for cell in sorted(found)], dtype=torch.float64).view(cost.shape)


@pytest.mark.parametrize(
    ("shape", "connectivity"), [((9, 7), 4), ((9, 7), 8), ((4, 5, 4), 6), ((4, 5, 4), 18), ((4, 5, 4), 26)]
)
def test_it_meets_an_independent_search(shape, connectivity):
    cost = random_cost(*shape, walls=0.35, seed=2)
    goal = tuple(torch.tensor(shape).sub(1).div(2, rounding_mode="floor").tolist())
    cost[goal] = 1.0
    found = shortest_path(cost, goal, connectivity=connectivity)
    torch.testing.assert_close(found.cost_to_go, relaxed(cost, goal, connectivity), rtol=1e-12, atol=0)
    assert (found.reachable == found.cost_to_go.isfinite()).all() and not found.reachable.all()


def test_in_free_space_it_is_the_octile_distance():
    found = shortest_path(torch.full((30, 40), 2.0, dtype=torch.float64), (3, 5), cell=0.5)
    x, y = torch.meshgrid((torch.arange(30.0) - 3).abs(), (torch.arange(40.0) - 5).abs(), indexing="ij")
    octile = torch.maximum(x, y) + (2**0.5 - 1) * torch.minimum(x, y)
    torch.testing.assert_close(found.cost_to_go, 2 * 0.5 * octile.double(), rtol=1e-6, atol=0)


def test_paths_follow_the_tree_and_cost_what_it_says():
    cost = random_cost(20, 30)
    cost[2, 2] = 1.0
    found = shortest_path(cost, (2, 2))
    for start in found.reachable.nonzero()[::37]:
        path = found.path(start)
        assert path[0].tolist() == start.tolist() and path[-1].tolist() == [2, 2]
        steps = path.diff(dim=0).double().norm(dim=-1)
        assert steps.max() < 1.5 or len(steps) == 0
        w = cost[tuple(path.T)]
        total = (0.5 * (w[1:] + w[:-1]) * steps).sum()
        torch.testing.assert_close(total, found.cost_to_go[tuple(start)], rtol=1e-12, atol=1e-12)


def test_no_path_goes_diagonally_between_two_walls():
    cost = torch.ones(2, 2)
    cost[0, 1] = cost[1, 0] = INF
    assert shortest_path(cost, (0, 0)).cost_to_go[1, 1] == INF
    cost[1, 0] = 1.0  # one way beside it is enough
    assert shortest_path(cost, (0, 0)).cost_to_go[1, 1] == pytest.approx(2**0.5)
    cube = torch.full((2, 2, 2), INF)
    cube[0, 0, 0] = cube[1, 1, 1] = cube[1, 0, 0] = 1.0
    assert shortest_path(cube, (0, 0, 0)).cost_to_go[1, 1, 1] == INF
    cube[1, 1, 0] = 1.0
    assert shortest_path(cube, (0, 0, 0)).cost_to_go[1, 1, 1] == pytest.approx(3**0.5)


def test_the_same_cells_are_reachable_whatever_the_connectivity():
    cost = random_cost(40, 40, walls=0.35, seed=1)
    cost[20, 20] = 1.0
    few, many = (shortest_path(cost, (20, 20), connectivity=c).reachable for c in (4, 8))
    assert (few == many).all() and 10 < few.sum() < 1600


@pytest.mark.parametrize("size", [15, 27, 49, 129])
def test_every_start_of_a_winding_corridor_arrives(size):
    free = serpentine(size)
    found = shortest_path(torch.where(free, 1.0, INF).double(), (1, 1))
    assert (found.reachable == free).all()
    far = found.cost_to_go.where(free, torch.tensor(0.0)).argmax()
    assert len(found.path((int(far) // size, int(far) % size))) > size * size // 7


@pytest.mark.parametrize(("shape", "goal"), [((6, 7), (2, 3)), ((3, 4, 3), (1, 1, 1))])
def test_gradients_meet_central_differences(shape, goal):
    def solve(cost, goal):
        return shortest_path(cost, goal, cell=0.3).cost_to_go

    assert_gradients_on_maps(solve, random_cost, goal, shape, 0.2, 1e-9)


def test_the_gradient_of_one_start_is_the_length_of_its_path_in_each_cell():
    cost = random_cost(12, 12).requires_grad_()
    goal = tuple(cost.isfinite().nonzero()[60].tolist())
    found = shortest_path(cost, goal)
    start = found.reachable.nonzero()[-1]
    (gradient,) = torch.autograd.grad(found.cost_to_go[tuple(start)], cost)
    path = found.path(start)
    lengths = path.diff(dim=0).double().norm(dim=-1)
    expected = torch.zeros_like(gradient)
    expected[tuple(path.T)] = 0.5 * (torch.cat([lengths, lengths.new_zeros(1)]) + torch.cat([lengths[:1] * 0, lengths]))
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)
    finite = torch.where(cost.isfinite(), cost, 0.0)
    torch.testing.assert_close((gradient * finite).sum(), found.cost_to_go[tuple(start)], rtol=1e-12, atol=0)  # Euler


def test_at_a_tie_the_gradient_is_that_of_one_side():
    cost = torch.ones(3, 3, dtype=torch.float64)
    cost[1, 1] = INF  # two ways around it, as long
    x = cost.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(shortest_path(x, (1, 0), connectivity=4).cost_to_go[1, 2], x)
    assert gradient.isfinite().all()
    step = torch.zeros_like(cost)
    step[0, 1] = 1e-6
    up, down = (
        (shortest_path(cost + s * step, (1, 0), connectivity=4).cost_to_go[1, 2] - 4) / (s * 1e-6) for s in (1, -1)
    )
    assert min(up, down) - 1e-6 <= gradient[0, 1] <= max(up, down) + 1e-6


def test_a_batch_is_each_alone_bit_for_bit():
    costs = torch.stack([random_cost(15, 15, seed=k) for k in range(4)] + [torch.ones(15, 15).double()])
    goals = torch.tensor([[1, 1], [3, 4], [7, 7], [14, 0], [0, 14]])
    costs[torch.arange(5), goals[:, 0], goals[:, 1]] = 1.0
    costs.requires_grad_()
    found = shortest_path(costs, goals)
    together = torch.autograd.grad(found.cost_to_go[found.reachable].sum(), costs)[0]
    for k in range(5):
        one = costs[k].detach().clone().requires_grad_()
        alone = shortest_path(one, goals[k])
        assert torch.equal(alone.cost_to_go, found.cost_to_go[k]) and torch.equal(alone.successor, found.successor[k])
        assert torch.equal(torch.autograd.grad(alone.cost_to_go[alone.reachable].sum(), one)[0], together[k])
        assert torch.equal(found[k].path(goals[k]), goals[k][None])
    nested = shortest_path(costs.view(5, 1, 15, 15), goals[:, None])
    assert torch.equal(nested.cost_to_go[:, 0], found.cost_to_go)


def test_precision_and_what_is_handed_in_stay():
    cost = random_cost(10, 10).float()
    cost[0, 0] = 1.0
    before = cost.clone()
    found = shortest_path(cost, (0, 0))
    assert found.cost_to_go.dtype == torch.float32 and torch.equal(cost, before)
    double = shortest_path(cost.double(), (0, 0)).cost_to_go
    torch.testing.assert_close(found.cost_to_go, double.float(), rtol=1e-6, atol=0)


def test_forward_mode_and_derivatives_of_batches_of_gradients():
    cost = random_cost(5, 5, walls=0.0)
    jacobian = torch.func.jacrev(lambda c: shortest_path(c, (2, 2)).cost_to_go)(cost)
    change = torch.rand(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, tangent = torch.func.jvp(lambda c: shortest_path(c, (2, 2)).cost_to_go, (cost,), (change,))
    torch.testing.assert_close(tangent, (jacobian * change).sum((-2, -1)), rtol=1e-12, atol=1e-12)


def test_cells_without_a_way_say_so_and_give_no_gradient():
    cost = torch.ones(5, 5, dtype=torch.float64)
    cost[:, 2] = INF
    cost.requires_grad_()
    found = shortest_path(cost, (2, 0))
    assert (found.cost_to_go[:, 3:] == INF).all() and (found.successor[:, 3:] == -1).all()
    (gradient,) = torch.autograd.grad(found.cost_to_go.sum(), cost)
    assert gradient.isfinite().all() and (gradient[:, 2:] == 0).all() and gradient[:, :2].sum() > 0
    for start, said in (((2, 4), "no"), ((2, 2), "no"), ((5, 0), "grid of"), ((2, -1), "grid of"), ((1,), "one grid")):
        with pytest.raises(ValueError, match=said):
            found.path(start)


def test_one_cell_and_start_at_the_goal():
    cost = torch.full((1, 1), 3.0, requires_grad=True)
    found = shortest_path(cost, (0, 0))
    assert found.cost_to_go.item() == 0 and found.path((0, 0)).tolist() == [[0, 0]]
    assert torch.autograd.grad(found.cost_to_go.sum(), cost)[0].item() == 0


def test_cells_that_cost_nothing():
    cost = torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)
    found = shortest_path(cost, (0, 0))
    assert (found.cost_to_go == 0).all() and found.reachable.all()
    for start in found.reachable.nonzero():
        assert len(found.path(start)) <= 36
    assert torch.autograd.grad(found.cost_to_go.sum(), cost)[0].isfinite().all()


def test_bad_arguments_are_named():
    cost = torch.ones(4, 5)
    wall = torch.where(torch.eye(4, 5) > 0, INF, 1.0)
    for error, said, call in (
        (TypeError, "cost", lambda: shortest_path([[1.0]], (0, 0))),
        (TypeError, "cost", lambda: shortest_path(torch.ones(3, 3).long(), (0, 0))),
        (ValueError, "cost", lambda: shortest_path(torch.ones(3), (0, 0))),
        (ValueError, "cost", lambda: shortest_path(torch.ones(0, 3), (0, 0))),
        (ValueError, "cost", lambda: shortest_path(-cost, (0, 0))),
        (ValueError, r"cost.*index \(0, 0\)", lambda: shortest_path(cost * torch.nan, (0, 0))),
        (ValueError, "goal.*wall", lambda: shortest_path(wall, (1, 1))),
        (ValueError, "goal.*wall", lambda: shortest_path(torch.full((3, 3), INF), (1, 1))),
        (ValueError, "goal.*grid", lambda: shortest_path(cost, (4, 0))),
        (ValueError, "goal.*grid", lambda: shortest_path(cost, (-1, 0))),
        (ValueError, "goal.*whole", lambda: shortest_path(cost, (1.0, 0.5))),
        (ValueError, "goal.*whole", lambda: shortest_path(cost, (1,))),
        (ValueError, "goal", lambda: shortest_path(cost.expand(3, 4, 5), torch.zeros(2, 2).long())),
        (ValueError, "connectivity", lambda: shortest_path(cost, (0, 0), connectivity=5)),
        (ValueError, "connectivity", lambda: shortest_path(cost, (0, 0), connectivity=26)),
        (ValueError, "cell", lambda: shortest_path(cost, (0, 0), cell=0.0)),
        (ValueError, "cell", lambda: shortest_path(cost, (0, 0), cell=float("nan"))),
    ):
        with pytest.raises(error, match=said):
            call()
