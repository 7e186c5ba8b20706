from __future__ import annotations

import dataclasses

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import camera, se3
from gradslam_ng.rendering import block_index, raycast
from gradslam_ng.rendering.rays import low_discrepancy_offsets, pixel_rays
from gradslam_ng.structures.voxel_blocks import pack, unpack, voxel_offsets

SIZE = (30, 40)
K = torch.tensor([[[40.0, 0, 19.5], [0, 40, 14.5], [0, 0, 1]]], dtype=torch.float64)
HERE = torch.eye(4, dtype=torch.float64)[None]


def volume(distance, voxel: float = 0.05, reach: float = 1.6) -> gs.VoxelGrid:
    """A batch of one that holds a distance function, meters, where it is within the truncation."""
    n = int(reach / voxel / 8) + 1
    cells = torch.cartesian_prod(*[torch.arange(-n, n)] * 3)
    with torch.no_grad():
        grid = gs.VoxelGrid.empty(1, voxel, 4 * voxel, dtype=torch.float64)
        p = (cells[:, None] * 8 + voxel_offsets(torch.device("cpu"))).double() * voxel
        sdf = distance(p)
        some = (sdf.abs() < grid.truncation).any(-1)
        grid = grid.allocate(pack(torch.zeros(len(cells), dtype=torch.int64), cells)[some])
        _, block = unpack(grid.keys)
        p = (block[:, None] * 8 + voxel_offsets(torch.device("cpu"))).double() * voxel
        sdf = distance(p)
        weight = (sdf > -grid.truncation).double()
        color = (0.5 + 0.3 * torch.sin(2 * p)).movedim(-1, 1).contiguous()
        sdf = sdf.clamp(max=grid.truncation) * weight
        return grid.scatter(grid.slots, sdf=sdf, weight=weight, color=color, color_weight=weight.clone())


def plane(p: torch.Tensor) -> torch.Tensor:
    """Tilted, before the camera."""
    return (torch.tensor([0.2, -0.3, -1.0], dtype=torch.float64) / 1.13**0.5 * p).sum(-1) + 1.0


def ball(p: torch.Tensor) -> torch.Tensor:
    return (p - torch.tensor([0.1, -0.05, 1.1], dtype=torch.float64)).norm(dim=-1) - 0.4


@pytest.fixture(scope="module")
def plane_grid() -> gs.VoxelGrid:
    return volume(plane)


@pytest.fixture(scope="module")
def ball_grid() -> gs.VoxelGrid:
    return volume(ball, 0.02)


def test_a_plane_has_its_exact_depth_normal_and_color(plane_grid):
    seen = gs.raycast(plane_grid, HERE, K, SIZE)
    assert seen.mask.double().mean() > 0.95 and seen.mask[0, 2:-2, 2:-2].all()
    p = camera.unproject(seen.depth, K)[seen.mask[..., 0]]
    assert plane(p).abs().max() < 1e-9
    n = torch.tensor([0.2, -0.3, -1.0], dtype=torch.float64) / 1.13**0.5
    assert torch.allclose(seen.normal[seen.mask[..., 0]], n.expand_as(p), atol=1e-9)
    assert torch.allclose(seen.color[seen.mask[..., 0]], 0.5 + 0.3 * torch.sin(2 * p), atol=2e-3)


def test_rays_beside_the_centers_of_their_pixels_meet_the_same_plane(plane_grid):
    offset = low_discrepancy_offsets(SIZE)
    assert offset.abs().max() <= 0.5 and offset.mean((0, 1)).abs().max() < 0.01
    assert offset.diff(dim=0).abs().amin() > 0.1 and offset.diff(dim=1).abs().amin() > 0.1
    seen = gs.raycast(plane_grid, HERE, K, SIZE, offset=offset)
    p = (pixel_rays(K, SIZE, offset) * seen.depth)[seen.mask[..., 0]]
    assert len(p) > 1000 and plane(p).abs().max() < 1e-9
    uv, _ = camera.project(pixel_rays(K, SIZE, offset).flatten(1, 2), K)
    assert torch.allclose(uv, (camera.pixel_grid(*SIZE, dtype=K.dtype) + offset).reshape(1, -1, 2))


