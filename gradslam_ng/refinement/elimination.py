"""Variable projection of one unknown a surfel (Golub and Pereyra 1973): robust normal equations of the poses alone.

Every keyframe k measures something of every surfel s that it sees, r_ks = measured - x_s, and x_s, which stands in
these residuals and no others, is where the robust sum of its own is least. What is left depends on the poses; its
normal equations are the Schur complement of x.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.safe import denominator
from gradslam_ng.optim import Kernel

LOCATION_ITERATIONS = 16  # of reweighting, to find x_s


class Reduced(NamedTuple):
    """Normal equations of K poses, the surfels' unknowns eliminated."""

    H: Tensor  # (6 K, 6 K)
    g: Tensor  # (6 K,)
    error: Tensor  # ()


def robust_location(
    measured: Tensor,  # (K, N)
    information: Tensor,  # (K, N), inverse variance, 0 where nothing is measured
    kernel: Kernel,
) -> Tensor:
    """The x (N,) for which the robust sum over k of measured - x is least, 0 where nothing is measured.

    By iteratively reweighted means, from the mean of all that was measured.
    """
    w = information
    total = w.sum(0)
    x = (w * measured).sum(0) / denominator(total, total > 0)
    for _ in range(LOCATION_ITERATIONS):
        w = information * kernel.weight(information * (measured - x).square())
        total = w.sum(0)
        x = torch.where(total > 0, (w * measured).sum(0) / denominator(total, total > 0), x)
    return x


def eliminate(
    measured: Tensor,  # (K, N)
    J: Tensor,  # (K, N, 6), its Jacobian to a left update of each keyframe's pose
    information: Tensor,  # (K, N), inverse variance, 0 where a keyframe does not see a surfel
    kernel: Kernel,
) -> Reduced:
    """The least robust error of N surfels seen by K keyframes, as a function of the poses."""
    r = measured - robust_location(measured, information, kernel)
    square = information * r.square()
    w = information * kernel.weight(square)
    A = w[..., None] * J
    count = len(J)
    own = A.mT @ J  # (K, 6, 6)
    by_surfel = A.movedim(0, 1).flatten(1)  # (N, 6 K)
    total = w.sum(0)
    scaled = by_surfel / denominator(total, total > 0)[:, None]
    diagonal = torch.eye(count, dtype=J.dtype, device=J.device)[:, None, :, None] * own[:, :, None, :]
    H = diagonal.reshape(6 * count, 6 * count) - by_surfel.mT @ scaled
    g = (A.mT @ r[..., None])[..., 0].flatten()
    return Reduced(H, g, 0.5 * kernel.rho(square).sum())
