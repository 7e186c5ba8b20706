"""Frame-to-model alignment: point-to-plane ICP with projective association, coarse to fine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from gradslam_ng import optim
from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compilation_enabled
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.geometry import se3
from gradslam_ng.odometry.association import Gates, Window
from gradslam_ng.odometry.degeneracy import analyze_degeneracy, remap_solution, variance_factor
from gradslam_ng.odometry.icp_settings import DISCRETE, LEARNABLE, ICPSettings, as_scalar, step_strategy
from gradslam_ng.odometry.motion_blur import Motion, allow_offsets
from gradslam_ng.odometry.motion_prior import MotionPrior
from gradslam_ng.odometry.normal_equations import Blocks
from gradslam_ng.odometry.odometry import Odometry
from gradslam_ng.odometry.photometric import PhotometricFactor, PhotometricTerm, estimate_exposure
from gradslam_ng.odometry.point_to_plane import LivePoints, PointToPlaneFactor
from gradslam_ng.odometry.tracking_result import TrackingResult, TrackingStatus
from gradslam_ng.preprocessing import downsample
from gradslam_ng.structures import LiveFrame, SurfaceView

STRATEGY_SETTINGS = optim.SoftLevenbergMarquardt.learnable + optim.SoftLevenbergMarquardt.discrete


@dataclass(frozen=True, eq=False)
class PyramidLevel:
    """A frame and a model at one resolution."""

    index: int  # 0 is the finest, at full resolution; each next one has half the rows and columns
    frame: LiveFrame  # at full resolution
    live: SurfaceView
    model: SurfaceView
    geometry: PointToPlaneFactor


class Evaluation(NamedTuple):
    """A frame at the pose found."""

    H: Tensor  # (B, 6, 6), normal equations over the sum of the information of all vertices
    left: Tensor  # (B, 6, 6), of these, where color's camera may be off: less, and no part in which directions are open
    error: Tensor  # (B,), m^2, of the point-to-plane factor
    overlap: Tensor  # (B,), share of the frame's vertices that found a partner
    variance: Tensor  # (B,), what the covariance that these alone say must be multiplied by


class ProjectiveICP(Odometry):
    """Finds the pose of a frame against a model of what it should see.

    Point-to-plane ICP with projective association (Newcombe et al. 2011, section 3.5), robust and whitened by the depth
    noise. The frame is moved relative to the camera the model was rendered from, so numbers stay small however far from
    the world's origin the camera has walked.

    What is minimized is a sum of factors: the point-to-plane error, the photometric error, and `extra_factors`. Each
    has `linearize(T_mc)`, which returns H (B, 6, 6) and g (B, 6) to a left update of T_mc (B, 4, 4) and the error (B),
    and `error(T_mc)`; all of it divided by `level.geometry.total_information` (B).

    Settings are attributes of this module, read where they are used: those of type Tensor may be learned, as
    `nn.Parameter` given here or assigned later, and so may those of the strategy, a module of its own.

    Args:
        strategy: how steps are found and judged; default: `step_strategy()`.
        settings: see `ICPSettings`.
        extra_factors: function of a `PyramidLevel` and of T_mc where its iterations begin, which returns more factors.
        overrides: settings by name, which go before.

    Raises:
        ValueError: a setting outside its range, or a `backward` that does not go with it; also when one is assigned.
        TypeError: a setting that does not exist, a parameter for one without a gradient, a strategy that is no module.
    """

    capturable = True
    learnable, discrete = LEARNABLE, DISCRETE
    strategy: optim.StepStrategy
    iterations: tuple[int, ...]  # from here on the settings
    rotation_iterations: int
    row_stride: int
    max_distance: float | Tensor
    max_angle: float
    kernel_width: float | Tensor
    min_overlap: float
    max_step: float
    association_window: int
    association_sigma: float | Tensor
    association: str
    photometric: bool
    registration_sigma: float | Tensor
    backward: str
    backward_iterations: int

    def __init__(
        self,
        strategy: optim.StepStrategy | None = None,
        *,
        settings: ICPSettings | None = None,
        extra_factors: Callable[[PyramidLevel, Tensor], Sequence[optim.Term]] | None = None,
        **overrides: Any,
    ) -> None:
        super().__init__()
        self.strategy = step_strategy() if strategy is None else strategy
        self.extra_factors = extra_factors
        for name, value in vars(replace(settings or ICPSettings(), **overrides)).items():
            super().__setattr__(name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.learnable + self.discrete:
            known = {key: given for key, given in vars(self).items() if key in self.learnable + self.discrete}
            ICPSettings(**(known | {name: value}))  # refuses what is out of range
        elif name == "strategy" and not isinstance(value, nn.Module):
            raise TypeError(f"strategy: expected a module such as optim.LevenbergMarquardt, got {type(value).__name__}")
        elif name in STRATEGY_SETTINGS:
            raise TypeError(f"{name}: expected to be assigned to the strategy whose setting it is, odometry.strategy")
        super().__setattr__(name, value)

    @property
    def settings(self) -> ICPSettings:
        """All of them as they are now."""
        return ICPSettings(**{name: getattr(self, name) for name in self.learnable + self.discrete})

    @mode_free
    def forward(
        self,
        live: LiveFrame,
        model: SurfaceView,
        T_wc_init: Tensor,  # (B, 4, 4)
        T_wc_last: Tensor | None = None,  # (B, 4, 4)
    ) -> TrackingResult:
        """Align a frame with a model; see `Odometry.forward`.

        The search starts at T_wc_last if things fit better there. Where the frame has a `T_wc_told`, directions that
        are not observed are as T_wc_init has them, and `MotionPrior` is one of the factors.

        Raises:
            ValueError: a model without the pose it was seen from.
        """
        if model.T_wm is None:
            raise ValueError("model: expected a view with the pose of its camera, T_wm")
        T_mw = se3.inverse(model.T_wm)
        pyramid = self.build_pyramid(live, model)
        T_mc_init = T_mc_expected = T_mw @ T_wc_init
        if T_wc_last is not None:
            T_mc_init = better_initial_pose(pyramid[0].geometry, T_mc_init, T_mw @ T_wc_last)
        T_mc, T_wc_before = T_mc_init, T_wc_last if live.T_wc_before is None else live.T_wc_before
        for level, iterations in zip(pyramid, self.iterations, strict=True):
            added = self.added_factors(level, T_mc)
            if level.index == 0 and T_wc_before is not None:
                motion = Motion(T_mc, T_mc_expected, T_mw @ T_wc_before)
                added = allow_offsets(added, pyramid[0].geometry, motion)
            T_mc = self.minimize(self.problem(level, added), T_mc, level, iterations)
        found = self.evaluate(level, added, T_mc)

        # where a search starts has no part in an optimum, but the camera stays there as far as nothing is observed
        T_mc_prior = T_mc_init
        if live.T_wc_told is not None:  # told by another source, of which how the frame fits says nothing
            T_mc_prior = torch.where(live.T_wc_told[:, :1, :1].isfinite(), T_mc_expected, T_mc_init)
        T_mc_prior = T_mc_prior.detach() if self.backward == "detach" else T_mc_prior
        observed = analyze_degeneracy(found.H, level.geometry.total_information / found.variance, found.left)
        T_mc, xi = remap_solution(observed.projection, T_mc, T_mc_prior)
        status, overlap = self.classify(level, xi, observed.num_degenerate, found.overlap)
        ok = TrackingStatus.is_tracked(status)
        T_wc = se3.renormalize(model.T_wm @ torch.where(ok[:, None, None], T_mc, T_mc_init))
        to_camera = se3.adjoint(se3.inverse(T_mc))
        covariance = to_camera @ observed.covariance @ to_camera.mT
        return TrackingResult(T_wc, status, overlap, found.error, covariance)

    def build_pyramid(self, live: LiveFrame, model: SurfaceView) -> list[PyramidLevel]:
        """All levels, the coarsest first."""
        views = [(live.surface, model)]
        for _ in self.iterations[1:]:
            views.append((downsample(views[-1][0]), downsample(views[-1][1])))
        return [self.build_level(live, *views[index], index) for index in reversed(range(len(views)))]

    def build_level(self, frame: LiveFrame, live: SurfaceView, model: SurfaceView, index: int = 0) -> PyramidLevel:
        """One level, from the surfaces of frame and model at its resolution."""
        sigma = frame.sigma[:, 2**index - 1 :: 2**index, 2**index - 1 :: 2**index]
        scalar = partial(as_scalar, like=sigma)
        images = (live.vertices, live.normals, live.weights / sigma**2)
        vertices, normals, information = (self.select_pixels(image, index) for image in images)
        points = LivePoints(vertices, normals, information)
        gates = Gates(scalar(self.max_distance), scalar(math.cos(math.radians(self.max_angle))))
        kernel_width = scalar(self.kernel_width) * 2**index
        window = Window(self.association_window, scalar(self.association_sigma), self.association == "soft")
        rows = len(range(self.row_stride // 2, sigma.shape[1], self.row_stride)) if index == 0 else sigma.shape[1]
        blocks = Blocks.of((sigma.shape[1], sigma.shape[2]), rows)
        geometry = PointToPlaneFactor(points, model, gates, kernel_width, window, blocks)
        return PyramidLevel(index, frame, live, model, geometry)

    def select_pixels(
        self,
        image: Tensor,  # (B, H, W, ...)
        index: int,
    ) -> Tensor:
        """The pixels (B, P, ...) of an image that take part at a level."""
        stride = self.row_stride
        image = image[:, stride // 2 :: stride].contiguous() if index == 0 else image
        return image.flatten(1, 2)  # a view at every level: a tensor of its own would be compiled for once more

    def added_factors(
        self,
        level: PyramidLevel,
        T_mc: Tensor,  # (B, 4, 4)
    ) -> tuple[optim.Term, ...]:
        """What a level minimizes beside the point-to-plane error, from T_mc on."""
        added: list[optim.Term] = []
        if self.photometric and level.model.intensity is not None:
            added.append(self.photometric_factor(level, T_mc))
        if level.frame.T_wc_told is not None and level.model.T_wm is not None:
            total = level.geometry.total_information
            added.append(MotionPrior.of(level.frame.T_wc_told, level.model.T_wm, T_mc, total))
        if self.extra_factors is not None:
            added.extend(self.extra_factors(level, T_mc))
        return tuple(added)

    def photometric_factor(
        self,
        level: PyramidLevel,
        T_mc: Tensor,  # (B, 4, 4)
    ) -> PhotometricFactor:
        """The photometric error, with exposure and noise as found at T_mc.

        Raises:
            ValueError: a frame or a model without intensity.
        """
        live, model, geometry = level.live, level.model, level.geometry
        if live.intensity is None or model.intensity is None:
            raise ValueError("intensity: expected that of the frame and that of the model, got None")
        images = (model.vertices, model.intensity, model.weights)
        points, intensity, weights = (self.select_pixels(image, level.index) for image in images)
        depth = live.vertices[..., 2].contiguous()
        term = PhotometricTerm(
            points, intensity, weights, image=live.intensity, depth=depth,
            K=live.K.clone(),  # one tensor under two names: compiled once more
            occlusion_gate=geometry.gates.max_distance,
            registration_sigma=as_scalar(self.registration_sigma, like=depth) / 2**level.index,
            soft=geometry.window.soft,
        )  # fmt: skip
        exposure = self._evaluate(estimate_exposure, T_mc, term)
        return PhotometricFactor(term, exposure, geometry.kernel_width, geometry.total_information, geometry.blocks)

    def problem(self, level: PyramidLevel, added: Sequence[optim.Term]) -> optim.Sum:
        """The least-squares problem of a level."""
        own = (self._checkpoint(x) if isinstance(x, PhotometricFactor) else x for x in added)
        return optim.Sum(self._checkpoint(level.geometry), *own, variable=optim.SE3())

    def minimize(
        self,
        problem: optim.Sum,
        T_mc: Tensor,  # (B, 4, 4)
        level: PyramidLevel,
        iterations: int,
    ) -> Tensor:
        """T_mc (B, 4, 4) after the iterations of a level: at the coarsest, first those in which the camera rotates."""
        backward = self.backward if level.index == 0 or self.backward == "unroll" else "detach"
        solve = partial(optim.solve, strategy=self.strategy, backward=backward)
        if self.rotation_iterations and level.index == len(self.iterations) - 1:
            free = torch.cat([T_mc.new_zeros(3), T_mc.new_ones(3)])
            # a sum of one: the solver's kernels are compiled for each type of problem
            rotation = optim.Sum(optim.Subspace(problem, free), variable=problem.variable)
            found = solve(rotation, T_mc, iterations=self.rotation_iterations, backward_iterations=1)
            T_mc = cast(Tensor, found.x)
        found = solve(problem, T_mc, iterations=iterations, backward_iterations=self.backward_iterations)
        return cast(Tensor, found.x)

    def evaluate(
        self,
        level: PyramidLevel,
        added: Sequence[optim.Term],
        T_mc: Tensor,  # (B, 4, 4)
    ) -> Evaluation:
        """The normal equations at the end, and how well frame and model agree."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.backward != "detach"):
            H, _, error, overlap, scores = self._evaluate(PointToPlaneFactor.evaluate, level.geometry, T_mc)
            # depth is smoothed: what the rows left out know is in their neighbors
            H, scores, known = self.row_stride * H, self.row_stride * scores, torch.zeros_like(H)
            left = H
            for factor in added:
                if isinstance(factor, PhotometricFactor):
                    more, kept, of_blocks = self._evaluate(PhotometricFactor.evaluate, factor, T_mc)
                    H, left, scores = H + more, left + kept, scores + of_blocks
                else:
                    known = known + factor.linearize(T_mc)[0]
            variance = variance_factor(left, scores, level.geometry.total_information)
        return Evaluation(H + known, left + known, error, overlap, variance)

    def classify(
        self,
        level: PyramidLevel,
        xi: Tensor,  # (B, 6)
        num_degenerate: Tensor,  # (B,)
        overlap: Tensor,  # (B,)
    ) -> tuple[Tensor, Tensor]:
        """The `TrackingStatus` (B,) of a motion xi found, and its overlap (B,) relative to the smaller surface."""
        live, model = ((surface.weights > 0).flatten(1).sum(-1) for surface in (level.live, level.model))
        overlap = overlap * live / torch.minimum(live, model).clamp(min=1)
        status = torch.where(num_degenerate < 0.5, int(TrackingStatus.TRACKED), int(TrackingStatus.DEGENERATE))
        status = torch.where(xi.abs().amax(-1) < self.max_step, status, int(TrackingStatus.JUMP))
        status = torch.where(xi.isfinite().all(-1), status, int(TrackingStatus.NOT_FINITE))
        status = torch.where(overlap > self.min_overlap, status, int(TrackingStatus.NO_OVERLAP))
        return torch.where(live > 0, status, int(TrackingStatus.NO_DEPTH)), overlap

    @property
    def checkpointed(self) -> bool:
        """Whether evaluations are worked out again in the backward pass: the implicit ways go back through one of them
        many times over, where there is nothing to save. Compiled functions do so by themselves."""
        return self.backward in ("unroll", "truncated") and not compilation_enabled()

    def _checkpoint(self, factor: optim.Term) -> optim.Term:
        return optim.Checkpointed(factor) if self.checkpointed else factor

    def _evaluate(self, function: Callable[..., Any], *args: Any) -> Any:
        return checkpoint(function, *args) if self.checkpointed else function(*args)


@discrete
def fits_better(
    factor: optim.Term,
    T_mc: Tensor,  # (B, 4, 4)
    T_mc_other: Tensor,  # (B, 4, 4)
) -> Tensor:
    """Where the error is no greater at T_mc than elsewhere, (B,) bool."""
    return factor.error(T_mc) <= factor.error(T_mc_other)


def better_initial_pose(
    factor: optim.Term,
    T_mc: Tensor,  # (B, 4, 4)
    T_mc_other: Tensor,  # (B, 4, 4)
) -> Tensor:
    """Of two poses that at which a factor's error is smaller, (B, 4, 4)."""
    return torch.where(fits_better(factor, T_mc, T_mc_other)[:, None, None], T_mc, T_mc_other)
