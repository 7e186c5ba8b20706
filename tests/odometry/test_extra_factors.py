"""A factor of one's own beside those of ICP: an IMU's rotation, where the scene leaves that direction open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3, so3
from gradslam_ng.odometry import ProjectiveICP, TrackingResult, TrackingStatus
from gradslam_ng.odometry.icp import PyramidLevel
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import LiveFrame, RGBDFrames

K = torch.tensor([[[64.0, 0, 39.5], [0, 64.0, 29.5], [0, 0, 1]]], dtype=torch.float64)
STILL = torch.eye(4, dtype=torch.float64)[None]
EXPECTED = se3.exp(torch.tensor([[0.02, 0.01, 0.03, 0, 0, 0.01]], dtype=torch.float64))
MEASURED = so3.exp(torch.tensor([[0.0, 0.0, 0.03]], dtype=torch.float64))  # by the IMU, since the model's camera


@dataclass(frozen=True)
class RotationPrior:
    """0.5 |log(R_mc R_prior^T)|^2 / sigma^2, divided as the factors of ICP are; the unknown is T_mc (B, 4, 4)."""

    R_prior: Tensor  # (B, 3, 3)
    sigma: float  # radians
    total: Tensor  # (B,)

    def linearize(self, T_mc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r = so3.log(T_mc[:, :3, :3] @ self.R_prior.mT)
        J = torch.cat([torch.zeros_like(self.R_prior), so3.left_jacobian_inverse(r)], -1)
        w = 1 / (self.sigma**2 * self.total)
        error = 0.5 * w * r.square().sum(-1)
        return w[:, None, None] * J.mT @ J, w[:, None] * (J.mT @ r[..., None])[..., 0], error

    def error(self, T_mc: Tensor) -> Tensor:
        return self.linearize(T_mc)[2]


def imu(level: PyramidLevel, T_mc: Tensor) -> Sequence[optim.Term]:
    return [RotationPrior(MEASURED, 1e-4, level.geometry.total_information)]


class WithIMU(ProjectiveICP):
    """The same by overriding."""

    def added_factors(self, level: PyramidLevel, T_mc: Tensor) -> tuple[optim.Term, ...]:
        return (*super().added_factors(level, T_mc), *imu(level, T_mc))


def wall(distance: float) -> LiveFrame:
    """Bare and even, with 1 mm of noise: it fixes its distance and two rotations."""
    depth = torch.full((1, 60, 80, 1), distance, dtype=torch.float64)
    noise = 0.001 * torch.randn(depth.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return measure_surface(RGBDFrames(torch.full((1, 60, 80, 3), 0.5, dtype=torch.float64), depth + noise, K))


def track(odometry: ProjectiveICP) -> tuple[TrackingResult, Tensor]:
    """The result, and how far (6,) it is from where the camera was expected."""
    found = odometry(wall(1.98), wall(2.0).surface.with_pose(STILL), EXPECTED)
    return found, se3.log(found.T_wc @ se3.inverse(EXPECTED))[0]


@pytest.mark.parametrize("odometry", [ProjectiveICP(extra_factors=imu), WithIMU()], ids=["argument", "override"])
def test_a_rotation_that_the_scene_leaves_open_follows_the_imu(odometry):
    alone, xi = track(ProjectiveICP())
    assert alone.status == TrackingStatus.DEGENERATE and abs(xi[5]) < 1e-3  # as expected, for want of any evidence
    found, xi = track(odometry)
    assert abs(xi[5] - 0.02) < 1e-4  # 0.03 where 0.01 was expected
    assert abs(found.T_wc[0, 2, 3] - 0.02) < 1e-3  # the distance is the wall's to say
    assert found.status == TrackingStatus.DEGENERATE and xi[:2].abs().max() < 2e-3  # two directions are open still
    assert found.covariance[0, 5, 5].sqrt() < 2e-4 < alone.covariance[0, 5, 5].sqrt()


def test_what_an_added_factor_depends_on_gets_a_gradient():
    w = torch.tensor([[0.0, 0.0, 0.03]], dtype=torch.float64, requires_grad=True)

    def prior(level: PyramidLevel, T_mc: Tensor) -> Sequence[optim.Term]:
        return [RotationPrior(so3.exp(w), 1e-4, level.geometry.total_information)]

    _, xi = track(ProjectiveICP(extra_factors=prior))
    (g,) = torch.autograd.grad(xi[5], w)
    assert abs(g[0, 2] - 1) < 1e-2
