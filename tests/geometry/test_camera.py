"""The pinhole camera on known answers, and gradients to every input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradslam_ng.geometry import camera


def intrinsics(dtype: torch.dtype = torch.float64, skew: float = 0.0) -> Tensor:
    return torch.tensor([[52.0, skew, 31.7], [0.0, 51.0, 23.2], [0.0, 0.0, 1.0]], dtype=dtype)


def test_a_point_on_the_axis_is_seen_at_the_principal_point():
    uv, z = camera.project(torch.tensor([[0.0, 0.0, 2.0], [0.5, -1.0, 2.0]]), intrinsics(torch.float32))
    torch.testing.assert_close(uv, torch.tensor([[31.7, 23.2], [31.7 + 13.0, 23.2 - 25.5]]))
    assert z.tolist() == [2.0, 2.0]


def test_pixel_grid_counts_from_the_first_center():
    grid = camera.pixel_grid(2, 3)
    assert grid.tolist() == [[[0, 0], [1, 0], [2, 0]], [[0, 1], [1, 1], [2, 1]]]


@pytest.mark.parametrize("skew", [0.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_projection_inverts_unprojection(dtype, skew):
    depth = 0.5 + torch.rand(2, 3, 48, 64, 1, dtype=dtype)
    K = intrinsics(dtype, skew) * torch.tensor([1.1, 1.0], dtype=dtype)[:, None, None, None]  # one camera per batch
    K[..., 2, 2] = 1
    uv, z = camera.project(camera.unproject(depth, K).flatten(-3, -2), K)
    grid = camera.pixel_grid(48, 64, dtype=dtype).reshape(-1, 2).expand_as(uv)
    torch.testing.assert_close(uv, grid, rtol=0, atol=1e-4 if dtype == torch.float32 else 1e-12)
    torch.testing.assert_close(z, depth.flatten(2))


def test_holes_unproject_to_zero_without_gradient():
    depth = torch.tensor([0.0, -1.0, torch.nan, torch.inf, 2.0]).reshape(1, 5, 1).requires_grad_()
    vertices = camera.unproject(depth, intrinsics(torch.float32))
    assert (vertices[0, :4] == 0).all()
    assert vertices[0, 4, 2] == 2
    vertices.sum().backward()
    assert (depth.grad[0, :4] == 0).all()
    assert depth.grad[0, 4] != 0


def test_gradients_to_depth_points_and_intrinsics():
    K = intrinsics(skew=0.5).requires_grad_()
    depth = (1.0 + torch.rand(2, 4, 5, 1, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(camera.unproject, (depth, K))
    points = (torch.rand(2, 6, 3, dtype=torch.float64) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(camera.project, (points, K))
    assert torch.autograd.gradgradcheck(camera.project, (points, K))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_points_behind_the_camera_project_finitely(dtype):
    z = torch.tensor([0.0, -0.0, -1.0, 1e-30, 1e-6, 1e4], dtype=dtype)
    points = torch.stack([torch.ones_like(z), -torch.ones_like(z), z], dim=-1).requires_grad_()
    K = intrinsics(dtype).requires_grad_()
    uv, _ = camera.project(points, K)
    uv.sum().backward()
    assert uv.isfinite().all()
    assert points.grad.isfinite().all()
    assert K.grad.isfinite().all()


def test_scaled_intrinsics_see_the_same_rays_at_block_centers():
    K, factor = intrinsics(skew=0.7), 4
    block_centers = factor * camera.pixel_grid(12, 16, dtype=torch.float64).reshape(-1, 2) + (factor - 1) / 2
    coarse = camera.unproject(torch.ones(12, 16, 1, dtype=torch.float64), camera.scale_intrinsics(K, 1 / factor))
    uv, _ = camera.project(coarse.reshape(-1, 3), K)
    torch.testing.assert_close(uv, block_centers)


def test_intrinsics_scale_per_axis_and_back():
    K = intrinsics()
    scaled = camera.scale_intrinsics(K, (0.5, 0.25))
    assert scaled[0, 0] == 26.0 and scaled[1, 1] == 12.75
    torch.testing.assert_close(camera.scale_intrinsics(scaled, (2.0, 4.0)), K)


@pytest.mark.parametrize("shift", [0.0, 0.3], ids=["at centers", "between"])
@pytest.mark.parametrize("width", [1, 9])
def test_gradients_of_samples_are_free_central_differences(shift, width):
    """Interpolation has a kink at every center, which is where a camera looks that is where it was expected."""
    image = torch.rand(2, 7, width, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    uv = (camera.pixel_grid(7, width, dtype=torch.float64) + shift).requires_grad_()
    weight = torch.rand(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ends = [camera.sample(image, uv.detach() + step) for step in (1e-6, -1e-6)]
    (gradient,) = torch.autograd.grad((weight * camera.sample(image, uv)).sum(), uv)
    expected = (weight * (ends[0] - ends[1]) / 2e-6).sum((0, -1))
    torch.testing.assert_close(gradient.sum(-1), expected, rtol=1e-4, atol=1e-5)


def test_samples_are_zero_outside_and_where_nothing_is_asked_for():
    image = torch.ones(4, 5, 2)
    uv = torch.tensor([[[-1.0, 0], [5.0, 0], [0.0, -1e6], [torch.nan, 1], [2, torch.inf], [4.4, 3], [4.0, 3]]])
    expected = torch.tensor([0.0, 0, 0, 0, 0, 0.6, 1])
    for recorded in (False, True):
        found = camera.sample(image, uv.clone().requires_grad_(recorded))
        torch.testing.assert_close(found, expected[None, :, None].expand(1, 7, 2))
    nearest = camera.sample(image, uv, mode="nearest")
    torch.testing.assert_close(nearest[0, :, 0], torch.tensor([0.0, 0, 0, 0, 0, 1, 1]))
