"""Frame-to-model alignment: point-to-plane ICP, coarse to fine."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import degeneracy
from gradslam_ng.odometry.icp_problem import ICPProblem, closer
from gradslam_ng.odometry.icp_settings import ICPSettings, step_strategy
from gradslam_ng.odometry.odometry import Odometry
from gradslam_ng.odometry.photometric import Brightness, View
from gradslam_ng.odometry.tracking_result import TrackingResult, TrackingStatus
from gradslam_ng.preprocessing import downsample
from gradslam_ng.structures import LiveFrame, SurfaceView


class ProjectiveICP(Odometry):
    """Finds the pose of a frame against a model of what it should see.

    Point-to-plane ICP with projective association (Newcombe et al. 2011, section 3.5), robust and whitened by the depth
    noise. The frame is moved relative to the camera the model was rendered from, so numbers stay small however far from
    the world's origin the camera has walked.

    Settings may be tensors with a gradient; those that are `nn.Parameter`, of the strategy too, become parameters of
    this module.

    Args:
        strategy: how steps are found and judged; default: `step_strategy()`.
        settings: see `ICPSettings`.
        overrides: settings by name, which go before.

    Raises:
        ValueError: a setting outside its range, or a `backward` that does not go with it.
        TypeError: a setting that does not exist.
    """

    capturable = True

    def __init__(
        self, strategy: optim.StepStrategy | None = None, *, settings: ICPSettings | None = None, **overrides: Any
    ) -> None:
        super().__init__()
        self.strategy = step_strategy() if strategy is None else strategy
        self._settings = replace(settings or ICPSettings(), **overrides)
        for name, value in (vars(self.strategy) | vars(self._settings)).items():
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)

    @property
    def settings(self) -> ICPSettings:
        """With the parameters as they are now: `torch.func.functional_call` puts others in their place."""
        learned = dict(self.named_parameters(recurse=False))
        names = learned.keys() & vars(self._settings).keys()
        return replace(self._settings, **{name: learned[name] for name in names}) if names else self._settings

    def forward(
        self, live: LiveFrame, model: SurfaceView, T_wc_init: Tensor, T_wc_last: Tensor | None = None
    ) -> TrackingResult:
        """Align a frame with a model.

        live in its camera c, model as seen from camera m, with its pose; T_wc_init (B, 4, 4) is where the camera is
        expected. T_wc_last (B, 4, 4), where it was before, is where the search starts if things fit better there. A
        frame that is lost stays where it was expected.
        """
        settings = self.settings
        T_wm = model.T_wm
        T_mw = se3.inverse(T_wm)
        start = T_mw @ T_wc_init
        pyramid = [(live.surface, model)]
        for _ in settings.iterations[1:]:
            pyramid.append(tuple(downsample(surface) for surface in pyramid[-1]))
        for level, iterations in zip(reversed(range(len(settings.iterations))), settings.iterations, strict=True):
            seen, known = pyramid[level]
            problem = self.problem(live, seen, known, level)
            if level == len(settings.iterations) - 1:
                if T_wc_last is not None:
                    start = torch.where(closer(problem, start, T_mw @ T_wc_last), start, T_mw @ T_wc_last)
                T_mc = start
            if settings.photometric and model.intensity is not None:
                problem = replace(problem, brightness=self.brightness(problem, seen, T_mc, level))
            backward = settings.backward if level == 0 or settings.backward == "unroll" else "detach"
            if settings.rotation_iterations and level == len(settings.iterations) - 1:
                turning = replace(problem, turning=True)
                T_mc = optim.solve(
                    turning, T_mc, self.strategy, settings.rotation_iterations, backward=backward, backward_iterations=1
                ).x
            T_mc = optim.solve(
                problem, T_mc, self.strategy, iterations, backward=backward,
                backward_iterations=settings.backward_iterations,
            ).x  # fmt: skip
        with torch.set_grad_enabled(torch.is_grad_enabled() and settings.backward != "detach"):
            *sums, overlap = problem.reduce(T_mc)
            # depth is smoothed: what the rows left out know is in their neighbours
            H, _, _ = problem.with_brightness(T_mc, settings.row_stride * sums[0], *sums[1:])
        base = start if settings.backward == "unroll" else start.detach()  # other ways back know no start
        fixed = degeneracy.fixed(H, problem.total)
        T_mc, delta = degeneracy.believed(fixed.keep, T_mc, base)
        status, overlap = self.classify(delta, fixed.all, overlap, live.surface, model)
        found = TrackingResult(T_wc_init, status, overlap, sums[2], fixed.covariance)
        return replace(found, T_wc=se3.renormalize(T_wm @ torch.where(found.ok[:, None, None], T_mc, start)))

    def classify(
        self, delta: Tensor, fixed: Tensor, overlap: Tensor, seen: SurfaceView, known: SurfaceView
    ) -> tuple[Tensor, Tensor]:
        """The `TrackingStatus` (B,) of a motion found, and its overlap (B,) relative to the smaller surface."""
        settings = self.settings
        readings, model = ((surface.weights > 0).flatten(1).sum(-1) for surface in (seen, known))
        overlap = overlap * readings / torch.minimum(readings, model).clamp(min=1)
        status = torch.where(fixed, int(TrackingStatus.TRACKED), int(TrackingStatus.DEGENERATE))
        status = torch.where(delta.abs().amax(-1) < settings.max_step, status, int(TrackingStatus.JUMP))
        status = torch.where(delta.isfinite().all(-1), status, int(TrackingStatus.NOT_FINITE))
        status = torch.where(overlap > settings.min_overlap, status, int(TrackingStatus.NO_OVERLAP))
        return torch.where(readings > 0, status, int(TrackingStatus.NO_DEPTH)), overlap

    def problem(self, live: LiveFrame, seen: SurfaceView, known: SurfaceView, level: int) -> ICPProblem:
        """The alignment of what is seen with what is known at one level."""
        settings = self.settings
        sigma = live.sigma[:, 2**level - 1 :: 2**level, 2**level - 1 :: 2**level]
        number = partial(setting, like=sigma)
        limits = torch.stack([number(settings.max_distance), number(math.cos(math.radians(settings.max_angle)))])
        images = (seen.vertices, seen.normals, seen.weights / sigma**2)
        vertices, normals, information = (self.chosen(value, level) for value in images)
        total = information.sum(-1).clamp(min=1.0)  # less is no reading at all
        # the implicit ways go back through one linearisation many times over: there is nothing to save
        lean = settings.backward in ("unroll", "truncated")
        scale, softness = number(settings.kernel_width) * 2**level, number(settings.association_sigma)
        points = (vertices, normals, information, total)
        return ICPProblem(*points, known, limits, scale, softness, settings.association_window, lean=lean)

    def chosen(self, image: Tensor, level: int) -> Tensor:
        """The pixels of an image (B, H, W, ...) that take part, (B, P, ...)."""
        settings = self.settings
        image = image[:, settings.row_stride // 2 :: settings.row_stride].contiguous() if level == 0 else image
        return image.flatten(1, 2)  # a view at every level: a tensor of its own would be compiled for once more

    def brightness(self, problem: ICPProblem, seen: SurfaceView, T_mc: Tensor, level: int) -> Brightness:
        """What the photometric term adds, with exposure and noise as found at T_mc (B, 4, 4)."""
        known = problem.model
        points = (self.chosen(value, level) for value in (known.vertices, known.intensity, known.weights))
        depth, K = seen.vertices[..., 2].contiguous(), seen.K.clone()  # one tensor under two names: compiled once more
        registration = setting(self.settings.registration_sigma, like=depth) / 2**level
        view = View(*points, seen.intensity, depth, K, problem.limits[0], registration)
        return Brightness.at(T_mc, view, problem.lean)


def setting(value: float | Tensor, like: Tensor) -> Tensor:
    """A setting as a tensor () beside `like`. A number is filled in there: copying it would wait for a GPU."""
    return value.to(like) if isinstance(value, Tensor) else like.new_full((), value)
