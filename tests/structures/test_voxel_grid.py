from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.structures.voxel_blocks import pack, unpack, voxel_offsets

SIZE = (48, 64)


def of_function(function, blocks: int = 3, voxel: float = 0.05, batch: int = 1) -> gs.VoxelGrid:
    """Volumes of (2 blocks)^3 blocks about the origin that hold a function of the place, meters."""
    cells = torch.cartesian_prod(*[torch.arange(-blocks, blocks)] * 3)
    keys = torch.cat([pack(torch.full((len(cells),), b), cells) for b in range(batch)])
    with torch.no_grad():
        grid = gs.VoxelGrid.empty(batch, voxel, 4 * voxel, dtype=torch.float64).allocate(keys)
        owner, block = unpack(grid.keys)
        p = (block[:, None] * 8 + voxel_offsets(torch.device("cpu"))).double() * voxel
        sdf = function(p) + 0.01 * owner[:, None]
        color = p.movedim(-1, 1).contiguous()
        ones = torch.ones_like(sdf)
        return grid.scatter(grid.slots, sdf=sdf[:], weight=ones, color=color, color_weight=ones.clone())


@pytest.fixture(scope="module")
def room_grid(room):
    """Two rooms seen from two places each."""
    with torch.no_grad():
        grid = gs.VoxelGrid.empty(2, 0.05, 0.2)
        for i in (0, 12):
            T_wc = torch.stack([room.walk(13, seed)[i] for seed in (0, 1)])
            grid = gs.integrate(grid, room.view(T_wc, SIZE))
    return grid


def test_keys_sort_and_come_back():
    block = torch.tensor([[-3, 4, 0], [-3, -4, 7], [32767, -32768, 1], [0, 0, -1]])
    batch = torch.tensor([0, 0, 2, 5])
    owner, found = unpack(pack(batch, block))
    assert owner.equal(batch) and found.equal(block)
    order = pack(batch, block).argsort().tolist()
    assert order == sorted(range(4), key=lambda i: (batch[i].item(), *block[i].tolist()))


def test_a_linear_field_is_interpolated_exactly():
    """Across blocks and batch elements, with its gradient."""
    n = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
    grid = of_function(lambda p: p @ n, batch=2)
    points = 2.2 * torch.rand(2, 500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1.15
    sdf, gradient, weight = grid.query(points)
    assert torch.allclose(sdf, points @ n + torch.tensor([[0.0], [0.01]], dtype=torch.float64), atol=1e-12)
    assert torch.allclose(gradient, n.expand_as(gradient), atol=1e-12) and (weight == 1).all()


def test_queries_have_the_gradients_of_central_differences():
    """To distances, weights and points, within the eight voxels around each."""
    generator = torch.Generator().manual_seed(0)
    grid = of_function(lambda p: (p * p).sum(-1))
    points = 2.2 * torch.rand(1, 20, 3, dtype=torch.float64, generator=generator) - 1.1
    weight = 1 + torch.rand(grid.weight.shape, dtype=torch.float64, generator=generator)

    def found(**given):
        points = given.pop("points")
        return torch.cat([x.reshape(1, 20, -1) for x in dataclasses.replace(grid, **given).query(points)], -1)

    inputs = {"sdf": grid.sdf, "weight": weight, "points": points}
    leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    share = torch.randn(1, 20, 5, dtype=torch.float64, generator=generator)
    gradients = torch.autograd.grad((share * found(**leaves)).sum(), list(leaves.values()))
    for (name, value), gradient in zip(inputs.items(), gradients, strict=True):
        step = 1e-7 * torch.randn(value.shape, dtype=torch.float64, generator=generator)
        ends = [(share * found(**(inputs | {name: value + sign * step}))).sum() for sign in (1, -1)]
        torch.testing.assert_close((gradient * step).sum(), (ends[0] - ends[1]) / 2, rtol=1e-6, atol=0)


def test_outside_nothing_is_known():
    grid = of_function(lambda p: p[..., 0])
    far = torch.tensor([[[9.0, 0, 0], [0, -1e9, 0], [1e30, 0, torch.nan]]], dtype=torch.float64)
    for sdf, gradient, weight in (grid.query(far), gs.VoxelGrid.empty(dtype=torch.float64).query(far)):
        assert (sdf == 0).all() and (gradient == 0).all() and (weight == 0).all()
    with pytest.raises(ValueError, match=r"\(1, P, 3\)"):
        grid.query(far[0])


def test_distances_of_a_room_are_true(room, room_grid):
    """Near the surface, where something was seen: within a fraction of a voxel for nine of ten points."""
    T_wc = torch.stack([room.walk(13, seed)[6] for seed in (0, 1)])
    frame = room.view(T_wc, SIZE)
    from gradslam_ng.geometry import camera, se3

    p_c = camera.unproject(frame.depth, frame.K).flatten(1, 2)
    for step in (-0.02, 0.0, 0.03):
        ray = torch.nn.functional.normalize(p_c, dim=-1)
        points = se3.transform(T_wc.float(), p_c - step * ray)
        sdf, gradient, weight = room_grid.query(points)
        slope = -(se3.rotate(T_wc.float(), ray) * gradient).sum(-1)
        error = (sdf - step * slope).abs()[weight > 0]
        assert (weight > 0).float().mean() > 0.8
        assert error.quantile(0.9) < 0.004


@torch.no_grad()
def test_blocks_lie_near_the_surface_only(room):
    frame = room.view(room.walk(1)[0], SIZE)
    grid = gs.integrate(gs.VoxelGrid.empty(1, 0.01, 0.04), frame)
    _, block = unpack(grid.keys)
    assert len(block) < 0.2 * (block.amax(0) - block.amin(0) + 1).prod()
    assert (grid.keys.diff() > 0).all() and grid.slots.sort().values.equal(torch.arange(len(block)))


def test_a_volume_of_a_batch_alone_is_the_same(room_grid):
    points = torch.rand(2, 400, 3) * 3 - torch.tensor([1.0, 1.0, -0.5])
    both = room_grid.query(points)
    for b in (0, 1):
        for x, y in zip(both, room_grid[b].query(points[b : b + 1]), strict=True):
            assert torch.equal(x[b], y[0])


def test_saved_and_loaded(tmp_path, room_grid):
    room_grid.save(tmp_path / "volume.npz")
    loaded = gs.VoxelGrid.load(tmp_path / "volume.npz")
    assert (loaded.batch, loaded.voxel_size, loaded.truncation) == (2, 0.05, 0.2)
    assert loaded.keys.equal(room_grid.keys)
    for name in ("sdf", "weight", "color", "color_weight"):
        assert getattr(loaded, name)[loaded.slots].equal(getattr(room_grid, name)[room_grid.slots]), name


def test_what_is_no_volume_is_refused(tmp_path, room_grid):
    with pytest.raises(FileNotFoundError, match="missing"):
        gs.VoxelGrid.load(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", keys=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", keys=np.array([{}], dtype=object))
    room_grid.save(tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:5000])
    reasons = {"text": "got other bytes", "other": "it has no 'batch'", "pickle": "got objects", "cut": "other bytes"}
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=f"{name}.npz: not a saved voxel grid: .*{reason}") as caught:
            gs.VoxelGrid.load(tmp_path / f"{name}.npz")
        assert "pickle" not in str(caught.value).replace("pickle.npz", "")


