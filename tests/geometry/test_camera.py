"""The pinhole camera and its lens on known answers, and gradients to every input."""

from __future__ import annotations

import subprocess
import sys

import kornia
import pytest
import torch
from torch import Tensor

from gradslam_ng.geometry import camera

DISTORTION = (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)  # k1, k2, p1, p2, k3 of TUM freiburg1


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


def distort(xy: Tensor, distortion: Tensor) -> Tensor:
    """Brown-Conrady lens model on normalized coordinates (..., 2) (Brown 1971), coefficients k1, k2, p1, p2, k3."""
    x, y = xy.unbind(-1)
    k1, k2, p1, p2, k3 = distortion.unbind(-1)
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    x_seen = x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)
    y_seen = y * radial + 2.0 * p2 * x * y + p1 * (r2 + 2.0 * y * y)
    return torch.stack([x_seen, y_seen], dim=-1)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_the_map_of_a_lens_is_browns_model(lead):
    K = intrinsics().expand(*lead, 3, 3)
    coefficients = torch.tensor(DISTORTION, dtype=torch.float64).expand(*lead, 5)
    rays = camera.unproject(torch.ones(48, 64, 1, dtype=torch.float64), intrinsics())
    seen = torch.cat([distort(rays[..., :2], torch.tensor(DISTORTION, dtype=torch.float64)), rays[..., 2:]], -1)
    truth, _ = camera.project(seen.flatten(0, 1), intrinsics())
    uv = camera.undistortion_map(K, coefficients, (48, 64))
    torch.testing.assert_close(uv, truth.unflatten(0, (48, 64)).expand(*lead, 48, 64, 2))


def pattern(rays: Tensor) -> Tensor:
    """A smooth image (..., 1) over normalized coordinates (..., 2)."""
    return 1.0 + 0.3 * torch.sin(9.0 * rays[..., :1]) * torch.cos(7.0 * rays[..., 1:])


def rays_seen_through_the_lens(K: Tensor, distortion: Tensor, height: int, width: int) -> Tensor:
    """Undistorted coordinates (H, W, 2) of every pixel of the distorted image, by Newton's method on the lens model."""
    seen = camera.unproject(torch.ones(height, width, 1, dtype=K.dtype), K)[..., :2].reshape(-1, 2)
    rays = seen.clone()
    for _ in range(20):
        jacobian = torch.vmap(torch.func.jacfwd(lambda xy: distort(xy, distortion)))(rays)
        rays = rays - torch.linalg.solve(jacobian, distort(rays, distortion) - seen)
    assert (distort(rays, distortion) - seen).abs().max() < 1e-12
    return rays.reshape(height, width, 2)


def test_undistortion_returns_the_ideal_image():
    K, (height, width) = camera.scale_intrinsics(intrinsics(), 4), (192, 256)
    distortion = torch.tensor(DISTORTION, dtype=torch.float64)
    image = pattern(rays_seen_through_the_lens(K, distortion, height, width))
    ideal = pattern(camera.unproject(torch.ones(height, width, 1, dtype=torch.float64), K)[..., :2])
    assert (image - ideal).abs().max() > 0.02  # there is something to undo
    uv = camera.undistortion_map(K, distortion, (height, width))
    inside = ((uv >= 0) & (uv <= torch.tensor([width - 1, height - 1]))).all(-1)
    assert inside.double().mean() > 0.9
    undone, _ = camera.undistort_images(image, image, uv)
    assert (undone - ideal)[inside].abs().max() < 3e-4  # what bilinear sampling loses
    assert (undone[~inside] < ideal[~inside]).all()  # fading to zero outside


def test_undistortion_equals_kornia():
    K, image = intrinsics(), torch.rand(2, 48, 64, 3, dtype=torch.float64)
    coefficients = torch.tensor(DISTORTION, dtype=torch.float64)
    truth = kornia.geometry.calibration.undistort_image(
        image.movedim(-1, 1), K.expand(2, 3, 3), coefficients.expand(2, 5)
    )
    uv = camera.undistortion_map(K, DISTORTION, (48, 64))
    color, _ = camera.undistort_images(image, image[..., :1], uv)
    torch.testing.assert_close(color, truth.movedim(1, -1), rtol=0, atol=1e-9)


def test_undistorted_depth_mixes_no_measurements():
    K = intrinsics(torch.float32)
    depth = torch.tensor([0.0, 1.0, 3.0])[torch.randint(3, (48, 64, 1))]
    color = torch.rand(48, 64, 3)
    _, undone = camera.undistort_images(color, depth, camera.undistortion_map(K, DISTORTION, (48, 64)))
    assert set(undone.unique().tolist()) == {0.0, 1.0, 3.0}
    same = camera.undistort_images(color, depth, camera.undistortion_map(K, (0.0,) * 5, (48, 64)))
    torch.testing.assert_close(same[0], color, rtol=0, atol=1e-5)
    torch.testing.assert_close(same[1], depth, rtol=0, atol=0)


def test_undistortion_has_gradients_to_image_camera_and_lens():
    image = torch.rand(6, 8, 2, dtype=torch.float64).requires_grad_()
    K = torch.tensor([[9.0, 0.0, 3.3], [0.0, 8.0, 2.6], [0.0, 0.0, 1.0]], dtype=torch.float64).requires_grad_()
    distortion = torch.tensor([0.05, -0.02, 0.003, -0.002, 0.01], dtype=torch.float64).requires_grad_()

    def undistort(image: Tensor, K: Tensor, distortion: Tensor) -> Tensor:
        return camera.undistort_images(image, image.detach()[..., :1], camera.undistortion_map(K, distortion, (6, 8)))[
            0
        ]

    assert torch.autograd.gradcheck(undistort, (image, K, distortion))


def test_wrong_number_of_coefficients_is_refused():
    with pytest.raises(ValueError, match=r"k1, k2, p1, p2.*\(3,\)"):
        camera.undistortion_map(intrinsics(), (0.1, 0.0, 0.0), (4, 5))


def test_kornia_is_imported_where_a_lens_is_undone_only():
    code = "import sys, gradslam_ng.geometry.camera; raise SystemExit('kornia' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
