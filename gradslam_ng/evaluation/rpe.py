"""Relative pose error: how far the camera drifts over a number of frames, seconds or meters (Sturm et al. 2012)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.evaluation.alignment import align as align_to
from gradslam_ng.evaluation.alignment import associate
from gradslam_ng.evaluation.statistics import Statistics, as_errors
from gradslam_ng.geometry import se3, so3
from gradslam_ng.structures import Trajectory
from gradslam_ng.structures.trajectory import COINCIDENT

UNITS = ("frames", "seconds", "meters")
SPELLINGS = {"metres": "meters"}  # that mean one of them
ROUNDING = {"frames": 0.0, "seconds": COINCIDENT, "meters": 1e-6}  # by which sums of steps may miss a round number


@dataclass(frozen=True, eq=False)
class RPE:
    """Drift between the two poses of each pair."""

    translation: Statistics  # meters
    rotation: Statistics  # degrees
    pairs: Tensor  # (N, 2), indices of the associated poses


@mode_free
def rpe(
    ground_truth: Trajectory,
    estimate: Trajectory,
    delta: float = 1,
    unit: str = "frames",
    *,
    all_pairs: bool = True,
    align: str = "none",
    max_gap: float = 0.02,
    tolerance: float = 0.1,
) -> RPE:
    """Relative pose error, as evo defines it (and the TUM tools with a fixed delta).

    Args:
        delta: what lies between the two poses of a pair, in `unit`: a number of associated frames, seconds between the
            estimate's time stamps, or meters traveled along the estimate.
        all_pairs: every pose starts a pair, which ends at the pose nearest to `delta` away; otherwise pairs follow
            one another, each ending as soon as `delta` is reached.
        align: only "sim3" changes the result, by its scale.
        max_gap: largest difference in time of two poses that are compared, seconds.
        tolerance: how far a pair of `all_pairs` in seconds or meters may be from `delta`, as a fraction of it.

    Raises:
        ValueError: an unknown unit or alignment, a delta that is not positive (or not whole frames), no pair that far
            apart, no overlap in time, or no known pose.
    """
    unit = SPELLINGS.get(unit, unit)
    if unit not in UNITS:
        raise ValueError(f"unit: expected one of {', '.join(UNITS)}, got {unit!r}")
    if not 0 < delta < math.inf or (unit == "frames" and delta != int(delta)):
        number = "whole number" if unit == "frames" else "number"
        raise ValueError(f"delta: expected a positive {number} of {unit}, got {delta}")
    ground_truth, estimate = associate(ground_truth, estimate, max_gap)
    estimate, _ = align_to(ground_truth, estimate, align)

    along = _along(estimate, unit)
    allowed = 0.0 if unit == "frames" else tolerance * delta
    rounding = ROUNDING[unit]
    pairs = _all_pairs(along, delta, allowed + rounding) if all_pairs else _consecutive_pairs(along, delta - rounding)
    if not len(pairs):
        raise ValueError(f"no two of {len(estimate)} poses are {delta} {unit} apart; all span {along[-1]:.6g}")
    i, j = pairs.unbind(-1)
    T_truth = se3.inverse(ground_truth.T_wc[i]) @ ground_truth.T_wc[j]
    T_estimate = se3.inverse(estimate.T_wc[i]) @ estimate.T_wc[j]
    drift = se3.inverse(T_truth) @ T_estimate
    angle = so3.log(drift[:, :3, :3]).norm(dim=-1)
    return RPE(Statistics(as_errors(drift[:, :3, 3].norm(dim=-1))), Statistics(as_errors(angle.rad2deg())), pairs)


def _along(estimate: Trajectory, unit: str) -> Tensor:
    """How far along the trajectory each pose is, in `unit`: (L,), never decreasing."""
    if unit == "frames":
        return torch.arange(len(estimate), dtype=torch.float64, device=estimate.T_wc.device)
    if unit == "seconds":
        return estimate.timestamps - estimate.timestamps[0]
    steps = estimate.T_wc[:, :3, 3].diff(dim=0).norm(dim=-1)
    return torch.cat([steps.new_zeros(1), steps.cumsum(0)])


def _all_pairs(along: Tensor, delta: float, allowed: float) -> Tensor:
    """From every pose to the later one nearest to `delta` further on, if within `allowed`."""
    n = len(along)
    start, last = torch.arange(n - 1, device=along.device), n - 1
    after = torch.searchsorted(along, along[:-1] + delta)  # first at or beyond the wanted place
    before = (after - 1).clamp(min=0)
    # Of equal distances (a camera at rest) evo takes the first pose that has it.
    before = torch.searchsorted(along, along[before]).maximum(start + 1)
    after = after.clamp(max=last).maximum(start + 1)
    off_before = (along[before] - along[:-1] - delta).abs()
    off_after = (along[after] - along[:-1] - delta).abs()
    end = torch.where(off_after < off_before, after, before)
    pairs = torch.stack([start, end], dim=-1)
    return pairs[torch.minimum(off_before, off_after) <= allowed]


def _consecutive_pairs(along: Tensor, delta: float) -> Tensor:
    """Pairs end to end, each as short as reaches `delta`."""
    ends = [0]
    while (end := int(torch.searchsorted(along, along[ends[-1]] + delta))) < len(along):
        ends.append(end)
    ids = torch.tensor(ends, device=along.device)
    return torch.stack([ids[:-1], ids[1:]], dim=-1)
