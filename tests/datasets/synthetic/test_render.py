"""The renderer: depth against closed forms and between frames, gradients, anti-aliasing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradslam_ng.datasets.synthetic.paths import camera_path, upright
from gradslam_ng.datasets.synthetic.render import nearest, render, shoot
from gradslam_ng.datasets.synthetic.rooms import Room, room
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.geometry import camera, se3

SIZE = (60, 80)
K = default_intrinsics(SIZE)


@pytest.fixture(scope="module")
def poses() -> torch.Tensor:
    return camera_path("handheld", room("living_room"), 301)[1]


def test_depth_of_a_plane():
    """Every pixel of the flat wall, y = 0, against ray meets plane."""
    T_wc = camera_path("handheld", room("wall"), 100)[1][99]
    view = render(room("wall"), T_wc, K, SIZE)
    uv = camera.pixel_grid(*SIZE, dtype=torch.float64)
    ray_w = torch.cat([(uv - K[:2, 2]) / K[0, 0], torch.ones(*SIZE, 1, dtype=torch.float64)], -1) @ T_wc[:3, :3].mT
    torch.testing.assert_close(view.depth[..., 0], -T_wc[1, 3] / ray_w[..., 1], rtol=1e-12, atol=0)
    torch.testing.assert_close(view.normal, (T_wc[:3, :3].mT @ torch.tensor([0.0, -1, 0]).double()).expand(*SIZE, 3))


def test_depth_unprojects_onto_the_surfaces(poses):
    """The camera model of `geometry` and the renderer's are the same one."""
    view = render(room("living_room"), poses[40], K, SIZE)
    p_w = se3.transform(poses[40], camera.unproject(view.depth, K).reshape(-1, 3))
    distance = torch.stack([solid.distance(p_w) for solid in room("living_room").solids])
    own = distance.gather(0, view.solid.reshape(1, -1))[0]
    assert own.abs().max() < 1e-4
    assert (own.abs() < 1e-9).double().mean() > 0.998  # all but rays that graze
    assert room("living_room").clearance(p_w).min() > -1e-4  # nothing lies before what is seen


def test_depth_agrees_between_frames(poses):
    """Points seen from one pose are found at their depth from another, unless something is before them."""
    living_room = room("living_room")
    view = render(living_room, poses[0], K, SIZE)
    p_w = se3.transform(poses[0], camera.unproject(view.depth, K).reshape(-1, 3))
    uv, z = camera.project(se3.transform(se3.inverse(poses[60]), p_w), K)
    inside = (z > 0) & (uv >= 0).all(-1) & (uv[:, 0] < SIZE[1]) & (uv[:, 1] < SIZE[0])
    _, depth, _, solid = shoot(living_room, poses[60], K, uv[inside])
    z, expected = z[inside], view.solid.flatten()[inside]
    same = (depth - z).abs() < 1e-4
    assert inside.double().mean() > 0.5
    assert same.double().mean() > 0.8
    assert (depth <= z + 1e-4).all()
    assert (solid == expected)[same].double().mean() > 0.99
    assert (depth - z).abs()[same].quantile(0.99) < 1e-7


def test_normals_face_the_camera_and_have_unit_length(poses):
    view = render(room("living_room"), poses[100], K, SIZE)
    ray = camera.unproject(torch.ones(*SIZE, 1, dtype=torch.float64), K)
    torch.testing.assert_close(view.normal.norm(dim=-1), torch.ones(SIZE, dtype=torch.float64))
    assert (view.normal * ray).sum(-1).max() < 1e-2


