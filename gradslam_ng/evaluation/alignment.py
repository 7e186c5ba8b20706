"""Trajectory alignment: association of poses by time, and Umeyama's transform of one onto the other."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from gradslam_ng.geometry import so3
from gradslam_ng.structures import Trajectory
from gradslam_ng.structures.trajectory import COINCIDENT, repetitions

ALIGNMENTS = ("none", "se3", "sim3")

# Each camera carries a triad of axes of this length, in meters, which takes part in the alignment like its position.
# Positions that spread in two directions outweigh the triads a million times over; where positions leave the rotation
# open, on a straight line or on the spot, the triads decide it.
TRIAD = 1e-5


def associate(ground_truth: Trajectory, estimate: Trajectory, max_gap: float = 0.02) -> tuple[Trajectory, Trajectory]:
    """Pairs of poses nearest in time: every pose of the shorter trajectory finds the nearest of the longer one.

    The rule of evo (and of the TUM tools wherever the nearest pose is nobody else's nearest), in n log n. Poses that
    are not known count as not recorded; in an estimate a warning counts them.

    Args:
        max_gap: largest difference in time of a pair, seconds, to the microsecond.

    Returns:
        Ground truth and estimate, both of the length of the pairs found, each with its own time stamps.

    Raises:
        ValueError: a trajectory without any known pose, or no two poses within `max_gap`.
        TypeError: no trajectories.
    """
    for name, trajectory in (("ground truth", ground_truth), ("estimate", estimate)):
        if not isinstance(trajectory, Trajectory):
            raise TypeError(f"{name}: expected a Trajectory, got {type(trajectory).__name__}")
    lost = (~estimate.known).nonzero().flatten()
    if len(lost):
        when = estimate.timestamps[lost[0]].item()
        counted = f"{len(lost)} of {len(estimate)} poses are not known, the first at time {when:.6f}"
        warnings.warn(f"estimate: {counted}; errors are those of the others", stacklevel=3)
    ground_truth, estimate = ground_truth[ground_truth.known], estimate[estimate.known]
    for name, trajectory in (("ground truth", ground_truth), ("estimate", estimate)):
        if not len(trajectory):
            raise ValueError(f"{name}: expected at least one known pose, got none")

    if len(estimate) > len(ground_truth):
        in_truth, in_estimate = _nearest(ground_truth.timestamps, estimate.timestamps, max_gap)
    else:
        in_estimate, in_truth = _nearest(estimate.timestamps, ground_truth.timestamps, max_gap)
    if not len(in_truth):
        raise ValueError(f"no two time stamps within {max_gap} s of each other: {spans(ground_truth, estimate)}")
    return ground_truth[in_truth], estimate[in_estimate]


def spans(ground_truth: Trajectory, estimate: Trajectory) -> str:
    """What times two trajectories cover, for messages."""
    t, s = ground_truth.timestamps, estimate.timestamps
    times = f"ground truth covers {t[0]:.3f} to {t[-1]:.3f} s, estimate {s[0]:.3f} to {s[-1]:.3f} s"
    return f"{times}; are both in seconds of one clock?"


def align(ground_truth: Trajectory, estimate: Trajectory, mode: str = "se3") -> tuple[Trajectory, Tensor]:
    """The estimate laid over the ground truth by the rigid ("se3") or similarity ("sim3") transform that fits best.

    Umeyama 1991 on the camera positions of associated trajectories; `TRIAD` says what happens on a straight line.

    Returns:
        The aligned estimate, its rotations still orthonormal, and the transform (4, 4) that maps positions, with the
        scale in its upper left block.

    Raises:
        ValueError: an unknown mode, fewer than three pairs, or for sim3 a camera that does not move.
    """
    if mode not in ALIGNMENTS:
        raise ValueError(f"align: expected one of {', '.join(ALIGNMENTS)}, got {mode!r}")
    if mode == "none":
        return estimate, torch.eye(4).to(estimate.T_wc)
    if len(estimate) < 3:
        raise ValueError(f"align={mode}: expected at least 3 pairs of poses, got {len(estimate)}; align=none needs 1")
    T_ge, scale = umeyama(ground_truth.T_wc, estimate.T_wc, with_scale=mode == "sim3")
    T_wc = T_ge @ estimate.T_wc
    T_wc[:, :3, :3] /= scale
    return Trajectory(estimate.timestamps, T_wc), T_ge


def umeyama(
    T_gc: Tensor,  # (N, 4, 4)
    T_ec: Tensor,  # (N, 4, 4)
    with_scale: bool = False,
) -> tuple[Tensor, Tensor]:
    """Least-squares transform of positions in frame e onto those in frame g (Umeyama 1991, equations 34 to 43).

    T_gc, T_ec (N, 4, 4), poses of the same cameras. Returns the transform (4, 4), scale included, and the scale ().
    """
    p_g, p_e = T_gc[:, :3, 3], T_ec[:, :3, 3]
    mean_g, mean_e = p_g.mean(0), p_e.mean(0)
    covariance = (p_g - mean_g).mT @ (p_e - mean_e) / len(p_g)
    triads = TRIAD**2 * (T_gc[:, :3, :3] @ T_ec[:, :3, :3].mT).mean(0)
    R_ge = so3.nearest_rotation(covariance + triads)

    scale = torch.ones_like(mean_g[0])
    if with_scale:
        variance = (p_e - mean_e).square().sum(-1).mean()
        if variance <= TRIAD**2:
            raise ValueError("align=sim3: the estimated camera does not move, so its scale cannot be told")
        scale = (R_ge * covariance).sum() / variance
        if scale <= 0:
            raise ValueError("align=sim3: estimated and true motion are unrelated, the best scale is not positive")

    T_ge = torch.eye(4).to(T_ec)
    T_ge[:3, :3] = scale * R_ge
    T_ge[:3, 3] = mean_g - scale * (R_ge @ mean_e)
    return T_ge, scale


def _nearest(short: Tensor, long: Tensor, max_gap: float) -> tuple[Tensor, Tensor]:
    """Indices of the pairs within `max_gap`; both inputs sorted; of two equally near the earlier one.

    Where several have the same time, as where time stamps were rounded, the first goes with the first.
    """
    long, short = long.contiguous(), short.contiguous()
    after = torch.searchsorted(long, short, right=True).clamp(max=len(long) - 1)
    before = (after - 1).clamp(min=0)
    nearest = torch.where((long[after] - short).abs() < (short - long[before]).abs(), after, before)
    first, last = (torch.searchsorted(long, long[nearest], right=right) for right in (False, True))
    nearest = first + torch.minimum(repetitions(short), last - 1 - first)
    close = ((long[nearest] - short).abs() <= max_gap + COINCIDENT).nonzero().flatten()
    return close, nearest[close]