@pytest.mark.parametrize(("voxel", "truncation"), [(0, 0.04), (-1, 2), (0.05, 0.04), (0.01, 0.01)])
def test_sizes_that_make_no_sense_are_refused(voxel, truncation):
    with pytest.raises(ValueError, match="0 < voxel_size < truncation"):
        gs.VoxelGrid.empty(1, voxel, truncation)
    with pytest.raises(ValueError, match="0 < voxel_size < truncation"):
        gs.KinectFusion(voxel_size=voxel, truncation=truncation)


def test_a_band_that_no_memory_holds_is_refused():
    with pytest.raises(ValueError, match=r"truncation: expected at most 1000 voxels of 0\.04 m, got 1000000"):
        gs.KinectFusion(voxel_size=0.04, truncation=1e6)


def test_voxels_so_small_that_a_room_has_no_keys_are_refused():
    """Blocks beyond what keys have room for are no blocks: the map would be empty."""
    gs.VoxelGrid.empty(1, 4e-5, 2e-4)
    for voxel in (1e-6, 3.8e-5):
        with pytest.raises(ValueError, match=r"voxel_size: expected voxels that reach 10 m at least"):
            gs.KinectFusion(voxel_size=voxel, truncation=5 * voxel)


def test_frames_without_a_pose_are_refused(room):
    frame = room.view(room.walk(1)[0], SIZE)
    with pytest.raises(ValueError, match="poses"):
        gs.integrate(gs.VoxelGrid.empty(1, 0.05, 0.2), gs.RGBDFrames(frame.color, frame.depth, frame.K))


def test_blocks_beyond_what_a_key_has_room_for_are_no_blocks():
    """No coordinate runs over into its neighbor's bits, or into those of the batch."""
    block = torch.tensor([[32768, 0, 0], [0, -32769, 0], [0, 0, 10**9], [32767, -32768, 0]])
    keys = pack(torch.zeros(4, dtype=torch.int64), block)
    assert keys[:3].tolist() == [-1, -1, -1] and keys[3] >= 0
    grid = of_function(lambda p: p[..., 0])
    grown = grid.allocate(keys)
    assert len(grown.keys) == len(grid.keys) + 1 and (grown.keys >= 0).all()
    assert grown.lookup(keys)[:3].tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="batch: expected 1 to 32768 volumes, got 32769"):
        gs.VoxelGrid.empty(32769)
    with pytest.raises(ValueError, match=r"batch: expected 1 to 32768 volumes, got 2\.5"):
        gs.VoxelGrid.empty(2.5)


@pytest.mark.parametrize("sizes", [{"voxel_size": "0.01"}, {"voxel_size": None}, {"truncation": "a"}])
def test_sizes_that_are_no_numbers_are_refused(sizes):
    with pytest.raises(TypeError, match=f"{next(iter(sizes))}: expected a number of meters, got"):
        gs.VoxelGrid.empty(**sizes)