def test_nothing_is_seen_where_nothing_is(plane_grid):
    away = se3.exp(torch.tensor([[0.0, 0, 0, 0, 3.1, 0]], dtype=torch.float64))
    for grid, T_wc in ((plane_grid, away), (gs.VoxelGrid.empty(dtype=torch.float64), HERE)):
        seen = gs.raycast(grid, T_wc, K, SIZE)
        assert not seen.mask.any() and (seen.depth == 0).all() and (seen.normal == 0).all() and (seen.color == 0).all()


def test_a_surface_is_not_seen_from_behind(plane_grid):
    behind = se3.exp(torch.tensor([[0.0, 0, 2.4, 0, 0, 0]], dtype=torch.float64)) @ se3.exp(
        torch.tensor([[0.0, 0, 0, 0, 3.14, 0]], dtype=torch.float64)
    )
    assert not gs.raycast(plane_grid, behind, K, SIZE).mask.any()


def test_a_ball_is_round(ball_grid):
    """The outline too: every ray that comes at least a voxel within it meets it, none beyond does."""
    seen = gs.raycast(ball_grid, HERE, K, SIZE)
    rays = torch.nn.functional.normalize(camera.unproject(torch.ones(1, *SIZE, 1, dtype=torch.float64), K), dim=-1)
    center = torch.tensor([0.1, -0.05, 1.1], dtype=torch.float64)
    along = rays @ center
    closest = (center.square().sum() - along.square()).sqrt()
    assert seen.mask[..., 0][closest < 0.37].all() and not seen.mask[..., 0][closest > 0.41].any()
    mask = seen.mask[..., 0] & (closest < 0.35)
    truth = (along - (0.16 - closest.square()).clamp(min=0).sqrt()) * rays[..., 2]
    assert (seen.depth[..., 0] - truth)[mask].abs().max() < 1e-3
    p = camera.unproject(seen.depth, K)
    assert ((p - center) / 0.4 * seen.normal).sum(-1)[mask].min() > 0.99


def test_the_picture_moves_with_the_camera(ball_grid):
    """Nearer by what it moved; the same rays meet the same points."""
    T = se3.exp(torch.tensor([[0.0, 0, 0.3, 0, 0, 0.4]], dtype=torch.float64))
    moved = gs.raycast(ball_grid, T, K, SIZE)
    p_w = se3.transform(T, camera.unproject(moved.depth, K).flatten(1, 2))[0][moved.mask.flatten()]
    assert len(p_w) > 200 and ball(p_w).abs().max() < 4e-3 and ball(p_w).abs().median() < 3e-4


def test_batch_elements_are_seen_by_their_own_cameras(room):
    walks = [room.walk(13, seed) for seed in (0, 1)]
    views = [room.view(torch.stack([w[i] for w in walks]), (48, 64)) for i in (0, 6)]
    with torch.no_grad():
        grid = gs.integrate(gs.VoxelGrid.empty(2, 0.05, 0.2), views[0])
        both = gs.raycast(grid, views[1].T_wc, views[1].K, (48, 64))
        for b in (0, 1):
            alone = gs.raycast(grid[b], views[1].T_wc[b : b + 1], views[1].K[b : b + 1], (48, 64))
            for name in ("depth", "normal", "color", "mask"):
                assert torch.equal(getattr(both, name)[b], getattr(alone, name)[0]), name
        mask = both.mask & (views[1].depth > 0)
        assert mask.float().mean() > 0.5
        assert (both.depth - views[1].depth)[mask].abs().quantile(0.9) < 0.01


