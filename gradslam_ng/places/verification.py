"""Geometric and photometric verification of a place: ICP from coarse to fine, then a check of consistency."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.odometry.degeneracy import PRIOR_SIGMA
from gradslam_ng.places.consistency import Consistency, coarse_icp, compare_views, coverage
from gradslam_ng.structures import LiveFrame, SurfaceView

Predict = Callable[[Tensor], SurfaceView]  # what a map shows from poses T_wm (1, 4, 4)


@dataclass(frozen=True, eq=False)
class PlaceMatch:
    """A frame found in a map."""

    T_wc: Tensor  # (1, 4, 4)
    information: Tensor  # (6, 6) float64, of a right update of T_wc
    consistency: Consistency

    @property
    def covariance(self) -> Tensor:
        """(6, 6) float64, of a right update of T_wc."""
        eye = torch.eye(6, dtype=self.information.dtype, device=self.information.device)
        return torch.linalg.inv(self.information + eye / PRIOR_SIGMA**2)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlaceVerifier:
    """Aligns a frame with what a map shows near a place and says whether the two fit, in shape and in brightness.

        verifier = PlaceVerifier.for_loop_closure()
        match = verifier.locate(live, predict, T_wk, T_wc)   # None where the frame does not fit

    Of the frame's valid depths, at least a share `coverage` must lie where the map shows something, of these at least
    `depth_inliers` must agree with the map, within 2 cm and three standard deviations, and so must at least `overlap`
    of all. `ncc`: least normalized cross-correlation of the intensities where depths agree.

    max_sigma: greatest standard deviation of the position found, meters, and of the rotation, degrees, in whatever
    direction is constrained least: two stretches of a corridor fit each other anywhere along it. sigma: of an alignment
    in a direction that every pixel constrains, meters; more as fewer do.
    """

    coarse: ProjectiveICP
    fine: ProjectiveICP
    coverage: float = 0.0
    depth_inliers: float = 0.0
    overlap: float = 0.0
    ncc: float = -1.0
    max_sigma: tuple[float, float] = (math.inf, math.inf)
    sigma: float = 0.001

    @staticmethod
    def for_loop_closure(**settings: Any) -> PlaceVerifier:
        """Strict on how well the pose is constrained, for frames near enough that a part of the view has come back."""
        fine = ProjectiveICP(iterations=(0, 3, 5), max_step=0.3, min_overlap=0.3, rotation_iterations=0)
        preset = PlaceVerifier(
            coarse=coarse_icp(max_step=1.5), fine=fine, coverage=0.35, depth_inliers=0.8, ncc=0.6, max_sigma=(0.03, 1.0)
        )
        return replace(preset, **settings)

    @staticmethod
    def for_relocalization(**settings: Any) -> PlaceVerifier:
        """Strict on overlap: a camera is taken to be lost still unless most of what it sees is known."""
        fine = ProjectiveICP(iterations=(3, 4, 4), min_overlap=0.3)
        coarse = coarse_icp(max_step=1.0)
        preset = PlaceVerifier(coarse=coarse, fine=fine, depth_inliers=0.75, overlap=0.5, ncc=0.5)
        return replace(preset, **settings)

    def locate(
        self,
        live: LiveFrame,
        predict: Predict,
        T_wm: Tensor,  # (1, 4, 4), of the view that the frame is first aligned with
        T_wc: Tensor,  # (1, 4, 4), where the frame is expected
    ) -> PlaceMatch | None:
        """The frame found in the map, None where it does not fit. live: a batch of one."""
        model = predict(T_wc)
        if float(coverage(live, model)) < 0.8 * self.coverage:
            return None  # most of what it sees is in another part of the map
        if not torch.equal(T_wm, T_wc):
            model = predict(T_wm)
        aligned = self.align(live, predict, model, T_wc)
        return None if aligned is None else self.verify(live, *aligned)

    def align(
        self,
        live: LiveFrame,
        predict: Predict,
        model: SurfaceView,
        T_wc: Tensor,  # (1, 4, 4), where the frame is expected
    ) -> tuple[SurfaceView, Tensor] | None:
        """What the map shows from the pose found, and that pose (1, 4, 4): coarse, fine, and fine once more."""
        for icp in (self.coarse, self.fine, self.fine):
            found = icp(live, model, T_wc)
            if not bool(found.ok[0]):
                return None
            T_wc = found.T_wc
            model = predict(T_wc)
        return model, T_wc

    def verify(
        self,
        live: LiveFrame,
        model: SurfaceView,
        T_wc: Tensor,  # (1, 4, 4)
    ) -> PlaceMatch | None:
        """The frame at T_wc, from where the map shows `model`; None where the two do not fit."""
        found = compare_views(live, model)
        if found.coverage < self.coverage or found.depth_inlier_ratio < self.depth_inliers:
            return None
        if found.overlap < self.overlap or found.intensity_ncc < self.ncc:
            return None
        information = self.normal_equations(live, model) / self.sigma**2
        return PlaceMatch(T_wc, information, found) if self.is_constrained(information) else None

    def is_constrained(
        self,
        information: Tensor,  # (6, 6)
    ) -> bool:
        """Whether the standard deviation of the pose is within `max_sigma` in every direction."""
        if not any(map(math.isfinite, self.max_sigma)):
            return True
        covariance = torch.linalg.inv(information)
        meters, radians = (
            torch.linalg.eigvalsh(block)[-1].sqrt() for block in (covariance[:3, :3], covariance[3:, 3:])
        )
        return float(meters) <= self.max_sigma[0] and math.degrees(float(radians)) <= self.max_sigma[1]

    def normal_equations(self, live: LiveFrame, model: SurfaceView) -> Tensor:
        """H (6, 6) float64 of a right update of the pose where frame and model lie alike, from shape and brightness,
        divided by the sum of the weights."""
        identity = torch.eye(4, dtype=model.vertices.dtype, device=model.vertices.device)[None]
        level = self.fine.build_level(live, live.surface, model)
        problem = self.fine.problem(level, self.fine.added_factors(level, identity))
        H = problem.linearize(identity)[0][0].double().cpu()
        return H + 1e-6 * H.diagonal().amax().clamp(min=1e-9) * torch.eye(6, dtype=H.dtype, device=H.device)
