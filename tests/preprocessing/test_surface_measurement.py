from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gradslam_ng.geometry import camera, depth_noise
from gradslam_ng.preprocessing import measure_surface


def test_full_size_is_the_frame_itself(room):
    frame = room.view(room.walk(2), (48, 64), torch.float64)
    live = measure_surface(frame)
    assert torch.equal(live.color, frame.color) and torch.equal(live.surface.K, frame.K)
    assert torch.equal(live.T_wc, frame.T_wc)
    assert live.surface.size == (48, 64)
    surface = live.surface
    assert surface.weights.mean() > 0.9  # all but where the crate hides the wall
    assert torch.allclose(surface.normals.norm(dim=-1), surface.weights)
    assert ((surface.normals * surface.vertices).sum(-1) <= 0).all()  # towards the camera
    error = (live.surface.vertices[..., 2:] - frame.depth).abs()
    assert error.median() < 1e-9 and error.quantile(0.95) < 2e-3  # planes stay; creases are rounded a little
    assert torch.allclose(live.sigma, depth_noise.axial_sigma(live.surface.vertices[..., 2]))


@pytest.mark.parametrize("factor", [2, 3])
def test_shrunk_frames_see_the_same_scene(room, factor):
    T_wc = room.walk(1)
    live = measure_surface(room.view(T_wc, (96, 120), torch.float64), factor)
    assert live.surface.size == live.color.shape[1:3] == (96 // factor, 120 // factor)
    points = live.surface.vertices[0].reshape(-1, 3) @ T_wc[0, :3, :3].mT + T_wc[0, :3, 3]
    walls = (points[:, None] - room.corners).abs().amin((1, 2))
    crate = ((points[:, None] - room.crate).abs()).amin((1, 2))
    error = torch.minimum(walls, crate)
    assert error.median() < 2e-4 and error.quantile(0.9) < 0.012  # a block of a slanted wall keeps its nearer part
    uv, _ = camera.project(live.surface.vertices.flatten(1, 2), live.surface.K)
    grid = camera.pixel_grid(*live.surface.size, dtype=torch.float64).flatten(0, 1)
    assert torch.allclose(uv[0], grid, atol=1e-9)


HOLES = [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e30, 65.535, 50.1, 1e-2, 1e-6, 1e-15, 1e-20, 1e-40]


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("factor", [1, 2])
def test_what_is_no_depth_is_no_reading_and_spoils_no_neighbor(room, hole, factor):
    frame = room.view(room.walk(1), (48, 64))
    depth = frame.depth.clone().requires_grad_()
    holed = torch.where(torch.arange(64)[:, None] % 8 < 2, hole, depth)
    live = measure_surface(type(frame)(frame.color, holed, frame.K), factor)
    hole = (torch.arange(64 // factor) * factor) % 8 < 2
    whole = measure_surface(frame, factor).surface.weights
    assert (live.surface.weights[:, :, hole] == 0).all()
    assert live.surface.weights[:, :, ~hole].mean() > 0.97 * whole[:, :, ~hole].mean() > 0.75
    assert (live.surface.normals[:, :, hole] == 0).all() and (live.surface.vertices[:, :, hole] == 0).all()
    assert live.surface.vertices.isfinite().all() and live.sigma.isfinite().all()
    (live.surface.vertices.sum() + live.surface.normals.sum() + live.sigma.sum()).backward()
    assert depth.grad.isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 255.0, -2.0])
@pytest.mark.parametrize("factor", [1, 2])
def test_a_pixel_without_a_color_is_as_one_without_depth(room, value, factor):
    """Alone or in a patch; at half size the other pixels of its block count."""
    frame = room.view(room.walk(1), (48, 64))
    color, depth = frame.color.clone(), frame.depth.clone()
    for pixels in ((0, 11, 20), (0, slice(20, 26), slice(30, 40))):
        color[pixels] = torch.tensor([0.5, value, 0.5])
        depth[pixels] = 0.0
    given = [color.clone().requires_grad_(), frame.depth.clone().requires_grad_()]
    live = measure_surface(type(frame)(*given, frame.K), factor)
    expected = measure_surface(type(frame)(frame.color, depth, frame.K), factor)
    for name in ("vertices", "normals", "weights"):
        assert torch.equal(getattr(live.surface, name), getattr(expected.surface, name))
    assert torch.equal(live.depth, expected.depth) and live.color.isfinite().all()
    seen = expected.depth > 0
    assert (live.color - expected.color)[seen].abs().max() < 0.02  # a block that lost one pixel
    (live.color.sum() + live.surface.vertices.sum() + live.surface.intensity.sum()).backward()
    outside = ~color.isfinite().all(-1) | (color.abs() > 1.5).any(-1)
    for x in given:
        assert x.grad.isfinite().all() and not x.grad[outside].any() and x.grad[~outside].any()


def test_a_reading_without_neighbors_has_no_normal_and_no_weight(room):
    frame = room.view(room.walk(1))
    depth = torch.zeros_like(frame.depth)
    depth[:, 30, 40] = 1.0
    surface = measure_surface(type(frame)(frame.color, depth, frame.K)).surface
    assert surface.weights.sum() == 0 and surface.vertices.isfinite().all() and surface.normals.isfinite().all()


def test_noise_may_be_any_function_of_surface_and_color(room):
    frame = room.view(room.walk(1), (48, 64))
    live = measure_surface(frame, noise=lambda surface, color: 0.01 * surface.vertices[..., 2] * (1 + color[..., 0]))
    assert torch.allclose(live.sigma, 0.01 * live.surface.vertices[..., 2] * (1 + frame.color[..., 0]))


@pytest.mark.parametrize("model", [
    lambda s, a: a * s.vertices[..., 2] ** 2,
    lambda s, a: a / s.vertices[..., 2],
    lambda s, a: a * s.vertices[..., 2].sqrt(),
    lambda s, a: a * (s.vertices[..., 2].log() + 1),
    lambda s, a: torch.where(s.weights > 0, a, math.nan),
    lambda s, a: torch.where(s.weights > 0, a, -1.0),
    lambda s, a: torch.where(s.weights > 0, a, 1e30),
])  # fmt: skip
def test_what_a_noise_model_says_of_holes_does_not_matter(room, model):
    frame = room.view(room.walk(1), (48, 64))
    depth = frame.depth.clone()
    depth[:, 5:9, 7:30] = 0.0
    depth.requires_grad_()
    a = torch.tensor(0.002, requires_grad=True)
    live = measure_surface(type(frame)(frame.color, depth, frame.K), noise=lambda s, _: model(s, a))
    seen = live.surface.weights > 0
    assert live.sigma.isfinite().all() and (live.sigma > 0).all() and seen.float().mean() > 0.7
    (1 / live.sigma**2 * live.surface.weights).sum().backward()
    assert a.grad.isfinite() and a.grad != 0
    assert depth.grad is None or (depth.grad.isfinite().all() and not depth.grad[:, 5:9, 7:30].any())


def test_where_noise_is_no_number_a_pixel_weighs_nothing(room):
    frame = room.view(room.walk(1), (48, 64))
    usual = measure_surface(frame).surface.weights
    for value, weighs in ((math.nan, 0), (math.inf, 0), (-1.0, 0), (0.0, 1), (1e-30, 1), (1e30, 1)):
        said = torch.full((1, 48, 64), 0.01)
        said[:, 20:30] = value
        said.requires_grad_()
        live = measure_surface(frame, noise=lambda surface, color, said=said: said)
        assert torch.equal(live.surface.weights[:, 20:30], weighs * usual[:, 20:30])
        assert torch.equal(live.surface.weights[:, :20], usual[:, :20])
        assert (live.sigma >= 1e-5).all() and (live.sigma <= 1e3).all()
        (live.surface.weights / live.sigma**2).sum().backward()
        assert said.grad.isfinite().all() and not said.grad[:, 20:30].any() and said.grad[:, :20].any()
    with pytest.raises(ValueError, match=r"noise: expected shape \(1, 48, 64\), got \(1, 48, 64, 1\)"):
        measure_surface(frame, noise=lambda surface, color: surface.vertices[..., 2:])
    with pytest.raises(ValueError, match=r"noise: expected a tensor of shape \(1, 48, 64\), got 0.01"):
        measure_surface(frame, noise=lambda surface, color: 0.01)


def test_a_camera_or_pose_that_is_none_costs_its_own_frame_only(room):
    frames = room.view(room.walk(4), (48, 64))
    K, T_wc = frames.K.clone(), frames.T_wc.clone()
    K[1, 0, 0], K[2] = math.nan, 0.0
    T_wc[0], T_wc[1], T_wc[2] = 0.0, T_wc[1] * torch.tensor([-1.0, 1, 1, 1]), math.inf
    K.requires_grad_(), T_wc.requires_grad_()
    live, expected = measure_surface(replace(frames, K=K, T_wc=T_wc)), measure_surface(frames)
    assert live.has_camera.tolist() == [True, False, False, True] and not live.surface.weights[1:3].any()
    assert camera.is_pinhole(live.surface.K, (48, 64)).all()  # a stand-in where there was none
    assert live.T_wc.isfinite().flatten(1).all(1).tolist() == [False, False, False, True]
    for name in ("vertices", "normals", "K"):
        found, usual = getattr(live.surface, name), getattr(expected.surface, name)
        assert torch.equal(found[[0, 3]], usual[[0, 3]]) and found.isfinite().all()
    (live.surface.vertices.sum() + live.surface.K.sum() + live.T_wc[3].sum()).backward()
    assert K.grad.isfinite().all() and not K.grad[1:3].any() and K.grad[3].any() and T_wc.grad.isfinite().all()
