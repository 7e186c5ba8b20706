"""Paths that are safe between their points, too; costs that keep away from obstacles."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from gradslam_ng import planning
from gradslam_ng.planning import NoWayError, Occupancy
from tests.planning.volumes import box, sphere, volume_of

UP = (0.0, 0.0, 1.0)


def hall(gap: int, cell: float = 0.1, turn: bool = False) -> Occupancy:
    """Two rooms of 2 x 2 m and a wall between them with a gap of so many cells; around it nothing is known."""
    occupied = torch.zeros(40, 20, dtype=torch.bool)
    occupied[19:21] = True
    occupied[19:21, 10 : 10 + gap] = False
    return Occupancy.from_cells(occupied.T.contiguous() if turn else occupied, cell=cell)


def sampled(grid: Occupancy, points: torch.Tensor, unknown: str) -> float:
    """Least distance to obstacles by brute force: ten thousand places along a path, all obstacles."""
    steps = torch.linspace(0, 1, 10_000 // max(1, len(points) - 1), dtype=torch.float64)[:, None]
    along = torch.cat([a + steps * (b - a) for a, b in itertools.pairwise(points)])
    solid = grid.occupied | grid.unknown if unknown == "blocked" else grid.occupied
    padded = torch.nn.functional.pad(solid, (1, 1, 1, 1), value=unknown == "blocked")
    centers = grid.center(padded.nonzero() - 1)
    least = torch.cdist(along, centers).amin() - 0.5 * grid.cell
    return float(torch.minimum(least, torch.cdist(along, grid.surface).amin())) if len(grid.surface) else float(least)


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("smoothed", [False, True])
def test_nothing_on_the_path_is_nearer_than_the_radius(turn, smoothed):
    grid = hall(5, turn=turn)
    start, goal = torch.tensor([0.31, 0.42]), torch.tensor([3.58, 0.37])
    start, goal = (start.flip(0), goal.flip(0)) if turn else (start, goal)
    for radius in (0.0, 0.1, 0.21, 0.24):
        found = planning.safe_path(grid, start, goal, radius=radius, smoothed=smoothed)
        assert torch.equal(found.points[0], start.double()) and torch.equal(found.points[-1], goal.double())
        assert radius <= found.clearance <= sampled(grid, found.points, "blocked") + 1e-9
        assert found.clearance == pytest.approx(sampled(grid, found.points, "blocked"), abs=1e-3)
        assert math.dist(start.tolist(), goal.tolist()) < found.length < 4.5
        assert found.cost.isfinite() and found.unknown == 0


def test_smoothing_shortens():
    grid = hall(8)
    ends = torch.tensor([0.3, 0.4]), torch.tensor([3.6, 0.4])
    plain, smooth = (planning.safe_path(grid, *ends, radius=0.15, smoothed=s) for s in (False, True))
    assert smooth.smoothed and not plain.smoothed
    assert smooth.length < plain.length


def test_a_gap_that_is_too_narrow_is_no_way():
    ends = torch.tensor([0.3, 0.4]), torch.tensor([3.6, 0.4])
    with pytest.raises(NoWayError, match="no way"):
        planning.safe_path(hall(3), *ends, radius=0.2)
    with pytest.raises(NoWayError):
        planning.safe_path(hall(0), *ends, radius=0.0)


def test_start_equal_to_goal_stays():
    p = torch.tensor([0.32, 0.43])
    found = planning.safe_path(hall(4), p, p, radius=0.1)
    assert found.length == 0 and float(found.cost) == 0 and found.clearance > 0.1
    assert found.points.isfinite().all()


@pytest.mark.parametrize("where", [(9.0, 0.3), (2.0, 0.3), (0.0, 0.0), (math.inf, 0.0), (math.nan, 0.0)])
def test_a_place_without_room_is_refused(where):
    free = torch.tensor([0.5, 0.5])
    for ends in ((torch.tensor(where), free), (free, torch.tensor(where))):
        with pytest.raises(ValueError, match=r"(start|goal): expected a place with room"):
            planning.safe_path(hall(4), *ends, radius=0.1)


def test_no_free_cell_all_unknown_and_one_cell():
    one = torch.zeros(1, 1, dtype=torch.bool)
    p = torch.zeros(2)
    for full in (Occupancy.from_cells(~one.expand(4, 4)), Occupancy.from_cells(one.expand(4, 4), ~one.expand(4, 4))):
        with pytest.raises(ValueError, match="place with room"):
            planning.safe_path(full, p, p, radius=0.0)
    found = planning.safe_path(Occupancy.from_cells(one), p, p, radius=0.2)
    assert found.length == 0 and found.clearance == pytest.approx(0.5)


def test_unknown_space_has_three_policies_and_three_paths():
    """A window of unknown on the straight way."""
    unknown = torch.zeros(60, 40, dtype=torch.bool)
    unknown[25:35, :34] = True
    grid = Occupancy.from_cells(torch.zeros_like(unknown), unknown, cell=0.1)
    ends = torch.tensor([0.8, 2.0]), torch.tensor([5.2, 2.0])
    blocked, free, costly = (
        planning.safe_path(grid, *ends, radius=0.1, unknown=word, smoothed=False)
        for word in ("blocked", "free", "costly")
    )
    assert blocked.unknown == 0 and blocked.points[:, 1].max() > 3.4
    assert free.unknown == pytest.approx(1.0, abs=0.02) and free.length == pytest.approx(4.4)
    assert costly.unknown == 0 and costly.points[:, 1].max() > 3.3  # the way around is 2 m longer, 1 m unknown costs 5
    assert costly.length < blocked.length
    assert free.clearance == math.inf


def test_clearance_is_exact_between_points():
    occupied = torch.zeros(11, 11, dtype=torch.bool)
    occupied[5, 5] = True
    grid = Occupancy.from_cells(occupied)
    past = torch.tensor([[0.0, 3.0], [10.0, 3.0]])
    assert planning.path_clearance(grid, past, unknown="free") == pytest.approx(2 - 0.5)
    assert planning.path_clearance(grid, past[:1], unknown="free") == pytest.approx(math.hypot(5, 2) - 0.5)
    assert planning.path_clearance(grid, past, unknown="blocked") == pytest.approx(0.5)  # beyond the grid
    with pytest.raises(ValueError, match="path: expected"):
        planning.path_clearance(grid, past[:0])
    with pytest.raises(ValueError, match="path: expected"):
        planning.path_clearance(grid, torch.zeros(4, 3))


def test_a_room_turned_has_paths_of_the_same_cost():
    """Grids are not metric: within a few percent at 22.5 degrees, the worst between eight neighbors."""
    costs = []
    for degrees in (0.0, 22.5):
        angle = math.radians(degrees)
        c, s = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)

        def room(p, turn=turn):
            q = p @ turn
            return torch.minimum(box(q - q.new_tensor([0.0, 0.1, 0.0]), (0.31, 0.42, 0.9)), sphere(q, 0.1))

        grid = Occupancy.of(volume_of(room, half=1.6, voxel=0.1), up=UP, floor=-1.013, cell=0.1).flatten()
        ends = (turn[:2, :2] @ torch.tensor(p, dtype=torch.float64) for p in ((-0.9, -0.1), (0.9, -0.1)))
        costs.append(float(planning.safe_path(grid, *ends, radius=0.1, unknown="free").cost))
    assert costs[1] == pytest.approx(costs[0], rel=0.1)


def test_cost_has_a_gradient_to_all_that_it_depends_on(differences):
    generator = torch.Generator().manual_seed(0)
    distance = 0.6 * torch.rand(6, 7, generator=generator, dtype=torch.float64) + 0.3
    numbers = {name: torch.tensor(x, dtype=torch.float64) for name, x in
               (("radius", 0.25), ("softness", 0.1), ("weight", 20.0), ("unknown_weight", 5.0))}  # fmt: skip
    unknown = torch.rand(6, 7, generator=generator) < 0.3

    def cost(distance, **numbers):
        return {"cost": planning.clearance_cost(distance, unknown=unknown, **numbers)}

    errors = differences(cost, {"distance": distance, **numbers})
    assert {name for _, name in errors} == {"distance", *numbers}
    assert max(errors.values()) < 1e-7


def test_cost_is_infinite_without_room_and_has_no_gradient_there():
    distance = torch.tensor([-1.0, 0.2, 0.25, 3.0], requires_grad=True)
    cost = planning.clearance_cost(distance, radius=0.25)
    assert torch.equal(cost.isinf(), torch.tensor([True, True, False, False]))
    assert cost[2:].tolist() == pytest.approx([11.0, 1.0])
    cost[2:].sum().backward()
    assert distance.grad.isfinite().all() and (distance.grad[:2] == 0).all()


@pytest.mark.parametrize(
    "change",
    [{"radius": -0.1}, {"radius": math.nan}, {"softness": 0.0}, {"weight": -1.0}, {"unknown_weight": math.nan}],
)
def test_numbers_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))}: expected"):
        planning.clearance_cost(torch.ones(3, 3), **({"radius": 0.1} | change))
    with pytest.raises(ValueError, match="distance: expected finite"):
        planning.clearance_cost(torch.full((3, 3), math.nan), radius=0.1)


def test_the_cost_of_a_path_has_a_gradient_to_the_volume():
    volume = volume_of(lambda p: torch.minimum(box(p, (0.21, 0.52, 0.9)), p[..., 1] + 1.212), half=1.6, voxel=0.1)
    sdf = volume.sdf.clone().requires_grad_()
    grid = Occupancy.of(replace(volume, sdf=sdf), up=UP, floor=-1.013, cell=0.1).flatten()
    found = planning.safe_path(grid, torch.tensor([-0.8, 0.0]), torch.tensor([0.8, 0.0]), radius=0.15, unknown="free")
    (gradient,) = torch.autograd.grad(found.cost, sdf)
    assert gradient.isfinite().all() and (gradient != 0).any()
    assert gradient.sum() < 0  # more room costs less
