"""Free, occupied and unknown cells of maps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng import planning
from gradslam_ng.geometry import so3
from gradslam_ng.planning import Occupancy
from tests.planning.volumes import box, sphere, volume_of

UP = (0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def room():
    """Frames of the living room with exact depth and poses, and their volume."""
    sequence = gs.datasets.Synthetic("living_room", frames=288, size=(48, 64), path="orbit")
    every = range(0, 288, 36)
    frames = gs.RGBDFrames.stack([sequence[i] for i in every])
    frames = replace(frames, T_wc=sequence.T_wc[list(every)])
    with torch.no_grad():
        volume, _ = gs.KinectFusion("ground-truth", voxel_size=0.05, truncation=0.2)(frames)
    return frames, volume


def test_cells_of_a_box_are_those_that_it_fills():
    grid = Occupancy.of(volume_of(box), up=UP, floor=-1.013, heights=(0.2, 1.8))
    distance = box(grid.centers())
    assert grid.occupied[distance.abs() < 0.005].all()
    assert grid.free[(distance > 0.09) & (distance < 0.19)].all()
    assert not (grid.free & (distance < -0.001)).any()
    assert not (grid.occupied & (distance > 0.05)).any()
    assert grid.unknown[distance < -0.25].all()


def test_every_orientation_of_the_world_has_the_same_floor_plan():
    """Grids of the map turned with its world differ by what rounds at the borders of cells."""
    volume = volume_of(lambda p: torch.minimum(box(p), p[..., 2] + 0.5))  # on a floor
    plain = Occupancy.of(volume, up=UP).flatten()
    mesh = gs.marching_cubes(volume)
    for xi in ((math.pi / 2, 0.0, 0.0), (0.0, -math.pi / 2, 0.0), (2.5, 0.3, 0.0)):
        R = so3.exp(torch.tensor(xi, dtype=torch.float64))
        count = len(mesh.vertices)
        one = torch.ones(1, count, dtype=torch.float64)
        frame = torch.zeros(1, count, dtype=torch.int64)
        surfels = gs.SurfelMap(
            mesh.vertices[None] @ R.T, mesh.normals[None] @ R.T, mesh.colors[None], 0.04 * one, one, frame, frame,
            torch.tensor([count]),
        )  # fmt: skip
        turned = Occupancy.of(surfels, up=R[:, 2]).flatten()
        p = turned.to_world(turned.centers()[turned.occupied]) @ R
        occupied = torch.zeros_like(plain.occupied)
        occupied[tuple(plain.cells_of(p[:, :2]).T)] = True
        assert (occupied & ~plain.occupied).sum() < 0.1 * plain.occupied.sum()
        assert turned.floor == pytest.approx(-0.5, abs=0.011)


def test_what_a_camera_sees_through_is_free(room):
    frames, volume = room
    before = Occupancy.of(volume, up=UP, heights=(0.15, 1.3))
    after = before.carve(frames)
    assert torch.equal(before.occupied, after.occupied)
    assert not (before.free & ~after.free).any()
    assert after.free.double().mean() > before.free.double().mean() + 0.15
    carved = after.centers()[after.free & ~before.free]
    clearance = gs.datasets.Synthetic("living_room", frames=1, size=(2, 2)).room.clearance(carved[::10])
    assert (clearance < -0.02).double().mean() < 0.001


def test_without_a_pose_or_depth_nothing_is_carved(room):
    frames, volume = room
    grid = Occupancy.of(volume, up=UP)
    nowhere = replace(frames, T_wc=torch.full_like(frames.T_wc, torch.nan))
    holes = replace(frames, depth=torch.zeros_like(frames.depth))
    broken = replace(frames, depth=torch.full_like(frames.depth, torch.nan))
    for nothing in (nowhere, holes, broken):
        assert torch.equal(grid.carve(nothing).state, grid.state)
    with pytest.raises(ValueError, match="expected poses"):
        grid.carve(replace(frames, T_wc=None))


def test_columns_are_free_where_enough_of_them_is(room):
    frames, volume = room
    grid = Occupancy.of(volume, up=UP).carve(frames)
    some, most = grid.flatten(0.2), grid.flatten(0.9)
    assert torch.equal(some.occupied, grid.occupied.any(-1))
    assert most.free.sum() < some.free.sum()
    assert not (most.free & ~some.free).any()
    with pytest.raises(ValueError, match="in space"):
        some.flatten()


def test_what_is_free_above_something_unseen_is_unknown():
    """Nobody has seen the lower half of a column."""
    solid = torch.zeros(3, 3, 8, dtype=torch.bool)
    unknown = solid.clone()
    unknown[1, 1, :3] = True  # of eight
    unknown[2, 2, 5:] = True
    flat = Occupancy.from_cells(solid, unknown).flatten()
    assert bool(flat.unknown[1, 1]) and bool(flat.free[2, 2]) and int(flat.unknown.sum()) == 1


def test_up_and_floor_are_estimated(room):
    frames, volume = room
    up = planning.estimate_up(volume, frames.T_wc)
    assert torch.equal(up, torch.tensor(UP, dtype=torch.float64))
    assert abs(Occupancy.of(volume, up=up).floor) < 0.02
    with pytest.raises(ValueError, match="known pose"):
        planning.estimate_up(volume, torch.full_like(frames.T_wc, torch.nan))


def test_a_small_change_of_the_map_keeps_the_grid():
    one, other = (Occupancy.of(volume_of(lambda p, r=r: sphere(p, r)), up=UP, floor=-1.013) for r in (0.512, 0.513))
    assert torch.equal(one.origin, other.origin) and one.state.shape == other.state.shape


def test_far_from_the_worlds_origin_it_is_the_same():
    volume = volume_of(sphere)
    shift = torch.tensor([[1.6e5, -3.2e4, 64.0]], dtype=torch.float64)
    near = Occupancy.of(volume, up=UP, floor=-1.013)
    far = Occupancy.of(replace(volume, origin=shift), up=UP, floor=64 - 1.013)
    assert torch.equal(near.state, far.state)
    torch.testing.assert_close(far.surface - shift, near.surface, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"up": (0.0, 0.0, 0.0)}, "up: expected"),
        ({"up": (0.0, float("nan"), 1.0)}, "up: expected"),
        ({"up": (0.0, 1.0)}, "up: expected"),
        ({"cell": 0.0}, "cell: expected"),
        ({"cell": float("nan")}, "cell: expected"),
        ({"cell": 0.01}, "a voxel of the volume at least"),
        ({"heights": (1.0, 0.5)}, "heights: expected"),
        ({"heights": (float("nan"), 0.5)}, "heights: expected"),
        ({"floor": 50.0}, "expected a surface"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Occupancy.of(volume_of(sphere, 0.6), **({"up": UP, "floor": -1.013} | change))


def test_an_empty_map_and_other_things_are_refused():
    for nothing in (gs.VoxelGrid.empty(dtype=torch.float64), gs.SurfelMap.empty()):
        with pytest.raises(ValueError, match="expected a surface"):
            Occupancy.of(nothing, up=UP)
    with pytest.raises(ValueError, match="batch of 2"):
        Occupancy.of(gs.VoxelGrid.empty(2), up=UP)
    with pytest.raises(TypeError, match="SurfelMap or a VoxelGrid"):
        Occupancy.of(torch.zeros(3), up=UP)
    with pytest.raises(ValueError, match="occupied: expected bool"):
        Occupancy.from_cells(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="occupied: expected bool"):
        Occupancy.from_cells(torch.zeros(0, 3, dtype=torch.bool))


def test_centers_are_as_exact_as_the_origin():
    grid = Occupancy.from_cells(torch.zeros(3, 40, dtype=torch.bool), cell=0.05, origin=(1000.0, 0.1))
    expected = torch.tensor([1000.0 + 2 * 0.05, 0.1 + 39 * 0.05], dtype=torch.float64)
    torch.testing.assert_close(grid.center(torch.tensor([2, 39])), expected, rtol=1e-15, atol=0)
