"""What a recording determines of its cameras: standard deviations, and unknowns that it leaves open."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.calibration.cameras import NAMES
from gradslam_ng.calibration.problem import JointRefinement, Unknowns
from gradslam_ng.compute.discrete import discrete

OPEN = 0.3  # of the standard deviation that an unknown had before: more than that, and the recording tells it not


def prior_sigma(width: int) -> Tensor:
    """Standard deviation (17,) of what is told of cameras whose images are `width` pixels across, float64.

    Focal lengths to 5%, centers to 3% of the width, depth to 2% at one meter, the color camera to 3 cm and 2 degrees,
    the time to a frame: what the nominal values of a device are good for.
    """
    intrinsics = [0.05, 0.05, 0.03 * width, 0.03 * width]
    values = [*intrinsics, 0.02, 0.02, *intrinsics, *[0.03] * 3, *[0.035] * 3, 0.033]
    return torch.tensor(values, dtype=torch.float64, device="cpu")


@discrete
def open_unknowns(
    H: Tensor,  # (n, n), of a `JointRefinement`
    free: Tensor,  # (17,) bool
) -> Tensor:
    """Which free unknowns (17,) bool of the cameras a recording leaves open.

    The least determined one is held, then what that leaves open is looked for anew: of two that only together are open,
    such as a turn of the color camera and a shift of its center, one stays to be sought.
    """
    is_open = ~free
    for _ in range(len(free)):
        share = _variance(H, is_open)[-len(free) :].sqrt()
        share = torch.where(is_open, 0.0, share)
        worst = int(share.argmax())
        if share[worst] <= OPEN:
            break
        is_open = is_open.index_fill(0, torch.tensor(worst, device=H.device), True)
    return is_open & free


def _variance(H: Tensor, fixed: Tensor) -> Tensor:
    """The diagonal (n,) of the inverse of H, where the first pose and some unknowns (17,) of the cameras are held."""
    return _inverse(H, fixed).diagonal().clamp(min=0)


def _inverse(H: Tensor, fixed: Tensor) -> Tensor:
    mask = torch.ones(len(H), dtype=H.dtype, device=H.device)
    mask[:6] = 0
    mask[-len(fixed) :] = (~fixed).to(mask)
    return torch.linalg.pinv(mask[:, None] * H * mask, hermitian=True)


@torch.no_grad()
def standard_deviations(problem: JointRefinement, x: Unknowns) -> Tensor:
    """Of the cameras (17,), from how much the pairs of frames contradict each other (White 1980, clustered by pair);
    infinite for what is held.

    Neighboring pixels share their errors, which the inverse of H takes for independent.
    """
    H, _, _ = problem.linearize(x)
    inverse = _inverse(H, ~problem.free)
    clustered = (inverse @ problem.scores(x).mT).square().sum(-1)
    variance = torch.maximum(clustered, inverse.diagonal().clamp(min=0))[-len(NAMES) :]
    return torch.where(problem.free, variance.sqrt() * problem.prior, torch.inf)
