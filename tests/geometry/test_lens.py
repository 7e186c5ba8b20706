"""Lenses on known answers, against OpenCV and kornia, and gradients to every input."""

from __future__ import annotations

import subprocess
import sys

import cv2
import kornia
import numpy as np
import pytest
import torch
from torch import Tensor

from gradslam_ng.geometry import camera, lens
from gradslam_ng.geometry.lens import Lens

DISTORTION = (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)  # k1, k2, p1, p2, k3 of TUM freiburg1
RATIONAL = (0.45, -2.6, 0.0007, -0.0002, 1.5, 0.33, -2.4, 1.4)  # of a camera of an Azure Kinect, about
FISHEYE = (-0.02, 0.015, -0.011, 0.002)


def intrinsics(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([[52.0, 0.0, 31.7], [0.0, 51.0, 23.2], [0.0, 0.0, 1.0]], dtype=dtype)


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
    uv = lens.undistortion_map(K, Lens(coefficients), (48, 64))
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
    uv = lens.undistortion_map(K, Lens(distortion), (height, width))
    inside = ((uv >= 0) & (uv <= torch.tensor([width - 1, height - 1]))).all(-1)
    assert inside.double().mean() > 0.9
    undone, _ = lens.undistort_images(image, image, uv)
    assert (undone - ideal)[inside].abs().max() < 3e-4  # what bilinear sampling loses
    assert (undone[~inside] < ideal[~inside]).all()  # fading to zero outside


def test_undistortion_equals_kornia():
    K, image = intrinsics(), torch.rand(2, 48, 64, 3, dtype=torch.float64)
    coefficients = torch.tensor(DISTORTION, dtype=torch.float64)
    truth = kornia.geometry.calibration.undistort_image(
        image.movedim(-1, 1), K.expand(2, 3, 3), coefficients.expand(2, 5)
    )
    uv = lens.undistortion_map(K, Lens(DISTORTION), (48, 64))
    color, _ = lens.undistort_images(image, image[..., :1], uv)
    torch.testing.assert_close(color, truth.movedim(1, -1), rtol=0, atol=1e-9)


def test_undistorted_depth_mixes_no_measurements():
    K = intrinsics(torch.float32)
    depth = torch.tensor([0.0, 1.0, 3.0])[torch.randint(3, (48, 64, 1))]
    color = torch.rand(48, 64, 3)
    _, undone = lens.undistort_images(color, depth, lens.undistortion_map(K, Lens(DISTORTION), (48, 64)))
    assert set(undone.unique().tolist()) == {0.0, 1.0, 3.0}
    same = lens.undistort_images(color, depth, lens.undistortion_map(K, Lens((0.0,) * 5), (48, 64)))
    torch.testing.assert_close(same[0], color, rtol=0, atol=1e-5)
    torch.testing.assert_close(same[1], depth, rtol=0, atol=0)


def test_undistortion_has_gradients_to_image_camera_and_lens():
    image = torch.rand(6, 8, 2, dtype=torch.float64).requires_grad_()
    K = torch.tensor([[9.0, 0.0, 3.3], [0.0, 8.0, 2.6], [0.0, 0.0, 1.0]], dtype=torch.float64).requires_grad_()
    distortion = torch.tensor([0.05, -0.02, 0.003, -0.002, 0.01], dtype=torch.float64).requires_grad_()

    def undistort(image: Tensor, K: Tensor, distortion: Tensor) -> Tensor:
        return lens.undistort_images(
            image, image.detach()[..., :1], lens.undistortion_map(K, Lens(distortion), (6, 8))
        )[0]

    assert torch.autograd.gradcheck(undistort, (image, K, distortion))


def test_wrong_number_of_coefficients_is_refused():
    with pytest.raises(ValueError, match=r"k1, k2, p1, p2.*\(3,\)"):
        Lens((0.1, 0.0, 0.0))


def test_kornia_is_imported_where_a_lens_is_undone_only():
    code = "import sys, gradslam_ng.geometry.lens; raise SystemExit('kornia' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def rays(count: int, angle: float) -> Tensor:
    """Points (N, 3) in all directions up to `angle`, radians, off the axis."""
    theta, phi = angle * torch.rand(count, dtype=torch.float64), 6.3 * torch.rand(count, dtype=torch.float64)
    z = 0.5 + torch.rand(count, dtype=torch.float64)
    return z[:, None] * torch.stack([theta.tan() * phi.cos(), theta.tan() * phi.sin(), torch.ones_like(z)], dim=-1)


@pytest.mark.parametrize("coefficients", [DISTORTION[:4], DISTORTION, RATIONAL, (*RATIONAL, 0.01, -0.02, 0.03, 0.01)])
def test_brown_conrady_is_that_of_opencv(coefficients):
    K, points = intrinsics(), rays(200, 0.6)
    truth, _ = cv2.projectPoints(points.numpy(), np.zeros(3), np.zeros(3), K.numpy(), np.array(coefficients))
    uv, z, shown = lens.project_through(Lens(coefficients), points, K)
    assert shown.all() and torch.equal(z, points[:, 2])
    torch.testing.assert_close(uv, torch.from_numpy(truth[:, 0]), rtol=0, atol=1e-9)


def test_kannala_brandt_is_that_of_opencv():
    K, points = intrinsics(), rays(200, 1.3)
    points = torch.cat([points, torch.tensor([[0.0, 0.0, 2.0], [1e-6, 0.0, 1.0]], dtype=torch.float64)])
    rvec = np.zeros(3)
    truth, _ = cv2.fisheye.projectPoints(points[:, None].numpy(), rvec, rvec, K.numpy(), np.array(FISHEYE))
    uv, _, shown = lens.project_through(Lens(FISHEYE, "kannala_brandt"), points, K)
    assert shown.all()
    torch.testing.assert_close(uv, torch.from_numpy(truth[:, 0]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("model", ["brown_conrady", "kannala_brandt"])
def test_undistorted_images_are_those_of_opencv(model):
    K, size = intrinsics(torch.float32), (48, 64)
    image = torch.rand(6, 8, 1)
    image = torch.nn.functional.interpolate(image.movedim(-1, 0)[None], size, mode="bicubic")[0].movedim(0, -1)
    color = image.expand(48, 64, 3).contiguous()
    if model == "brown_conrady":
        coefficients = RATIONAL
        truth = cv2.undistort(color.numpy(), K.numpy(), np.array(coefficients))
    else:
        coefficients = FISHEYE
        truth = cv2.fisheye.undistortImage(color.numpy(), K.numpy(), np.array(coefficients), Knew=K.numpy())
    uv = lens.undistortion_map(K, Lens(coefficients, model), size)
    assert (uv - camera.pixel_grid(*size)).norm(dim=-1).max() > 0.5
    undone, _ = lens.undistort_images(color, image, uv)
    inner = (slice(2, -2), slice(2, -2))
    difference = (undone - torch.from_numpy(truth))[inner].abs()
    assert difference.max() < 0.02  # OpenCV rounds pixels to 1/32
    assert difference.mean() < 0.002


@pytest.mark.parametrize(("coefficients", "model", "angle"), [
    ((-0.3, 0.0, 0.0, 0.0), "brown_conrady", 0.8117),  # r - 0.3 r^3 turns back at r = 1 / sqrt(0.9)
    ((-0.3, 0.0, 0.0, 0.0), "kannala_brandt", 1.0541),  # the same of the angle
])  # fmt: skip
def test_what_lies_beyond_where_a_lens_turns_back_is_not_shown(coefficients, model, angle):
    """Outside of the image as it is, it would be found inside of it."""
    K, glass = intrinsics(), Lens(coefficients, model)
    angles = torch.tensor([0.0, angle - 0.01, angle + 0.01, 1.4, 1.57], dtype=torch.float64)
    points = torch.stack([angles.tan(), torch.zeros_like(angles), torch.ones_like(angles)], dim=-1)
    uv, _, shown = lens.project_through(glass, points, K)
    assert shown.tolist() == [True, True, False, False, False] and uv.isfinite().all()
    behind = torch.tensor([[0.1, 0.0, -1.0], [0.1, 0.0, 0.0]], dtype=torch.float64)
    assert not lens.project_through(glass, behind, K)[2].any()
    assert not lens.project_through(None, behind, K)[2].any()


@pytest.mark.parametrize("model", ["brown_conrady", "kannala_brandt"])
def test_gradients_to_points_camera_and_coefficients(model):
    points = rays(7, 0.7).requires_grad_()
    K = intrinsics().requires_grad_()
    coefficients = torch.tensor(FISHEYE, dtype=torch.float64).requires_grad_()
    each = torch.stack([coefficients.detach(), 2 * coefficients.detach()])

    def project(points: Tensor, K: Tensor, coefficients: Tensor) -> Tensor:
        return lens.project_through(Lens(coefficients, model), points, K)[0]

    assert torch.autograd.gradcheck(project, (points, K, coefficients))
    many = project(points.detach().expand(2, 7, 3), K.detach(), each)
    torch.testing.assert_close(many[1], project(points, K, each[1]).detach())


@pytest.mark.parametrize("model", ["brown_conrady", "kannala_brandt"])
def test_no_gradient_is_infinite(model):
    """On the axis, in the plane of the camera, behind it, and where powers of coordinates overflow."""
    points = torch.tensor([[0, 0, 1], [0, 0, 0], [1, 0, 0], [1, 1, -1], [1e8, 0, 1], [0, 1e20, 1e-3], [1e-30, 0, 1]])
    points.requires_grad_()
    coefficients = torch.tensor(FISHEYE).requires_grad_()
    uv, _, _ = lens.project_through(Lens(coefficients, model), points, intrinsics(torch.float32))
    uv.sum().backward()
    assert uv.isfinite().all() and points.grad.isfinite().all() and coefficients.grad.isfinite().all()


def test_a_model_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"brown_conrady, kannala_brandt, got 'pinhole'"):
        Lens(DISTORTION, "pinhole")
    with pytest.raises(ValueError, match=r"expected k1, k2, k3, k4, got shape \(5,\)"):
        Lens(DISTORTION, "kannala_brandt")
