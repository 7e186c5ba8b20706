"""Volumetric fusion: averaging, carving, taking frames out again; and its gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import camera
from gradslam_ng.mapping import TSDFFuser, tsdf
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures.voxel_blocks import unpack, voxel_offsets

SIZE = (48, 64)
ARRAYS = ("sdf", "weight", "color", "color_weight")


@pytest.fixture(scope="module")
def views(room) -> gs.RGBDFrames:
    return room.view(room.walk(30)[[0, 10, 20]], SIZE, torch.float64)


def fused(*frames: gs.RGBDFrames, batch: int = 1, voxel_size: float = 0.047) -> gs.VoxelGrid:
    """Into voxels no multiple of which meets a wall."""
    grid = gs.VoxelGrid.empty(batch, voxel_size, 4 * voxel_size, dtype=torch.float64)
    for frame in frames:
        grid = gs.integrate(grid, frame)
    return grid


def rows_of(grid: gs.VoxelGrid, other: gs.VoxelGrid) -> tuple[torch.Tensor, torch.Tensor]:
    keys = grid.keys[other.lookup(grid.keys) >= 0]
    return grid.lookup(keys), other.lookup(keys)


@torch.no_grad()
def test_the_same_frame_twice_doubles_the_weight_and_nothing_else(views):
    once, twice = fused(views[0]), fused(views[0], views[0])
    a, b = rows_of(once, twice)
    assert len(a) == len(once.keys)
    assert torch.allclose(2 * once.weight[a], twice.weight[b])
    assert torch.allclose(once.sdf[a], twice.sdf[b], atol=1e-12) and torch.allclose(once.color[a], twice.color[b])


@torch.no_grad()
def test_voxels_take_the_color_between_pixels():
    """Of a wall on which color changes evenly: exact, on borders of pixels too."""
    K = torch.tensor([[[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]], dtype=torch.float64)
    row, column = torch.meshgrid(torch.arange(48.0).double(), torch.arange(64.0).double(), indexing="ij")
    color = torch.stack([column / 64, row / 48, 1 - column / 64], -1)[None]
    depth = torch.full((1, *SIZE, 1), 2.0, dtype=torch.float64)
    grid = fused(gs.RGBDFrames(color, depth, K, torch.eye(4, dtype=torch.float64)[None]), voxel_size=0.01)
    block = unpack(grid.keys)[1]
    p = (8 * block[:, None] + voxel_offsets(block.device)).double() * 0.01
    u, v, _ = camera.project_soa(tuple(p.unbind(-1)), K)
    inside = (u > 1) & (u < 62) & (v > 1) & (v < 46) & (grid.color_weight[grid.slots] > 0)
    found = grid.color[grid.slots].movedim(1, -1)[inside]
    truth = torch.stack([u / 64, v / 48, 1 - u / 64], -1)[inside]
    assert len(found) > 1000
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 8], ids=["black and white", "gray"])
def test_colors_of_voxels_stay_between_black_and_white(steps):
    noise = torch.rand(1, *SIZE, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = (steps * noise).round() / steps
    K = torch.tensor([[[50.0, 0, 31.3], [0, 50, 23.6], [0, 0, 1]]], dtype=torch.float64)
    depth = torch.full((1, *SIZE, 1), 2.0, dtype=torch.float64)
    grid = fused(gs.RGBDFrames(noise, depth, K, torch.eye(4, dtype=torch.float64)[None]), voxel_size=0.01)
    assert grid.color.amin() >= 0 and grid.color.amax() <= 1 and grid.color.amax() > 0.99


@torch.no_grad()
def test_a_frame_taken_out_leaves_what_was_before(views):
    before, after = fused(views[0]), gs.integrate(fused(views[1], views[0]), views[1], sign=-1)
    a, b = rows_of(before, after)
    assert len(a) == len(before.keys)
    for name in ARRAYS:
        assert torch.allclose(getattr(before, name)[a], getattr(after, name)[b], atol=1e-9), name
    empty = gs.integrate(fused(views[0]), views[0], sign=-1)
    assert len(empty.keys) and (empty.weight == 0).all() and (empty.sdf == 0).all()


@torch.no_grad()
def test_the_order_of_frames_does_not_matter(views):
    a, b = fused(views[0], views[1]), fused(views[1], views[0])
    i, j = rows_of(a, b)
    near = (a.weight[i] > 0) & (b.weight[j] > 0)
    assert torch.allclose(a.sdf[i][near], b.sdf[j][near], atol=0.2) and near.float().mean() > 0.3


@torch.no_grad()
def test_a_frame_without_readings_or_pose_changes_nothing(views):
    grid = fused(views[0])
    blank = dataclasses.replace(views[1], depth=torch.zeros_like(views[1].depth))
    lost = dataclasses.replace(views[1], T_wc=torch.full_like(views[1].T_wc, torch.nan))
    for frame in (blank, lost):
        again = gs.integrate(fused(views[0]), frame)
        assert again.keys.equal(grid.keys)
        for name in ARRAYS:
            assert getattr(again, name).equal(getattr(grid, name)), name


@torch.no_grad()
def test_free_space_is_carved(views):
    """What stood before the camera once and is seen through later goes."""
    T_wc, K = views.T_wc[:1], views.K[:1]
    ghost = dataclasses.replace(views[0], depth=torch.full_like(views.depth[0], 0.6))
    grid = fused(ghost, voxel_size=0.023)
    assert gs.raycast(grid, T_wc, K, SIZE).depth.median() < 0.7
    for _ in range(6):
        grid = gs.integrate(grid, views[0])
    seen = gs.raycast(grid, T_wc, K, SIZE)
    inner = (slice(12, -12), slice(12, -12))  # blocks that reach out of the image may stay
    mask = seen.mask[0][inner]
    assert mask.float().mean() > 0.6
    assert ((seen.depth[0] - views[0].depth)[inner].abs()[mask] < 0.05).double().mean() > 0.9
    assert ((seen.depth[0][inner][mask] - 0.6).abs() < 0.1).double().mean() < 0.01


@torch.no_grad()
def test_nearer_and_more_upright_readings_weigh_more():
    K = torch.tensor([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]], dtype=torch.float64)
    greatest = []
    for z in (1.0, 2.0, 4.0):
        depth = torch.full((*SIZE, 1), z, dtype=torch.float64)
        frame = gs.RGBDFrames(torch.rand(*SIZE, 3, dtype=torch.float64), depth, K, torch.eye(4, dtype=torch.float64))
        grid = fused(frame)
        greatest.append(grid.weight.max())
    assert greatest[0] > 1.5 * greatest[1] > 3 * greatest[2]


@torch.no_grad()
def test_batch_elements_do_not_meet(views):
    both = fused(gs.RGBDFrames.stack([views[0], views[2]]), batch=2)
    for b, frame in enumerate((views[0], views[2])):
        alone, part = fused(frame), both[b]
        assert alone.keys.equal(part.keys)
        for name in ARRAYS:
            assert torch.allclose(getattr(alone, name)[alone.slots], getattr(part, name)[part.slots]), name


def test_gradients_on_and_off_agree(views):
    with torch.no_grad():
        plain = fused(*views)
    graph = fused(*[dataclasses.replace(view, depth=view.depth.clone().requires_grad_()) for view in views])
    assert graph.sdf.requires_grad and graph.keys.equal(plain.keys)
    for name in ARRAYS:
        assert torch.allclose(getattr(graph, name)[graph.slots], getattr(plain, name)[plain.slots], atol=1e-12), name


def test_values_have_the_gradients_of_central_differences(differences, views):
    """To depth, color, pose and camera, through two frames."""
    T_wc, K = views.T_wc[:2], views.K[:2]

    def volume(depth, color, T_wc, K) -> dict[str, torch.Tensor]:
        frames = gs.RGBDFrames(color, depth, K, T_wc)
        grid = fused(frames[0], frames[1])
        return {name: getattr(grid, name)[grid.slots] for name in ("sdf", "weight", "color")}

    noise = torch.randn(views.depth[:2].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = {"depth": views.depth[:2] + 0.002 * noise, "color": views.color[:2], "T_wc": T_wc, "K": K}
    errors = differences(volume, inputs, {"T_wc": 1e-7, "K": 1e-7, "depth": 1e-8}, directions=2)
    pairs = {(o, i) for o in ("sdf", "weight", "color") for i in ("depth", "T_wc", "K")} | {("color", "color")}
    assert pairs <= errors.keys()
    assert max(errors.values()) <= 1e-4 and sorted(errors.values())[len(errors) // 2] <= 1e-6, errors


def test_no_gradient_is_ever_not_a_number(views):
    """Depth with holes, spikes, nothing at all; a camera within the surface."""
    depth = views.depth[0].clone()
    depth[::7], depth[5, 5], depth[9, 9] = 0, 1e6, torch.nan
    for image in (depth, torch.zeros_like(depth), torch.full_like(depth, 1e-3)):
        image = image.clone().requires_grad_()
        T_wc, K = views.T_wc[0].clone().requires_grad_(), views.K[0].clone().requires_grad_()
        grid = fused(gs.RGBDFrames(views.color[0], image, K, T_wc))
        total = (
            grid.sdf.sum()
            + grid.weight.sum()
            + grid.color.sum()
            + 0 * (image.nan_to_num().sum() + T_wc.sum() + K.sum())
        )
        assert total.isfinite()
        total.backward()
        for leaf in (image, T_wc, K):
            assert leaf.grad.isfinite().all()


def test_every_voxel_is_found_again(views):
    grid = fused(views[0])
    assert grid.lookup(grid.keys).equal(grid.slots)
    owner, block = unpack(grid.keys)
    assert (owner == 0).all() and (block.amax(0) < 200).all()


@torch.no_grad()
def test_the_band_widens_with_the_noise_of_depth():
    """A wall says something of what lies behind it as far as its readings scatter: beyond the truncation at 4 m, where
    the standard deviation is 2.6 cm, and no farther than that at 1 m."""
    K = torch.tensor([[200.0, 0, 15.5], [0, 200, 11.5], [0, 0, 1]], dtype=torch.float64)
    for depth, reach in ((1.0, 0.04), (4.0, 0.077)):
        image = torch.full((24, 32, 1), depth, dtype=torch.float64)
        frame = gs.RGBDFrames(0.1 * image.expand(24, 32, 3), image, K, torch.eye(4, dtype=torch.float64))
        grid = gs.integrate(gs.VoxelGrid.empty(1, 0.005, 0.04, dtype=torch.float64), frame)
        behind = torch.linspace(0.0, 0.1, 101, dtype=torch.float64)
        points = torch.stack([0 * behind, 0 * behind, depth + behind], -1)
        known = behind[grid.query(points[None])[2][0] > 0]
        assert known.max() == pytest.approx(reach, abs=0.006), depth
        assert grid.sdf.max() <= 0.04


@torch.no_grad()
def test_silhouettes_are_not_worn_away():
    """A bar 2 m away before a wall at 3 m, seen by a camera that moves past it: edges fall between pixels."""
    K = torch.tensor([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]], dtype=torch.float64)

    def view(x: float) -> gs.RGBDFrames:
        at = 2 * camera.unproject(torch.ones(*SIZE, 1, dtype=torch.float64), K)[..., :1] + x
        depth = torch.where(at.abs() < 0.15, 2.0, 3.0).double()
        T_wc = torch.eye(4, dtype=torch.float64)
        T_wc[0, 3] = x
        return gs.RGBDFrames(torch.full((*SIZE, 3), 0.5, dtype=torch.float64), depth, K, T_wc)

    grid = fused(*[view(x / 50) for x in range(-10, 11)], voxel_size=0.02)
    frame = view(0.013)
    found = (gs.raycast(grid, frame.T_wc[None], K[None], SIZE).depth[0] - 2).abs() < 0.05
    bar = frame.depth < 2.5
    assert found[bar].double().mean() > 0.95 and not found[~bar].any()


@torch.no_grad()
@pytest.mark.parametrize("distance", [40.0, 1e4, 1e6])
def test_memory_goes_with_the_pixels_not_with_the_box_around_them(views, distance):
    """A stray pixel costs its own blocks; one beyond what a key has room for is left out. The rest is as without."""
    frame, here = views[0], slice(20, 22)
    holed, stray = frame.depth.clone(), frame.depth.clone()
    holed[here, here], stray[here, here] = 0.0, distance
    without, grid = (
        TSDFFuser().integrate(
            gs.VoxelGrid.empty(1, 0.01, 0.04, dtype=torch.float64),
            measure_surface(gs.RGBDFrames(frame.color[None], depth[None], frame.K[None]), max_depth=1e9),
            frame.T_wc[None],
            torch.ones(1, dtype=torch.bool),
        )
        for depth in (holed, stray)
    )
    assert grid.lookup(without.keys).ge(0).all()
    added = len(grid.keys) - len(without.keys)
    assert (2 < added < 100) if distance < 100 else added <= 2  # the normals beside it are those beside a hole, nearly


def test_blocks_are_found_alike_in_a_box_and_sorted(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(-5, 5, (50, 3, 3), generator=generator, dtype=torch.int32)
    batch_index = torch.arange(50) // 25
    dense = tsdf.distinct_blocks(cells, batch_index, 2)
    monkeypatch.setattr(tsdf, "DENSE_CELLS", 0)
    assert torch.equal(dense, tsdf.distinct_blocks(cells, batch_index, 2)) and len(dense) > 100
