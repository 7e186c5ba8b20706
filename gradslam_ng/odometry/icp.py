"""Frame-to-model alignment: point-to-plane ICP, coarse to fine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.odometry.linearization import project_and_reduce
from gradslam_ng.odometry.photometric import Brightness, View
from gradslam_ng.recompute import recomputed
from gradslam_ng.structures import LiveFrame, Surface

# Which vertex meets which changes from step to step, and moves the error by about this share of it: less is no verdict
# on a step, and a gradient through such a verdict would be one of noise. `slack` of the rules here.
PAIRING_NOISE = 1e-3


@dataclass(frozen=True)
class Alignment:
    """Where a frame was found."""

    T_wc: Tensor  # (B, 4, 4)
    ok: Tensor  # (B,) bool: the pose can be trusted
    overlap: Tensor  # (B,), share of the frame's vertices, or of the model's if it has fewer, that found a partner
    error: Tensor  # (B,), m^2: half the mean squared residual, robust; a vertex without a partner counts as an outlier


@dataclass(frozen=True)
class ProjectiveICP:
    """The least-squares problem of one pyramid level; the unknown is T_mc (B, 4, 4). See `project_and_reduce`."""

    live: Surface
    model: Surface
    information: Tensor  # (B, H, W), 1/m^2
    limits: Tensor  # (2,), greatest distance in metres, least cosine
    scale: Tensor  # (), standard deviations
    softness: Tensor  # (), pixels
    across: int = 1  # candidates along a row and along a column
    brightness: Brightness | None = None
    lean: bool = False  # keep nothing of a linearisation for the backward pass but its arguments

    def reduce(self, T_mc: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        flat = (self.live.vertices.flatten(1, 2), self.live.normals.flatten(1, 2), self.information.flatten(1))
        model = (self.model.vertices.flatten(1, 2), self.model.normals.flatten(1, 2), self.model.weights.flatten(1))
        settings = (self.limits, self.scale, self.softness, self.model.size, self.across)
        evaluate = partial(recomputed, project_and_reduce) if self.lean else project_and_reduce
        return evaluate(*flat, *model, T_mc, self.model.K, *settings)

    def linearize(self, T_mc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        H, g, error, _ = self.reduce(T_mc)
        if self.brightness is None:
            return H, g, error
        total = self.information.flatten(1).sum(-1).clamp(min=torch.finfo(error.dtype).tiny)
        parts = self.brightness.linearize(T_mc, self.scale, self.lean)
        H_p, g_p, error_p = (part / total.reshape(-1, *(1,) * (part.ndim - 1)) for part in parts)
        return H + H_p, g + g_p, error + error_p

    def error(self, T_mc: Tensor) -> Tensor:
        return self.linearize(T_mc)[2]

    def retract(self, T_mc: Tensor, delta: Tensor) -> Tensor:
        return se3.exp(delta) @ T_mc


class ICPOdometer(nn.Module):
    """Finds the pose of a frame against a model of what it should see.

    Point-to-plane ICP with projective association (Newcombe et al. 2011, section 3.5), robust and whitened by the depth
    noise. The frame is moved relative to the camera the model was rendered from, so numbers stay small however far from
    the world's origin the camera has walked.

    Settings may be tensors with a gradient; those that are `nn.Parameter`, of the rule too, become parameters of this
    module.

    Args:
        rule: how steps are found and judged, by default `optim.SoftLevenbergMarquardt` that takes changes of the error
            below `PAIRING_NOISE` for noise.
        iterations: per pyramid level, coarsest first; their number is the number of levels.
        max_distance: between a vertex and its partner, metres.
        max_angle: between their normals, degrees.
        scale: residual, in standard deviations of the depth noise, from which a pair counts nothing (Tukey); at the
            finest level, doubled at each coarser one.
        min_overlap: share of the frame's vertices, or of the model's if it has fewer, that must find a partner, else
            the frame is lost. Frames that fit keep above 0.55 up to 10 degrees apart, others reach 0.3: two
            walls can always be laid upon each other.
        max_step: farthest that a frame may be found from where it was looked for, metres and radians, else it is lost.
        candidates: pixels of the model around a vertex's projection that make up its partner. 1: the nearest, a
            constant of the gradient. 4 or 9: their mean, so that the gradient sees which point meets which; see
            `association.mean`.
        softness: how far the candidates' weights reach, pixels.
        photometric: what is seen must also look as bright as the model remembers it. Colour and depth must come from
            one viewpoint for that, as they do not in every recording.
        backward: how the pose is differentiated, as in `optim.solve`. Other than with "unroll", only the finest level
            is, and where the search started gets no gradient.
        last: iterations of the finest level that "truncated" goes back through.

    Raises:
        ValueError: a setting outside its range, or a `backward` that does not go with it.
    """

    def __init__(
        self,
        rule: optim.Rule | None = None,
        iterations: tuple[int, ...] = (6, 4, 3),
        max_distance: float | Tensor = 0.1,
        max_angle: float = 30.0,
        scale: float | Tensor = 4.685,
        min_overlap: float = 0.4,
        max_step: float = 0.5,
        candidates: int = 1,
        softness: float | Tensor = 0.5,
        photometric: bool = False,
        backward: str = "unroll",
        last: int = 2,
    ) -> None:
        super().__init__()
        if not iterations or min(iterations) < 0:
            raise ValueError(f"iterations: expected a number for each of at least one level, got {tuple(iterations)}")
        if candidates not in (1, 4, 9):
            raise ValueError(f"candidates: expected 1, 4 or 9, got {candidates}")
        if backward not in optim.BACKWARD:
            raise ValueError(f"backward: expected one of {', '.join(optim.BACKWARD)}, got {backward!r}")
        if candidates > 1 and backward not in ("unroll", "truncated", "detach"):
            # the mean moves with the pose, so the normal equations are not those of any one error
            raise ValueError(f"backward {backward!r} needs candidates=1; with {candidates} use unroll or truncated")
        if backward == "truncated" and not 0 < last <= iterations[-1]:
            raise ValueError(f"last: expected 1 to {iterations[-1]}, the iterations of the finest level, got {last}")
        self.rule = optim.SoftLevenbergMarquardt(damping=1e-6, slack=PAIRING_NOISE) if rule is None else rule
        self.iterations, self.scale = tuple(iterations), scale
        self.max_distance, self.max_angle = max_distance, max_angle
        self.min_overlap, self.max_step = min_overlap, max_step
        self.across, self.softness = math.isqrt(candidates), softness
        self.photometric, self.backward, self.last = photometric, backward, last
        for name, value in vars(self.rule).items():
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)

    def forward(self, live: LiveFrame, model: Surface, T_wm: Tensor, T_wc: Tensor) -> Alignment:
        """Align a frame with a model.

        live in its camera c, model as seen from camera m at T_wm (B, 4, 4); T_wc (B, 4, 4) is where to start.
        A frame that is lost stays where it started.
        """
        start = T_mc = se3.inverse(T_wm) @ T_wc
        for level, iterations in zip(reversed(range(len(self.iterations))), self.iterations, strict=True):
            problem = self.problem(live, model, level)
            if self.photometric and model.intensity is not None:
                problem = replace(problem, brightness=self.brightness(problem, T_mc))
            backward = self.backward if level == 0 or self.backward == "unroll" else "detach"
            T_mc = optim.solve(problem, T_mc, self.rule, iterations, backward=backward, last=self.last).x
        _, _, error, overlap = problem.reduce(T_mc)
        seen, known = ((s.weights > 0).flatten(1).sum(-1) for s in (live.surface, model))
        overlap = overlap * seen / torch.minimum(seen, known).clamp(min=1)
        moved = se3.log((T_mc @ se3.inverse(start)).detach()).abs().amax(-1)
        ok = (overlap > self.min_overlap) & (moved < self.max_step) & torch.isfinite(T_mc).flatten(1).all(-1)
        T_mc = torch.where(ok[:, None, None], T_mc, start)
        return Alignment(se3.renormalize(T_wm @ T_mc), ok, overlap, error)

    def problem(self, live: LiveFrame, model: Surface, level: int) -> ProjectiveICP:
        """The alignment on every 2^level-th pixel of every 2^level-th row."""
        step = 2**level
        number = partial(torch.as_tensor, dtype=live.sigma.dtype, device=live.sigma.device)
        limits = torch.stack([number(self.max_distance), number(math.cos(math.radians(self.max_angle)))])
        information = live.surface.weights / live.sigma**2
        # the implicit ways go back through one linearisation many times over: there is nothing to save
        lean = self.backward in ("unroll", "truncated")
        return ProjectiveICP(
            live.surface.subsampled(step), model.subsampled(step),
            information[:, step // 2 :: step, step // 2 :: step].contiguous(),
            limits, number(self.scale) * step, number(self.softness), self.across, lean=lean,
        )  # fmt: skip

    def brightness(self, problem: ProjectiveICP, T_mc: Tensor) -> Brightness:
        """What the photometric term adds, with exposure and noise as found at T_mc (B, 4, 4)."""
        model, surface = problem.model, problem.live
        points = (model.vertices.flatten(1, 2), model.intensity.flatten(1), model.weights.flatten(1))
        depth = surface.vertices[..., 2].contiguous()
        view = View(*points, surface.intensity.contiguous(), depth, surface.K, problem.limits[0])
        return Brightness.at(T_mc, view, problem.lean)
