"""Frame-to-model alignment: point-to-plane ICP, coarse to fine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.odometry.linearization import project_and_reduce
from gradslam_ng.structures import LiveFrame, Surface


@dataclass(frozen=True)
class Alignment:
    """Where a frame was found."""

    T_wc: Tensor  # (B, 4, 4)
    ok: Tensor  # (B,) bool: the pose can be trusted
    overlap: Tensor  # (B,), share of the frame's vertices that found a partner in the model
    rmse: Tensor  # (B,), root of the mean squared residual of those, in standard deviations of the depth noise


@dataclass(frozen=True)
class ProjectiveICP:
    """The least-squares problem of one pyramid level; the unknown is T_mc (B, 4, 4). See `project_and_reduce`."""

    live: Surface
    model: Surface
    information: Tensor  # (B, H, W), 1/m^2
    limits: Tensor  # (2,), greatest distance in metres, least cosine
    scale: Tensor  # (), standard deviations

    def reduce(self, T_mc: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        flat = (self.live.vertices.flatten(1, 2), self.live.normals.flatten(1, 2), self.information.flatten(1))
        model = (self.model.vertices.flatten(1, 2), self.model.normals.flatten(1, 2), self.model.weights.flatten(1))
        return project_and_reduce(*flat, *model, T_mc, self.model.K, self.limits, self.scale, self.model.size)

    def linearize(self, T_mc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.reduce(T_mc)[:3]

    def error(self, T_mc: Tensor) -> Tensor:
        return self.reduce(T_mc)[2]

    def retract(self, T_mc: Tensor, delta: Tensor) -> Tensor:
        return se3.exp(delta) @ T_mc


class ICPOdometer(nn.Module):
    """Finds the pose of a frame against a model of what it should see.

    Point-to-plane ICP with projective association (Newcombe et al. 2011, section 3.5), robust and whitened by the depth
    noise. The frame is moved relative to the camera the model was rendered from, so numbers stay small however far from
    the world's origin the camera has walked.

    Args:
        rule: how steps are found and judged, `optim.SoftLevenbergMarquardt` or another rule.
        iterations: per pyramid level, coarsest first; their number is the number of levels.
        max_distance: between a vertex and its partner, metres.
        max_angle: between their normals, degrees.
        scale: residual, in standard deviations of the depth noise, from which a pair counts nothing (Tukey); at the finest
            level, doubled at each coarser one.
        min_overlap: share of the frame's vertices that must find a partner, else the frame is lost.
        max_step: farthest that a frame may be found from where it was looked for, metres and radians, else it is lost.
    """

    def __init__(
        self,
        rule: optim.Rule | None = None,
        iterations: tuple[int, ...] = (10, 5, 4),
        max_distance: float = 0.1,
        max_angle: float = 30.0,
        scale: float = 4.685,
        min_overlap: float = 0.1,
        max_step: float = 0.5,
    ) -> None:
        super().__init__()
        self.rule = optim.SoftLevenbergMarquardt(damping=1e-6) if rule is None else rule
        self.iterations, self.scale = tuple(iterations), scale
        self.max_distance, self.max_angle = max_distance, max_angle
        self.min_overlap, self.max_step = min_overlap, max_step

    def forward(self, live: LiveFrame, model: Surface, T_wm: Tensor, T_wc: Tensor) -> Alignment:
        """Align a frame with a model.

        live in its camera c, model as seen from camera m at T_wm (B, 4, 4); T_wc (B, 4, 4) is where to start.
        A frame that is lost stays where it started.
        """
        surface = live.surface
        start = se3.inverse(T_wm) @ T_wc
        T_mc = start
        sigma = live.sigma
        information = surface.weights / sigma**2
        limits = sigma.new_tensor([self.max_distance, math.cos(math.radians(self.max_angle))])
        for level, iterations in zip(reversed(range(len(self.iterations))), self.iterations, strict=True):
            step = 2**level
            first = step // 2
            problem = ProjectiveICP(
                surface.subsampled(step), model.subsampled(step), information[:, first::step, first::step], limits,
                torch.as_tensor(self.scale * step, dtype=sigma.dtype, device=sigma.device),
            )  # fmt: skip
            T_mc = optim.solve(problem, T_mc, self.rule, iterations).x
        _, _, error, overlap = problem.reduce(T_mc)
        moved = se3.log((T_mc @ se3.inverse(start)).detach()).abs().amax(-1)
        ok = (overlap > self.min_overlap) & (moved < self.max_step) & torch.isfinite(T_mc).flatten(1).all(-1)
        T_mc = torch.where(ok[:, None, None], T_mc, start)
        return Alignment(se3.renormalize(T_wm @ T_mc), ok, overlap, error)
