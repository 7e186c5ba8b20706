"""Poses of keyframes refined in rounds of association and bundle adjustment, and what surfels held out say of them."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.refinement.bundle_adjustment import BundleAdjustment, Surfels
from gradslam_ng.refinement.keyframes import Keyframes
from gradslam_ng.refinement.observations import Observations, associate
from gradslam_ng.refinement.prior import PosePrior

ROUNDS, ITERATIONS = 3, 4  # of association; of the solver after each
HELD_OUT = 4  # every so many-th surfel takes no part, and judges
MIN_PAIRS = 30  # measurements of surfels that a keyframe shares with others, else it says nothing of its pose


class Unconnected(ValueError):
    """Keyframes that do not see the same surfels."""


def hold_out(surfels: Surfels) -> tuple[Surfels, Surfels]:
    """Those that take part, and those that judge."""
    held = torch.arange(len(surfels.points), device=surfels.points.device) % HELD_OUT == HELD_OUT - 1
    return Surfels(*(x[~held] for x in surfels)), Surfels(*(x[held] for x in surfels))


def adjust(
    keyframes: Keyframes,
    surfels: Surfels,
    T_wk: Tensor,  # (K, 4, 4) float64
    brightness: bool = True,
    prior: PosePrior | None = None,
) -> Tensor:
    """The poses (K, 4, 4) of the keyframes refined, the first where it is.

    Raises:
        Unconnected: keyframes share too few surfels with others.
    """
    for _ in range(ROUNDS):
        observed = associate(keyframes, *surfels, T_wk)
        check_connected(observed)
        problem = BundleAdjustment(observed, surfels=surfels, brightness=brightness, prior=prior)
        T_wk = problem.solve(T_wk, ITERATIONS)
        surfels = problem.place_surfels(T_wk)
    return T_wk


def check_connected(observed: Observations) -> None:
    """Raise `Unconnected` where a keyframe shares less than `MIN_PAIRS` surfels with others, or two parts of the
    keyframes share none."""
    seen = (observed.depth_information > 0).double()
    shared = seen @ seen.mT > MIN_PAIRS
    alone = int((shared.sum(1) - shared.diagonal().long() == 0).sum())
    reached = shared[0] | (torch.arange(len(seen), device=seen.device) == 0)
    for _ in range(len(seen)):
        reached = shared[reached].any(0) | reached
    if alone or not bool(reached.all()):
        apart = int((~reached).sum())
        raise Unconnected(f"{apart} of {len(seen)} keyframes share fewer than {MIN_PAIRS} surfels with the others")


def compare(
    keyframes: Keyframes,
    surfels: Surfels,
    before: Tensor,  # (K, 4, 4)
    after: Tensor,  # (K, 4, 4)
    brightness: bool,
) -> tuple[float, float]:
    """The mean cost of surfels' measurements, from 0 to 1, at two sets of poses. What is measured at one of them alone
    costs at the other what an outlier does."""
    noise = associate(keyframes, *surfels, before).noise  # for both: what is judged must not judge itself
    costs, seen = [], []
    for T_wk in (before, after):
        placed = BundleAdjustment(associate(keyframes, *surfels, T_wk, noise), surfels=surfels).place_surfels(T_wk)
        observed = associate(keyframes, *placed, T_wk, noise)
        costs.append(torch.stack(BundleAdjustment(observed, surfels=placed).costs(T_wk)))
        seen.append(torch.stack([observed.depth_information > 0, observed.brightness_information > 0]))
    either = seen[0] | seen[1]
    if not brightness:
        costs, seen, either = [x[:1] for x in costs], [x[:1] for x in seen], either[:1]
    count = either.sum().clamp(min=1)
    mean = [torch.where(there, cost, 1.0)[either].sum() / count for there, cost in zip(seen, costs, strict=True)]
    return float(mean[0]), float(mean[1])