def test_depth_and_color_have_the_gradient_of_central_differences(poses):
    """With respect to the pose, away from edges; the texture's color in float32."""
    living_room, interior = room("living_room"), _interior(render(room("living_room"), poses[20], K, SIZE))
    at = interior.nonzero()[:: int(interior.sum()) // 60].flip(-1).double()

    def seen(xi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        color, depth, _, _ = shoot(living_room, se3.exp(xi) @ poses[20], K, at)
        return color.mean(-1), depth

    zero = torch.zeros(6, dtype=torch.float64)
    J_color, J_depth = torch.func.jacfwd(seen)(zero)
    for i in range(6):
        step = 1e-5 * torch.nn.functional.one_hot(torch.tensor(i), 6).double()
        color, depth = ((in_front - behind) / 2e-5 for in_front, behind in zip(seen(step), seen(-step), strict=True))
        torch.testing.assert_close(J_depth[:, i], depth, rtol=1e-5, atol=1e-6)
        assert torch.nn.functional.cosine_similarity(J_color[:, i], color, dim=0) > 0.98


def _interior(view) -> torch.Tensor:
    """Pixels (H, W) whose neighbors two pixels about see the same solid."""
    solid = view.solid[None].float()
    pool = torch.nn.functional.max_pool2d
    return ((pool(solid, 5, 1, 2) == solid) & (-pool(-solid, 5, 1, 2) == solid))[0]


def test_gradients_are_finite_everywhere(poses):
    T_wc, intrinsics = poses[200].clone().requires_grad_(), K.clone().requires_grad_()
    view = render(room("living_room"), T_wc, intrinsics, SIZE)
    (view.depth.sum() + view.color.sum() + view.normal.sum()).backward()
    assert T_wc.grad.isfinite().all()
    assert intrinsics.grad.isfinite().all()
    assert T_wc.grad[:3, 3].abs().min() > 0


def test_batches_are_frames(poses):
    batch = poses[:4:2].reshape(2, 1, 4, 4).float()
    views = render(room("corner"), batch, K.expand(2, 1, 3, 3), (24, 32))
    assert views.depth.shape == (2, 1, 24, 32, 1)
    assert views.color.shape == (2, 1, 24, 32, 3)
    assert views.depth.dtype == torch.float32
    one = render(room("corner"), batch[1, 0], K, (24, 32))
    assert torch.equal(views.depth[1, 0], one.depth)
    assert torch.equal(views.color[1, 0], one.color)


def test_nothing_is_seen_where_there_is_nothing():
    """A camera that looks away from the bare corner."""
    empty = Room("corner", room("corner").solids, (), background=(0.1, 0.2, 0.3))
    T_wc = torch.eye(4, dtype=torch.float64)
    T_wc[:3, :3] = torch.from_numpy(upright(np.full((1, 3), 3**-0.5)))[0]
    T_wc[:3, 3] = 1.0
    view = render(empty, T_wc, K, (24, 32))
    assert (view.depth == 0).all()
    assert (view.solid == -1).all()
    torch.testing.assert_close(view.color[5, 7], torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))


def test_the_order_of_rays_does_not_matter(poses):
    """Bundles of rays are tested together; whichever they are, the nearest solid is found."""
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(3001, 3, generator=generator, dtype=torch.float64)
    shuffle = torch.randperm(len(d), generator=generator)
    solids, o = room("living_room").solids, poses[0, :3, 3]
    index, t = nearest(solids, o, d)
    shuffled_index, shuffled_t = nearest(solids, o, d[shuffle])
    assert torch.equal(index[shuffle], shuffled_index)
    torch.testing.assert_close(t[shuffle], shuffled_t, rtol=1e-6, atol=0)
    for i in range(0, 3001, 300):  # each ray by itself against every solid
        hits = [solid.shape.intersect(solid.to_local(o), solid.rotate_to_local(d[i : i + 1])) for solid in solids]
        first = min(float(t) for t, hit in hits if hit)
        assert t[i].item() == pytest.approx(first, rel=1e-5)


def test_antialiasing_changes_silhouettes_alone(poses):
    smooth = render(room("living_room"), poses[0], K, SIZE)
    sharp = render(room("living_room"), poses[0], K, SIZE, antialias=False)
    assert torch.equal(smooth.depth, sharp.depth)
    changed = (smooth.color != sharp.color).any(-1)
    assert 0.05 < changed.double().mean() < 0.6
    assert not (changed & _interior(sharp) & (_curvature(sharp.normal) < 1e-3)).any()


def _curvature(normal: torch.Tensor) -> torch.Tensor:
    """How much the normal turns within two pixels."""
    spread = [torch.nn.functional.max_pool2d(sign * normal.permute(2, 0, 1), 5, 1, 2) for sign in (1, -1)]
    return (spread[0] + spread[1]).amax(0)


@pytest.mark.parametrize("name", ["living_room", "corridor", "wall"])
def test_texture_does_not_alias(name):
    """A small image is the large one averaged: the texture is filtered to the pixel."""
    T_wc = camera_path("handheld", room(name), 10)[1][0]
    small = render(room(name), T_wc, K, SIZE)
    large = render(room(name), T_wc, default_intrinsics((240, 320)), (240, 320), antialias=False)
    mean = large.color.reshape(60, 4, 80, 4, 3).mean((1, 3))
    difference = (small.color - mean)[_interior(small)]
    assert difference.abs().mean() < 0.015
    assert difference.square().mean().sqrt() < 0.03
