"""Frame-to-model alignment: point-to-plane ICP, coarse to fine."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import degeneracy
from gradslam_ng.odometry.icp_problem import ICPProblem, closer
from gradslam_ng.odometry.photometric import Brightness, View
from gradslam_ng.odometry.tracking_result import TrackingResult, TrackingStatus
from gradslam_ng.structures import LiveFrame, SurfaceView

# Which vertex meets which changes from step to step, and moves the error by about this share of it: less is no verdict
# on a step, and a gradient through such a verdict would be one of noise. `error_noise` of the rules here.
ASSOCIATION_NOISE = 1e-3


class ProjectiveICP(nn.Module):
    """Finds the pose of a frame against a model of what it should see.

    Point-to-plane ICP with projective association (Newcombe et al. 2011, section 3.5), robust and whitened by the depth
    noise. The frame is moved relative to the camera the model was rendered from, so numbers stay small however far from
    the world's origin the camera has walked.

    Settings may be tensors with a gradient; those that are `nn.Parameter`, of the rule too, become parameters of this
    module.

    Args:
        rule: how steps are found and judged, by default `optim.SoftLevenbergMarquardt` that takes changes of the error
            below `ASSOCIATION_NOISE` for noise.
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
        photometric: what is seen must also look as bright as the model remembers it.
        registration: how far colour may lie from where the depth says, standard deviation, pixels.
        turns: iterations at the coarsest level in which the camera only turns, before all others: most of what a hand
            does from frame to frame.
        rows: at the finest level every so many-th row of pixels takes part: its neighbours say much the same.
        backward: how the pose is differentiated, as in `optim.solve`. Other than with "unroll", only the finest level
            is, and where the search started gets no gradient.
        last: iterations of the finest level that "truncated" goes back through.

    Raises:
        ValueError: a setting outside its range, or a `backward` that does not go with it.
    """

    capturable = True  # see `slam.captured`

    def __init__(
        self,
        strategy: optim.StepStrategy | None = None,
        iterations: tuple[int, ...] = (4, 3, 2),
        max_distance: float | Tensor = 0.1,
        max_angle: float = 30.0,
        scale: float | Tensor = 4.685,
        min_overlap: float = 0.4,
        max_step: float = 0.5,
        candidates: int = 1,
        softness: float | Tensor = 0.5,
        photometric: bool = True,
        registration: float | Tensor = 0.5,
        turns: int = 2,
        rows: int = 2,
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
        self.strategy = (
            optim.SoftLevenbergMarquardt(damping=1e-6, error_noise=ASSOCIATION_NOISE) if strategy is None else strategy
        )
        self.iterations, self.scale = tuple(iterations), scale
        self.max_distance, self.max_angle = max_distance, max_angle
        self.min_overlap, self.max_step = min_overlap, max_step
        self.across, self.softness = math.isqrt(candidates), softness
        self.photometric, self.registration, self.turns = photometric, registration, turns
        self.rows = rows
        self.backward, self.last = backward, last
        for name, value in vars(self.strategy).items():
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)

    def forward(
        self, live: LiveFrame, model: SurfaceView, T_wm: Tensor, T_wc: Tensor, T_last: Tensor | None = None
    ) -> TrackingResult:
        """Align a frame with a model.

        live in its camera c, model as seen from camera m at T_wm (B, 4, 4); T_wc (B, 4, 4) is where the camera is
        expected. T_last (B, 4, 4), where it was before, is where the search starts if things fit better there. A frame
        that is lost stays where it was expected.
        """
        T_mw = se3.inverse(T_wm)
        start = T_mw @ T_wc
        pyramid = [(live.surface, model)]
        for _ in self.iterations[1:]:
            pyramid.append(tuple(surface.halved() for surface in pyramid[-1]))
        for level, iterations in zip(reversed(range(len(self.iterations))), self.iterations, strict=True):
            seen, known = pyramid[level]
            problem = self.problem(live, seen, known, level)
            if level == len(self.iterations) - 1:
                if T_last is not None:
                    start = torch.where(closer(problem, start, T_mw @ T_last), start, T_mw @ T_last)
                T_mc = start
            if self.photometric and model.intensity is not None:
                problem = replace(problem, brightness=self.brightness(problem, seen, T_mc, level))
            backward = self.backward if level == 0 or self.backward == "unroll" else "detach"
            if self.turns and level == len(self.iterations) - 1:
                turning = replace(problem, turning=True)
                T_mc = optim.solve(turning, T_mc, self.strategy, self.turns, backward=backward, last=1).x
            T_mc = optim.solve(problem, T_mc, self.strategy, iterations, backward=backward, last=self.last).x
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.backward != "detach"):
            *sums, overlap = problem.reduce(T_mc)
            # depth is smoothed: what the rows left out know is in their neighbours
            H, _, _ = problem.with_brightness(T_mc, self.rows * sums[0], *sums[1:])
        base = start if self.backward == "unroll" else start.detach()  # other ways back know no start
        fixed = degeneracy.fixed(H, problem.total)
        T_mc, delta = degeneracy.believed(fixed.keep, T_mc, base)
        status, overlap = self.classify(delta, fixed.all, overlap, live.surface, model)
        found = TrackingResult(T_wc, status, overlap, sums[2], fixed.covariance)
        return replace(found, T_wc=se3.renormalize(T_wm @ torch.where(found.ok[:, None, None], T_mc, start)))

    def classify(
        self, delta: Tensor, fixed: Tensor, overlap: Tensor, seen: SurfaceView, known: SurfaceView
    ) -> tuple[Tensor, Tensor]:
        """The `TrackingStatus` (B,) of a motion found, and its overlap (B,) relative to the smaller surface."""
        readings, model = ((surface.weights > 0).flatten(1).sum(-1) for surface in (seen, known))
        overlap = overlap * readings / torch.minimum(readings, model).clamp(min=1)
        status = torch.where(fixed, int(TrackingStatus.TRACKED), int(TrackingStatus.DEGENERATE))
        status = torch.where(delta.abs().amax(-1) < self.max_step, status, int(TrackingStatus.JUMP))
        status = torch.where(delta.isfinite().all(-1), status, int(TrackingStatus.NOT_FINITE))
        status = torch.where(overlap > self.min_overlap, status, int(TrackingStatus.NO_OVERLAP))
        return torch.where(readings > 0, status, int(TrackingStatus.NO_DEPTH)), overlap

    def problem(self, live: LiveFrame, seen: SurfaceView, known: SurfaceView, level: int) -> ICPProblem:
        """The alignment of what is seen with what is known at one level."""
        sigma = live.sigma[:, 2**level - 1 :: 2**level, 2**level - 1 :: 2**level]
        number = partial(setting, like=sigma)
        limits = torch.stack([number(self.max_distance), number(math.cos(math.radians(self.max_angle)))])
        images = (seen.vertices, seen.normals, seen.weights / sigma**2)
        vertices, normals, information = (self.chosen(value, level) for value in images)
        total = information.sum(-1).clamp(min=1.0)  # less is no reading at all
        # the implicit ways go back through one linearisation many times over: there is nothing to save
        lean = self.backward in ("unroll", "truncated")
        scale, softness = number(self.scale) * 2**level, number(self.softness)
        points = (vertices, normals, information, total)
        return ICPProblem(*points, known, limits, scale, softness, self.across, lean=lean)

    def chosen(self, image: Tensor, level: int) -> Tensor:
        """The pixels of an image (B, H, W, ...) that take part, (B, P, ...)."""
        image = image[:, self.rows // 2 :: self.rows].contiguous() if level == 0 else image
        return image.flatten(1, 2)  # a view at every level: a tensor of its own would be compiled for once more

    def brightness(self, problem: ICPProblem, seen: SurfaceView, T_mc: Tensor, level: int) -> Brightness:
        """What the photometric term adds, with exposure and noise as found at T_mc (B, 4, 4)."""
        known = problem.model
        points = (self.chosen(value, level) for value in (known.vertices, known.intensity, known.weights))
        depth, K = seen.vertices[..., 2].contiguous(), seen.K.clone()  # one tensor under two names: compiled once more
        registration = setting(self.registration, like=depth) / 2**level
        view = View(*points, seen.intensity, depth, K, problem.limits[0], registration)
        return Brightness.at(T_mc, view, problem.lean)


def setting(value: float | Tensor, like: Tensor) -> Tensor:
    """A setting as a tensor () beside `like`. A number is filled in there: copying it would wait for a GPU."""
    return value.to(like) if isinstance(value, Tensor) else like.new_full((), value)
