"""The Kinect model: its statistics as the formula predicts, holes where they belong, the same for the same seed."""

from __future__ import annotations

import math

import pytest
import torch

from gradslam_ng.datasets.synthetic import noise

SIZE = (200, 300)
F = 525.0
K = torch.tensor([[F, 0, 149.5], [0, F, 99.5], [0, 0, 1]])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def eighths(depth: torch.Tensor) -> torch.Tensor:
    """Disparity in eighths of a pixel, depth in meters."""
    return noise.BASELINE_DISPARITY / (100 * depth)


def phi(x: float) -> float:
    """The normal distribution."""
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


@pytest.mark.parametrize("z", [0.8, 2.0, 3.3])
def test_steps_of_a_flat_wall(z):
    """At one depth a shift does nothing: disparity is rounded after N(0, 1/6), step by step as often as that says."""
    measured = noise.kinect_depth(torch.full(SIZE, z, dtype=torch.float64), F, generator())
    disparity = eighths(measured)
    torch.testing.assert_close(disparity, disparity.round(), rtol=0, atol=1e-6)
    exact = noise.BASELINE_DISPARITY / (100 * z)
    for step in range(math.floor(exact) - 1, math.floor(exact) + 3):
        expected = phi((step + 0.5 - exact) * 6) - phi((step - 0.5 - exact) * 6)
        share = (disparity.round() == step).double().mean().item()
        assert share == pytest.approx(expected, abs=4 * math.sqrt(0.25 / disparity.numel()))


def test_no_bias_and_the_right_spread_over_many_depths():
    """Over all fractions of a step, rounding adds 1/12 to the noise's 1/36, and nothing to its mean."""
    disparity = torch.linspace(100, 180, SIZE[0]).double()[:, None].expand(SIZE)  # varies down the rows, 0.4 a pixel
    error = eighths(noise.kinect_depth(noise.BASELINE_DISPARITY / 100 / disparity, F, generator())) - disparity
    slope = 80 / (SIZE[0] - 1)
    assert error[1:-1].mean().abs() < 0.01
    assert error[1:-1].std().item() == pytest.approx(math.sqrt(1 / 36 + 1 / 12 + (slope * 0.5) ** 2), rel=0.02)


def test_lateral_shift_is_half_a_pixel():
    """Where disparity changes by 5 a pixel to the right, a shift of N(0, 1/4) shows as 2.5 in disparity."""
    disparity = (70 + 5 * torch.arange(40.0)).double().expand(2000, 40)
    measured = noise.kinect_depth(noise.BASELINE_DISPARITY / 100 / disparity, F, generator())
    error = (eighths(measured) - disparity)[:, 4:-4]
    assert error.std().item() == pytest.approx(math.sqrt(1 / 36 + 1 / 12 + 2.5**2), rel=0.03)


def test_a_smaller_image_is_shifted_by_the_same_angle():
    disparity = (70 + 5 * torch.arange(40.0)).double().expand(2000, 40)
    measured = noise.kinect_depth(noise.BASELINE_DISPARITY / 100 / disparity, F / 2, generator())
    error = (eighths(measured) - disparity)[:, 4:-4]
    assert error.std().item() == pytest.approx(math.sqrt(1 / 36 + 1 / 12 + 1.25**2), rel=0.03)


def test_readings_fly_between_the_sides_of_an_edge():
    depth = torch.full((400, 20), 1.0, dtype=torch.float64)
    depth[:, 10:] = 2.0
    measured = noise.kinect_depth(depth, F, generator())
    between = (measured > 1.1) & (measured < 1.8)
    assert between[:, 9:11].double().mean() > 0.2
    assert not between[:, :7].any()
    assert not between[:, 13:].any()


def test_holes_stay_and_range_is_kept():
    depth = torch.full((20, 30), 1.5)
    depth[:, 9:15] = 0
    depth[:, 20:25] = 5.5
    depth[:, 25:] = 0.3
    measured = noise.kinect_depth(depth, F, generator())
    assert (measured[:, 11:13] == 0).all()
    assert (measured[:, 22] == 0).all()
    assert (measured[:, 28:] == 0).all()
    assert (measured[:, :6] > 1.4).all()
    assert (noise.kinect_depth(torch.zeros(20, 30), F, generator()) == 0).all()


def plane(tilt: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth and normal images of a plane through (0, 0, 2), turned about the image's vertical by `tilt` degrees."""
    x = (torch.arange(SIZE[1]) - 149.5) / F
    slope = math.tan(math.radians(tilt))
    depth = (2 / (1 - slope * x)).expand(SIZE).contiguous()
    normal = torch.tensor([slope, 0.0, -1.0]) / math.hypot(1, slope)
    return depth, normal.expand(*SIZE, 3)


def lost(depth: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    _, measured = noise.kinect(torch.full((*SIZE, 3), 0.5), depth[..., None], normal, K, seed=1)
    return (measured[..., 0] == 0) & (depth > 0.5) & (depth < 4.5)


def test_no_holes_in_a_plane_up_to_sixty_degrees():
    for tilt in (0, 30, 50):
        assert not lost(*plane(tilt)).any()


def test_grazing_angles_lose_all():
    depth, normal = plane(88)
    near = (depth > 0.5) & (depth < 4.5)
    share = lost(depth, normal)[near].double().mean()
    assert near.any()
    assert share > 0.7  # the view's rays themselves spread over some degrees
    gentler = plane(75)
    assert 0.02 < lost(*gentler).double().mean() < share


def test_edges_lose_half():
    depth = torch.full(SIZE, 1.0)
    depth[:, 150:] = 1.5
    missing = lost(depth, torch.tensor([0.0, 0, -1]).expand(*SIZE, 3))
    assert missing[:, 148:152].double().mean().item() == pytest.approx(0.5, abs=0.07)
    assert not missing[:, :148].any()
    assert not missing[:, 152:].any()


def test_color_noise_is_mild_and_in_range():
    color = torch.linspace(0, 1, SIZE[1])[None, :, None].expand(*SIZE, 3)
    depth, normal = plane(0)
    noisy, _ = noise.kinect(color, depth[..., None], normal, K, seed=0)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    torch.testing.assert_close(noisy * 255, (noisy * 255).round(), rtol=0, atol=1e-3)
    assert (noisy - color)[:, 50:-50].std().item() == pytest.approx(0.01, rel=0.05)


def test_seeds():
    depth, normal = plane(20)
    color = torch.full((*SIZE, 3), 0.5)
    first, again, other = (noise.kinect(color, depth[..., None], normal, K, seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
