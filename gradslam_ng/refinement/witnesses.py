"""Whether a correction is to be believed that is larger than the errors that a run claims for its poses.

Depth and color come from two cameras. What is wrong with one, such as distorted depth or color that is off by a pixel,
bends the path that fits it best; bundle adjustment spreads that over both and its misfit falls all the same. So each is
asked alone. Errors of the two have nothing in common, thus what their corrections have in common is the error of the
run: for estimates with independent errors the mean product of two corrections is the mean square of what is to be
corrected (triple collocation, Stoffelen 1998).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gradslam_ng.evaluation.alignment import umeyama
from gradslam_ng.refinement.bundle_adjustment import BundleAdjustment, Surfels
from gradslam_ng.refinement.keyframes import Keyframes
from gradslam_ng.refinement.observations import associate
from gradslam_ng.refinement.prior import PosePrior

AGREEMENT = 0.5  # of a correction, the share both have in common: from there on it is nearer the truth than the run
LOOSE = 0.05  # meters and radians, standard deviation that holds a motion which one of the two leaves open
ROUNDS, ITERATIONS = 2, 4
SENSORS = "depth", "brightness"


def is_supported(
    keyframes: Keyframes,
    surfels: Surfels,
    prior: PosePrior,
    T_wk: Tensor,  # (K, 4, 4)
    brightness: bool = True,
) -> bool:
    """Whether keyframes may be moved from where the run has them to T_wk."""
    both = position_corrections(prior.T_wk, T_wk)
    size = both.square().sum(-1).mean()
    if float(size) <= prior.sigma**2:  # which one that has the run for a prior exceeds only where that is wrong
        return True
    if not brightness:
        return False
    depth, color = (
        position_corrections(prior.T_wk, solve_alone(keyframes, surfels, prior.T_wk, sensor)) for sensor in SENSORS
    )
    own = (depth.square().sum(-1).mean() * color.square().sum(-1).mean()).sqrt()
    return bool((depth * color).sum(-1).mean() >= AGREEMENT * torch.maximum(own, size))


def position_corrections(
    before: Tensor,  # (K, 4, 4)
    after: Tensor,  # (K, 4, 4)
) -> Tensor:
    """How far positions are moved (K, 3), meters, but for what moves all of them together, which no image tells."""
    aligned = umeyama(before, after)[0] @ after
    return aligned[:, :3, 3] - before[:, :3, 3]


def solve_alone(
    keyframes: Keyframes,
    surfels: Surfels,
    T_wk: Tensor,  # (K, 4, 4)
    sensor: str,  # one of `SENSORS`
) -> Tensor:
    """The poses (K, 4, 4) that fit one of the two best, near T_wk as far as it leaves them open."""
    color = sensor == "brightness"
    hold = PosePrior(T_wk, LOOSE**2 * torch.eye(6).to(T_wk).expand(len(T_wk), 6, 6))
    for _ in range(ROUNDS):
        observed = associate(keyframes, *surfels, T_wk)
        depth = 0 * observed.depth_information if color else observed.depth_information
        seen = replace(observed, depth_information=depth)
        problem = BundleAdjustment(seen, surfels=surfels, brightness=color, prior=hold)
        T_wk = problem.solve(T_wk, ITERATIONS)
        surfels = BundleAdjustment(observed, surfels=surfels).place_surfels(T_wk)
    return T_wk
