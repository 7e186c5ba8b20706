"""Travel times against closed forms of the eikonal equation, curves that follow them, gradients, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.planning.harmonic import serpentine
from gradslam_ng.planning import DistanceField, shortest_path, travel_time
from tests.planning.differences import assert_gradients_on_maps
from tests.planning.test_shortest_path import random_cost

INF = torch.inf


def grid(*sizes):
    return torch.meshgrid(*[torch.arange(size, dtype=torch.float64) for size in sizes], indexing="ij")


@pytest.mark.parametrize(("shape", "goal"), [((61, 47), (20, 31)), ((15, 18, 21), (3, 9, 20))])
def test_in_constant_cost_it_is_the_distance(shape, goal):
    r = sum((x - g).square() for x, g in zip(grid(*shape), goal, strict=True)).sqrt()
    found = travel_time(torch.full(shape, 3.0, dtype=torch.float64), goal, cell=0.2)
    torch.testing.assert_close(found.time, 3 * 0.2 * r, rtol=1e-10, atol=1e-10)


def test_where_speed_grows_evenly_rays_are_circles():
    errors = []
    for size in (41, 81):
        cell = 2.0 / (size - 1)
        x, y = (k * cell for k in grid(size, size))
        speed, goal = 0.5 + x, size // 4
        r2 = (x - goal * cell).square() + (y - goal * cell).square()
        expected = torch.acosh(1 + r2 / (2 * speed * speed[goal, goal]))
        errors.append(float((travel_time(1 / speed, (goal, goal), cell=cell).time - expected).abs().max()))
    assert errors[1] < 0.02 and errors[1] < 0.7 * errors[0]


def test_around_the_end_of_a_wall():
    size, c = 101, 50
    cost = torch.ones(size, size, dtype=torch.float64)
    cost[c - 20, : c + 10] = INF
    found = travel_time(cost, (c, c))
    x, y = grid(size, size)
    end = c - 20, c + 10  # the first free cell beside the wall
    expected = ((x - end[0]) ** 2 + (y - end[1]) ** 2).sqrt() + np.hypot(end[0] - c, end[1] - c)
    hidden = (x < c - 20) & (y < c - 10)
    error = (found.time - expected)[hidden]
    assert error.abs().max() < 1.5, f"{error.min()} to {error.max()} cells"
    far = shortest_path(cost, (c, c)).cost_to_go - expected
    assert far[hidden].max() > 2 * error.abs().max()


def test_a_room_that_is_turned_costs_the_same():
    """Where paths along the edges of the grid are up to 8% too long."""

    def of(angle, method):
        middle = 90
        x, y = (k - middle for k in grid(181, 181))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        cost = torch.ones(181, 181, dtype=torch.float64)
        for center in ((30.0, 0.0), (55.0, 14.0)):
            p = turn @ np.array(center)
            cost += 20 * torch.sigmoid((15 - ((x - p[0]) ** 2 + (y - p[1]) ** 2).sqrt()) / 1.5)
        at = torch.from_numpy(turn @ np.array((80.0, 0.0))) + middle
        field = DistanceField(method(cost, (middle, middle)), origin=[0.0, 0.0], cell=1.0)
        return float(field(at))

    angles = np.deg2rad([0.0, 10.0, 22.5, 45.0, 70.0])
    times = np.array([of(angle, lambda c, g: travel_time(c, g).time) for angle in angles])
    assert np.ptp(times) < 0.01 * times.min()
    paths = np.array([of(angle, lambda c, g: shortest_path(c, g).cost_to_go) for angle in angles])
    assert np.ptp(paths) > 2 * np.ptp(times)


@pytest.mark.parametrize(("shape", "goal"), [((7, 8), (2, 3)), ((4, 5, 4), (1, 2, 1))])
def test_gradients_meet_central_differences(shape, goal):
    def solve(cost, goal):
        return travel_time(cost, goal, cell=0.3).time

    assert_gradients_on_maps(solve, random_cost, goal, shape, 0.15, 1e-6)


def test_cost_times_gradient_is_the_time():
    cost = random_cost(40, 40, walls=0.2)
    cost[20, 20] = 5.0
    cost.requires_grad_()
    found = travel_time(cost, (20, 20))
    at = found.reachable.nonzero()[3]
    (gradient,) = torch.autograd.grad(found.time[tuple(at)], cost)
    total = (gradient * torch.where(cost.isfinite(), cost, 0.0)).sum()
    torch.testing.assert_close(total, found.time[tuple(at)], rtol=1e-11, atol=0)
    doubled = travel_time(2 * cost.detach(), (20, 20)).time
    torch.testing.assert_close(doubled, 2 * found.time.detach(), rtol=1e-11, atol=0)


def test_a_batch_is_each_alone_bit_for_bit_and_precision_stays():
    costs = torch.stack([random_cost(15, 15, seed=k) for k in range(3)] + [torch.ones(15, 15).double()])
    goals = torch.tensor([[1, 1], [3, 4], [7, 7], [14, 0]])
    costs[torch.arange(4), goals[:, 0], goals[:, 1]] = 1.0
    before = costs.clone()
    costs.requires_grad_()
    found = travel_time(costs, goals)
    together = torch.autograd.grad(found.time[found.reachable].sum(), costs)[0]
    for k in range(4):
        one = costs[k].detach().clone().requires_grad_()
        alone = travel_time(one, goals[k])
        assert torch.equal(alone.time, found.time[k])
        assert torch.equal(torch.autograd.grad(alone.time[alone.reachable].sum(), one)[0], together[k])
        assert torch.equal(found[k].descend(goals[k]), goals[k][None].double())
    assert torch.equal(costs.detach(), before)
    single = travel_time(costs.detach().float(), goals).time
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), found.time.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [15, 49])
def test_curves_lead_through_a_winding_corridor(size):
    free = serpentine(size)
    found = travel_time(torch.where(free, 1.0, INF).double(), (1, 1))
    assert (found.reachable == free).all()
    far = int(torch.where(free, found.time, 0.0).argmax())
    check_curve(found, (far // size, far % size), free, 0.06)


def test_curves_descend_among_obstacles_and_are_as_long_as_the_time():
    for seed in range(4):
        cost = torch.where(random_cost(40, 40, walls=0.25, seed=seed).isfinite(), 1.0, INF).double()
        cost[20, 20] = 1.0
        found = travel_time(cost, (20, 20))
        for start in found.reachable.nonzero()[::61]:
            check_curve(found, start, cost.isfinite(), 0.12)
    space = travel_time(torch.ones(9, 10, 11).double(), (7, 1, 5))
    check_curve(space, (0, 9, 10), torch.ones(9, 10, 11, dtype=torch.bool), 0.02)


def check_curve(found, start, free, longer):
    curve = found.descend(start)
    cells = (curve + 0.5).floor().long()
    assert cells[0].tolist() == [int(k) for k in start] and found.time[tuple(cells[-1])] == 0
    assert torch.equal(curve[-1], cells[-1].double())
    assert free[tuple(cells.T)].all()
    steps = curve.diff(dim=0).norm(dim=-1)
    assert not (steps > 1 + 1e-9).any()
    diagonal = (cells.diff(dim=0) != 0).sum(-1) > 1
    for a, b in zip(cells[:-1][diagonal], cells[1:][diagonal], strict=True):
        assert free[tuple(slice(min(i, j), max(i, j) + 1) for i, j in zip(a.tolist(), b.tolist(), strict=True))].all()
    assert float(steps.sum()) <= (1 + longer) * float(found.time[tuple(cells[0])]) + 1


def test_cells_without_a_way_say_so_and_give_no_gradient():
    cost = torch.ones(5, 5, dtype=torch.float64)
    cost[:, 2] = INF
    cost.requires_grad_()
    found = travel_time(cost, (2, 0))
    assert (found.time[:, 3:] == INF).all() and not found.reachable[:, 2:].any()
    (gradient,) = torch.autograd.grad(found.time.sum(), cost)
    assert gradient.isfinite().all() and (gradient[:, 2:] == 0).all() and gradient[:, :2].sum() > 0
    with pytest.raises(ValueError, match="no"):
        found.descend((2, 4))
    with pytest.raises(ValueError, match="grid of"):
        found.descend((5, 0))


def test_one_cell():
    cost = torch.full((1, 1), 3.0, requires_grad=True)
    found = travel_time(cost, (0, 0))
    assert found.time.item() == 0 and found.descend((0, 0)).tolist() == [[0.0, 0.0]]
    assert torch.autograd.grad(found.time.sum(), cost)[0].item() == 0


def test_costs_far_apart_stay_finite():
    cheap = torch.rand(12, 12, generator=torch.Generator().manual_seed(0)) > 0.5
    for least in (1e-4, 1e-6, 1e-30):  # of the largest
        cost = torch.where(cheap, least, 1.0).double().requires_grad_()
        found = travel_time(cost, (4, 4))
        (gradient,) = torch.autograd.grad(found.time.sum(), cost)
        assert found.reachable.all() and gradient.isfinite().all()
        torch.testing.assert_close((gradient * cost).sum(), found.time.sum(), rtol=1e-6, atol=0)
        for start in found.reachable.nonzero()[::7]:
            assert found.descend(start)[-1].tolist() == [4.0, 4.0]


def test_second_derivatives_and_forward_mode_are_refused():
    cost = random_cost(5, 5, walls=0.0).requires_grad_()
    (gradient,) = torch.autograd.grad(travel_time(cost, (2, 2)).time.sum(), cost, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        gradient.square().sum().backward()
    functional = torch.func.grad(lambda c: travel_time(c, (2, 2)).time.sum())(cost.detach())
    torch.testing.assert_close(functional, gradient.detach(), rtol=1e-12, atol=0)
    with pytest.raises(RuntimeError, match="forward-mode"):
        torch.func.jvp(lambda c: travel_time(c, (2, 2)).time, (cost.detach(),), (cost.detach(),))


def test_bad_arguments_are_named():
    cost = torch.ones(4, 5)
    wall = torch.where(torch.eye(4, 5) > 0, INF, 1.0)
    for error, said, call in (
        (TypeError, "cost", lambda: travel_time([[1.0]], (0, 0))),
        (ValueError, "cost.*positive", lambda: travel_time(0 * cost, (0, 0))),
        (ValueError, "cost", lambda: travel_time(cost * torch.nan, (0, 0))),
        (ValueError, "goal.*wall", lambda: travel_time(wall, (1, 1))),
        (ValueError, "goal.*wall", lambda: travel_time(torch.full((3, 3), INF), (1, 1))),
        (ValueError, "goal.*grid", lambda: travel_time(cost, (4, 0))),
        (ValueError, "cell", lambda: travel_time(cost, (0, 0), cell=-1.0)),
        (ValueError, "start", lambda: travel_time(cost, (0, 0)).descend((0.5, 0.5))),
        (ValueError, "one grid", lambda: travel_time(cost.expand(2, 4, 5), (0, 0)).descend((0, 0))),
    ):
        with pytest.raises(error, match=said):
            call()
