"""The scale of depth, which images do not tell: from poses of another source, in meters."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from gradslam_ng.calibration.observability import OPEN
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.evaluation.alignment import umeyama

MIN_POSES = 10  # that both have
NOMINAL = 0.02  # standard deviation of what is told of a device


class Scale(NamedTuple):
    """Meters in a meter that depth is told in."""

    factor: float
    sigma: float  # standard deviation


def scale_of_depth(
    sequence: RGBDSequence,
    frames: Tensor,  # (N,), numbers of frames
    T_wc: Tensor,  # (N, 4, 4), in the meters that depth is told in
) -> Scale | None:
    """By the positions that another source tells of frames (`RGBDSequence.T_prior`) and those found (Umeyama 1991);
    None where there are none, too few, or too little of a way.

    Errors of positions are taken for independent from one second to the next; a source that drifts tells the scale of
    its drift along.
    """
    if sequence.T_prior is None:
        return None
    T_prior, seconds = sequence.T_prior[frames], sequence.timestamps[frames]
    both = T_prior[:, :3].isfinite().flatten(1).all(-1)
    if int(both.sum()) < MIN_POSES:
        return None
    seconds = seconds[both]
    return _compare(T_prior[both], T_wc[both], float(seconds[-1] - seconds[0]))


def _compare(
    T_prior: Tensor,  # (N, 4, 4)
    T_wc: Tensor,  # (N, 4, 4)
    duration: float,
) -> Scale | None:
    try:
        T, factor = umeyama(T_prior, T_wc, with_scale=True)
    except ValueError:  # no way, or ways that have nothing in common
        return None
    p, q = T_prior[:, :3, 3], T_wc[:, :3, 3]
    misfit = (q @ T[:3, :3].mT + T[:3, 3] - p).square().sum(-1).mean() / 3
    spread = (q - q.mean(0)).square().sum(-1).mean()
    independent = max(1.0, min(len(p), duration))
    sigma = float((misfit / (spread * independent)).sqrt())
    return Scale(float(factor), sigma) if sigma < OPEN * NOMINAL * float(factor) else None
