"""Whether a frame shows a place of an earlier pass, and how the two lie to each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng.geometry import images
from gradslam_ng.graph.information import square_root
from gradslam_ng.loops.submaps import colors_seen
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.places.consistency import coarse_icp, compare_views
from gradslam_ng.rendering import predict
from gradslam_ng.structures import LiveFrame, SurfaceView, SurfelMap


@dataclass(frozen=True, eq=False)
class Match:
    """A frame found in an earlier pass."""

    T_wc: Tensor  # (4, 4) float64, where that pass has it
    W: Tensor  # (6, 6), square-root information, of a right update
    overlap: float
    likeness: float


class Verifier:
    """Aligns a frame with what an earlier pass shows and says whether the two fit, in shape and in colour.

    Args:
        overlap: least share of the frame's readings where the earlier pass shows something.
        agreement: least share of these at which depths agree, within 2 cm and three standard deviations.
        likeness: least correlation of brightness there.
        sigma: of an alignment in a direction that every pixel fixes, metres; more as fewer do.
        slack: greatest standard deviation of the position found, metres, and of the direction, degrees, in whatever
            direction is fixed least: two stretches of a corridor fit each other anywhere along it.
    """

    def __init__(
        self, overlap: float = 0.35, agreement: float = 0.8, likeness: float = 0.6, sigma: float = 0.001,
        slack: tuple[float, float] = (0.03, 1.0),
    ) -> None:  # fmt: skip
        self.overlap, self.agreement, self.likeness = overlap, agreement, likeness
        self.sigma, self.slack = sigma, slack
        self.coarse = coarse_icp(max_step=1.5)
        self.fine = ProjectiveICP(iterations=(0, 3, 5), max_step=0.3, min_overlap=0.3, rotation_iterations=0)

    def __call__(self, live: LiveFrame, before: SurfelMap, T_wk: Tensor, start: Tensor, stable: float) -> Match | None:
        """The frame in the map `before`, looked at from T_wk (4, 4), starting at `start`; None where it does not fit.

        Aligned to the keyframe's view first, then to what the place found shows.
        """
        surface = live.surface
        K, size = surface.K, surface.size
        T_wm, T_wc = (T.to(surface.vertices)[None] for T in (T_wk, start))
        readings = (surface.vertices[..., 2] > 0).sum().clamp(min=1)
        if float((colors_seen(before, T_wc, K, size)[1] > 0).sum() / readings) < 0.8 * self.overlap:
            return None  # most has come back already, or is elsewhere
        for align in (self.coarse, self.fine, self.fine):
            model = predict(before, T_wm, K, size, stable)
            found = align(live, model, T_wc)
            if not bool(found.ok[0]):
                return None
            T_wc = T_wm = found.T_wc
        color, depth = colors_seen(before, T_wc, K, size)
        intensity = images.intensity(color)[..., 0].unflatten(1, size)
        overlap, agreement, likeness = compare_views(live, depth.unflatten(1, size), intensity)
        if overlap < self.overlap or agreement < self.agreement or likeness < self.likeness:
            return None
        information = self.normal_equations(live, predict(before, T_wc, K, size, stable)) / self.sigma**2
        spread = torch.linalg.inv(information)
        metres, radians = (torch.linalg.eigvalsh(block)[-1].sqrt() for block in (spread[:3, :3], spread[3:, 3:]))
        if float(metres) > self.slack[0] or math.degrees(float(radians)) > self.slack[1]:
            return None
        return Match(T_wc[0].double().cpu(), square_root(information), overlap, likeness)

    def normal_equations(self, live: LiveFrame, model: SurfaceView) -> Tensor:
        """H (6, 6) float64 of a right update of the pose where frame and model lie alike, from shape and brightness,
        divided by the sum of the weights."""
        still = torch.eye(4).to(model.vertices)[None]
        problem = self.fine.problem(live, live.surface, model, 0)
        if model.intensity is not None:
            problem = replace(problem, brightness=self.fine.brightness(problem, live.surface, still, 0))
        H = problem.linearize(still)[0][0].double().cpu()
        return H + 1e-6 * H.diagonal().amax().clamp(min=1e-9) * torch.eye(6, dtype=H.dtype)
