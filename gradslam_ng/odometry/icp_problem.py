"""The least-squares problem of one pyramid level: shape, and brightness where it plays a part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.geometry import se3
from gradslam_ng.odometry.photometric import Brightness
from gradslam_ng.odometry.point_to_plane import linearize_point_to_plane
from gradslam_ng.structures import SurfaceView


@dataclass(frozen=True)
class ICPProblem:
    """Alignment of a frame's points with a model; the unknown is T_mc (B, 4, 4). See `linearize_point_to_plane`."""

    vertices: Tensor  # (B, P, 3), camera c, metres
    normals: Tensor  # (B, P, 3)
    information: Tensor  # (B, P), 1/m^2, 0 where there is no reading
    total: Tensor  # (B,): what the normal equations are divided by
    model: SurfaceView
    limits: Tensor  # (2,), greatest distance in metres, least cosine
    scale: Tensor  # (), standard deviations
    softness: Tensor  # (), pixels
    across: int = 1  # candidates along a row and along a column
    brightness: Brightness | None = None
    turning: bool = False  # the camera only turns
    lean: bool = False  # keep nothing of a linearisation for the backward pass but its arguments

    def reduce(self, T_mc: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What shape says: normal equations, error, and the share of the points (B,) that found a partner."""
        live = (self.vertices, self.normals, self.information)
        model = (self.model.vertices.flatten(1, 2), self.model.normals.flatten(1, 2), self.model.weights.flatten(1))
        settings = (self.limits, self.scale, self.softness, self.model.size, self.across)
        evaluate = partial(checkpoint, linearize_point_to_plane) if self.lean else linearize_point_to_plane
        return evaluate(*live, *model, T_mc, self.model.K, *settings)

    def with_brightness(self, T_mc: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        """H, g and error of the shape, those of the brightness added where it plays a part."""
        if self.brightness is None:
            return sums
        parts = self.brightness.linearize(T_mc, self.scale, self.total, self.lean)
        return tuple(a + b for a, b in zip(sums, parts, strict=True))

    def linearize(self, T_mc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        H, g, error = self.with_brightness(T_mc, *self.reduce(T_mc)[:3])
        if self.turning:  # the solver takes no step where there is no information
            free = torch.cat([torch.zeros_like(g[..., :3]), torch.ones_like(g[..., 3:])], -1)
            H, g = H * free[..., :, None] * free[..., None, :], g * free
        return H, g, error

    def error(self, T_mc: Tensor) -> Tensor:
        return self.linearize(T_mc)[2]

    def retract(self, T_mc: Tensor, delta: Tensor) -> Tensor:
        return se3.exp(delta) @ T_mc


@discrete
def closer(problem: ICPProblem, T_mc: Tensor, other: Tensor) -> Tensor:
    """Where things fit better at T_mc (B, 4, 4) than elsewhere, (B, 1, 1) bool. A discrete choice."""
    return (problem.error(T_mc) <= problem.error(other)).detach()[:, None, None]
