"""Poses of keyframes and their cameras refined together: all pairs' residuals, and what is known before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.calibration.cameras import NAMES, CameraPair
from gradslam_ng.calibration.residuals import BrightnessPairs, PlanePairs, Residuals
from gradslam_ng.geometry import se3
from gradslam_ng.optim import Kernel

POSE = 0.01  # meters and radians, the unit of poses: what they may be off by

Unknowns = tuple[Tensor, CameraPair]  # T_wc (N, 4, 4), and the cameras


@dataclass(frozen=True, eq=False)
class JointRefinement:
    """A `Problem` over the poses of N keyframes and their cameras; the first pose is where the world is.

    Tangents are in units of what is known before, so that none is far larger than others.
    """

    i: Tensor  # (M,), pairs of keyframes
    j: Tensor  # (M,)
    planes: PlanePairs
    brightness: BrightnessPairs
    kernel: Kernel
    told: CameraPair  # the cameras as known before,
    prior: Tensor  # (17,), and the standard deviations of that
    free: Tensor  # (17,) bool: what is sought of the cameras; the rest is held

    def evaluate(self, x: Unknowns) -> list[Residuals]:
        """The residuals of all pairs."""
        T_wc, cameras = x
        T_wi, T_wj = T_wc[self.i], T_wc[self.j]
        return [term.evaluate(T_wi, T_wj, cameras) for term in (self.planes, self.brightness)]

    def linearize(self, x: Unknowns, /) -> tuple[Tensor, Tensor, Tensor]:
        """H (n, n), g (n,) and the error (); n is six for each pose and 17 for the cameras."""
        T_wc, cameras = x
        count = len(T_wc)
        H = T_wc.new_zeros(count + 1, count + 1, 6, 6)
        poses, n = 6 * count, 6 * count + len(NAMES)
        H_all, g_all = T_wc.new_zeros(n, n), T_wc.new_zeros(n)
        g, side = T_wc.new_zeros(count, 6), T_wc.new_zeros(count, 6, len(NAMES))
        error = T_wc.new_zeros(())
        for r, to_pose, to_camera in self.evaluate(x):
            s = r.square()
            w = self.kernel.weight(s)[..., None]
            pose, camera = w * to_pose, w * to_camera
            own, cross = to_pose.mT @ pose, to_pose.mT @ camera
            for a, b, sign in ((self.i, self.i, 1), (self.j, self.j, 1), (self.i, self.j, -1), (self.j, self.i, -1)):
                H.index_put_((a, b), sign * own, accumulate=True)
            down = (pose.mT @ r[..., None])[..., 0]
            for a, sign in ((self.i, 1), (self.j, -1)):
                g.index_add_(0, a, sign * down)
                side.index_add_(0, a, sign * cross)
            H_all[poses:, poses:] += (to_camera.mT @ camera).sum(0)
            g_all[poses:] += (camera.mT @ r[..., None]).sum(0)[:, 0]
            error = error + 0.5 * self.kernel.rho(s).sum()
        H_all[:poses, :poses] = H[:count, :count].movedim(2, 1).reshape(poses, poses)
        H_all[:poses, poses:] = side.reshape(poses, -1)
        H_all[poses:, :poses] = H_all[:poses, poses:].mT
        g_all[:poses] = g.flatten()
        moved = self.told.local(cameras) / self.prior
        unit = self.unit(count)
        H_all, g_all = unit[:, None] * H_all * unit, unit * g_all
        H_all[range(poses, n), range(poses, n)] += self.free.to(unit)
        g_all[poses:] += self.free * moved
        return H_all, g_all, error + 0.5 * moved.square().sum()

    def unit(self, count: int) -> Tensor:
        """What one of each unknown (6 count + 17,) is worth; 0 where it is held."""
        poses = self.prior.new_full((6 * count,), POSE)
        poses[:6] = 0.0
        return torch.cat([poses, self.prior * self.free])

    def scores(self, x: Unknowns) -> Tensor:
        """The gradient (M, n) of each pair's share of the error, in the units of `linearize`."""
        T_wc, _ = x
        count, each = len(T_wc), torch.arange(len(self.i), device=T_wc.device)
        poses = T_wc.new_zeros(len(self.i), count, 6)
        camera = T_wc.new_zeros(len(self.i), len(NAMES))
        for r, to_pose, to_camera in self.evaluate(x):
            weighted = (self.kernel.weight(r.square()) * r)[:, None]
            down = (weighted @ to_pose)[:, 0]
            poses[each, self.i] += down
            poses[each, self.j] -= down
            camera = camera + (weighted @ to_camera)[:, 0]
        return torch.cat([poses.flatten(1), camera], -1) * self.unit(count)

    def error(self, x: Unknowns, /) -> Tensor:
        """The error () alone."""
        return self.linearize(x)[2]

    def retract(self, x: Unknowns, delta: Tensor, /) -> Unknowns:
        """Poses moved from the left, and the cameras."""
        T_wc, cameras = x
        delta = self.unit(len(T_wc)) * delta
        poses, camera = delta.split([delta.shape[-1] - len(NAMES), len(NAMES)])
        return se3.exp(poses.reshape(-1, 6)) @ T_wc, cameras.retract(camera)