def test_images_have_the_gradients_of_central_differences(ball_grid):
    """To the volume, pose and camera, at every pixel but the outline's; everything is computed anew, the search
    included: nothing is held."""
    generator = torch.Generator().manual_seed(0)
    uneven = ball_grid.weight * (1 + torch.rand(ball_grid.weight.shape, generator=generator, dtype=torch.float64))
    inner = gs.raycast(ball_grid, HERE, K, SIZE)
    inner = (inner.normal[..., 2] < -0.5)[0]  # away from the depth edge
    assert inner.sum() > 300

    def images(xi, K, **values):
        seen = gs.raycast(dataclasses.replace(ball_grid, **values), se3.exp(xi) @ HERE, K, SIZE)
        return {name: getattr(seen, name)[0, inner] for name in ("depth", "normal", "color", "weight")}

    inputs = {"xi": torch.zeros(1, 6, dtype=torch.float64), "K": K, "sdf": ball_grid.sdf, "color": ball_grid.color}
    inputs["weight"] = uneven
    leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    outputs, errors, compare_views = images(**leaves), [], set()
    for name, value in inputs.items():
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64) * (value if value.any() else 1)
        h = 1e-7
        ends = [images(**(inputs | {name: value + sign * h * direction})) for sign in (1, -1)]
        for output, image in outputs.items():
            numeric = (ends[0][output] - ends[1][output]) / (2 * h)
            # along the direction, for all pixels at once: the backward pass is linear in what it is given
            given = torch.zeros_like(image, requires_grad=True)
            options = {"create_graph": True, "allow_unused": True}
            (back,) = torch.autograd.grad(image, leaves[name], given, **options)
            if back is None:
                assert numeric.abs().max() == 0
                continue
            (analytic,) = torch.autograd.grad((back * direction).sum(), given, retain_graph=True)
            assert numeric.abs().max() > 0
            errors.append((analytic - numeric).abs().flatten() / numeric.abs().max())
            compare_views.add((output, name))
    assert len(compare_views) == 14  # all but depth and normal to color and weight, and those two to each other
    errors = torch.cat(errors)
    assert errors.median() <= 1e-6 and errors.max() <= 1e-4, errors.sort(descending=True).values[:10]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_gradient_is_ever_not_a_number(plane_grid, ball_grid, dtype):
    """Rays that miss or graze, a camera within the surface or an empty volume, unknown voxels and zeros in between."""
    holes = ball_grid.map(lambda value: value.clone())
    holes.weight[::2, ::3] = 0
    holes.sdf[1::2, ::5] = 0
    empty = gs.VoxelGrid.empty(dtype=dtype)
    steps = [
        [0.0, 0, 0, 0, 0, 0],
        [0.1, -0.05, 0.7, 0, 0, 0],
        [0, 0, 1.1, 0.3, 1, 0],
        [0.5, 0, 0.9, 0, 0, 0],
        [0, 0, 0.95, 1.5, 0, 0],
    ]
    for grid in (plane_grid, ball_grid, holes, empty):
        for step in steps:
            T_wc = se3.exp(torch.tensor([step], dtype=dtype)).requires_grad_()
            k = K.to(dtype).clone().requires_grad_()
            sdf, color = (x.to(dtype).clone().requires_grad_() for x in (grid.sdf, grid.color))
            mine = dataclasses.replace(
                grid, sdf=sdf, color=color, weight=grid.weight.to(dtype), color_weight=grid.color_weight.to(dtype)
            )
            seen = raycast(mine, T_wc, k, SIZE)
            (seen.depth.sum() + seen.normal.sum() + seen.color.sum() + 0 * (sdf.sum() + color.sum())).backward()
            for image in (seen.depth, seen.normal, seen.color):
                assert image.isfinite().all()
            for x in (T_wc, k, sdf, color):
                assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("T_wc", "K_", "match"), [(HERE[0], K, "T_wc"), (HERE, K[0], "K"), (HERE.expand(2, 4, 4), K, "T_wc")]
)
def test_shapes_that_do_not_fit_are_refused(plane_grid, T_wc, K_, match):
    with pytest.raises(ValueError, match=match):
        gs.raycast(plane_grid, T_wc, K_, SIZE)


def test_blocks_side_by_side_and_sorted_show_the_same(ball_grid, monkeypatch):
    """Memory of the index does not go with the box around the blocks in sight, however large."""
    dense = gs.raycast(ball_grid, HERE, K, SIZE)
    monkeypatch.setattr(block_index, "DENSE_CELLS", 0)
    seen = gs.raycast(ball_grid, HERE, K, SIZE)
    assert torch.equal(seen.depth, dense.depth) and torch.equal(seen.color, dense.color) and dense.mask.any()
