from __future__ import annotations

import math

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


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e30, 65.535, 50.1])
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
