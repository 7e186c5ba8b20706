"""The photometric term: Jacobians, exposure, and what it adds where geometry says nothing."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import camera, se3
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.odometry.photometric import (
    MIN_NOISE,
    Exposure,
    PhotometricTerm,
    estimate_exposure,
    linearize_photometric,
    sample_image,
)
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import RGBDFrames

SIZE = (48, 64)
K = torch.tensor([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]], dtype=torch.float64)[None]
REACH, SCALE = torch.tensor(0.1).double(), torch.tensor(4.685).double()


def wall(T_wc: torch.Tensor, gain: float = 1.0, offset: float = 0.0, K: torch.Tensor = K) -> RGBDFrames:
    """What cameras at T_wc (..., 4, 4) see of the wall z = 2, smoothly painted; depth and color in closed form."""
    rays = camera.unproject(torch.ones(*SIZE, 1, dtype=torch.float64), K[0]).reshape(-1, 3)
    d, o = se3.rotate(T_wc, rays), T_wc[..., None, :3, 3]
    depth = (2.0 - o[..., 2:]) / d[..., 2:]
    x, y, _ = (o + depth * d).unbind(-1)
    paint = 0.5 + 0.15 * torch.sin(7 * x + 1) + 0.15 * torch.sin(9 * y) * torch.cos(5 * x)
    color = (gain * paint + offset)[..., None].expand(*paint.shape, 3)
    lead = T_wc.shape[:-2]
    return RGBDFrames(color.reshape(*lead, *SIZE, 3), depth.reshape(*lead, *SIZE, 1), K[0].expand(*lead, 3, 3))


def pose(*xi: float) -> torch.Tensor:
    return se3.exp(torch.tensor([xi], dtype=torch.float64))


def looking(T_mc: torch.Tensor, **light: float) -> PhotometricTerm:
    """The wall from camera m as points with their brightness and weight, and from camera c as an image with depth."""
    model = measure_surface(wall(torch.eye(4, dtype=torch.float64)[None])).surface
    live = measure_surface(wall(T_mc, **light)).surface
    points = (model.vertices.flatten(1, 2), model.intensity.flatten(1), model.weights.flatten(1))
    return PhotometricTerm(*points, live.intensity, live.vertices[..., 2], live.K, REACH, REACH * 0)


def test_a_wall_seen_again_looks_the_same():
    term = looking(T := pose(0.03, -0.02, 0.05, 0.01, 0.02, -0.03))
    samples = sample_image(T, term)
    assert samples.visible.double().mean() > 0.8
    assert (samples.value - term.intensity)[samples.visible > 0].abs().max() < 5e-3  # bilinear between pixels


def test_the_gradient_of_the_error_is_its_derivative():
    term = looking(pose(0.03, -0.02, 0.05, 0.01, 0.02, -0.03))
    at = pose(0.01, 0.0, 0.02, 0.0, 0.01, 0.0)
    numbers = torch.tensor([[1.1], [-0.02], [0.05], [3.0]]).double()
    light = (Exposure(*numbers[:3]), SCALE, numbers[3])

    def error(xi):
        return linearize_photometric(se3.exp(xi)[None] @ at, term, *light)[2].sum()

    zero = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    (truth,) = torch.autograd.grad(error(zero), zero)
    _, g, _ = linearize_photometric(at, term, *light)
    torch.testing.assert_close(g[0], truth, rtol=1e-9, atol=1e-9 * float(truth.abs().max()))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (1.4, -0.1), (0.5, 0.2)])
def test_exposure_is_found(gain, offset):
    term = looking(T := pose(0.02, 0, 0, 0, 0.01, 0), gain=gain, offset=offset)
    found_gain, found_bias, noise = estimate_exposure(T, term)
    assert float(found_gain) == pytest.approx(1 / gain, rel=1e-2)
    assert float(found_bias) == pytest.approx(-offset / gain, abs=1e-2)
    assert float(noise) == MIN_NOISE


def test_an_image_of_one_brightness_says_nothing():
    term = looking(T := pose(0.02, 0, 0, 0, 0.01, 0), gain=0.0, offset=0.5)
    gain, _, noise = estimate_exposure(T, term)
    assert float(gain) == 1 and noise.isfinite().all()
    exposure = Exposure(gain, torch.zeros_like(gain), noise)
    H, g, error = linearize_photometric(T, term, exposure, SCALE, torch.ones_like(gain))
    assert H.abs().max() < 1e-9 and g.abs().max() < 1e-9 and error.isfinite().all()


@pytest.mark.parametrize("light", [{}, {"gain": 0.7, "offset": 0.1}], ids=["even", "darker"])
def test_a_painted_wall_fixes_the_pose(light):
    """In its plane geometry fixes nothing: three of six directions come from brightness alone."""
    start, T_wc = torch.eye(4, dtype=torch.float64)[None], pose(0.02, -0.015, 0.01, 0.005, 0.01, -0.02)
    model, live = measure_surface(wall(start)).surface.with_pose(start), measure_surface(wall(T_wc, **light))
    errors = []
    for photometric in (True, False):
        found = ProjectiveICP(iterations=(10, 10, 10), photometric=photometric)(live, model, start)
        errors.append(float((found.T_wc - T_wc)[:, :3, 3].norm()))
    assert errors[0] < 1e-3 and errors[1] > 1e-2


@pytest.mark.parametrize("shift", [0.0, 0.13], ids=["aligned", "not aligned"])
def test_a_volume_remembers_how_bright_it_was(shift):
    """KinectFusion before the same wall: its ray-cast model brings the brightness along.

    Four voxels to a pixel, some of them on the border of two: no side may be preferred.
    """
    T_wc = torch.cat([pose(0, 0, 0, 0, 0, 0), pose(0.02, -0.015, 0.01, 0.005, 0.01, -0.02)])
    camera_K = K + shift * torch.tensor([[0, 0, 1.0], [0, 0, -1.0], [0, 0, 0]])
    errors = []
    for photometric in (True, False):
        odometry = ProjectiveICP(iterations=(10, 10, 10), photometric=photometric)
        with torch.no_grad():
            _, found = gs.KinectFusion(odometry, voxel_size=0.01, truncation=0.04)(wall(T_wc, K=camera_K))
        errors.append(float((found[0, 1] - T_wc[1])[:3, 3].norm()))
    assert errors[0] < 5e-4 and errors[1] > 1e-2
