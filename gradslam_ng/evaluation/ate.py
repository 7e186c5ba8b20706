"""Absolute trajectory error: how far the camera was from where it should have been (Sturm et al. 2012)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.evaluation.alignment import align as align_to
from gradslam_ng.evaluation.alignment import associate, spans
from gradslam_ng.evaluation.statistics import Statistics, as_errors
from gradslam_ng.structures import Trajectory


@dataclass(frozen=True, eq=False)
class ATE(Statistics):
    """Distances between paired camera positions, meters, with what is needed to draw them."""

    ground_truth: Trajectory  # the pairs that were compared, N poses
    estimate: Trajectory  # the same pairs, aligned
    T_align: Tensor  # (4, 4), maps estimated positions onto the ground truth; scale in the upper left block


@mode_free
def ate(ground_truth: Trajectory, estimate: Trajectory, align: str = "se3", max_gap: float = 0.02) -> ATE:
    """Absolute trajectory error of the positions, as the TUM tools and evo define it.

    Args:
        align: "none", "se3" (rotation and translation) or "sim3" (and scale), fitted on all pairs.
        max_gap: largest difference in time of two poses that are compared, seconds.

    Raises:
        ValueError: an unknown alignment, no overlap in time, no known pose, or fewer than three pairs to align.
    """
    whole = ground_truth, estimate
    ground_truth, estimate = associate(ground_truth, estimate, max_gap)
    try:
        estimate, T_align = align_to(ground_truth, estimate, align)
    except ValueError as error:
        few = len(estimate) < min(3, *map(len, whole))
        raise ValueError(f"{error}: {spans(*whole)}" if few else str(error)) from None
    errors = (estimate.T_wc[:, :3, 3] - ground_truth.T_wc[:, :3, 3]).norm(dim=-1)
    return ATE(as_errors(errors), ground_truth, estimate, T_align)
