"""Robust normal equations of scalar residuals, one for each pixel, to six unknowns."""

from __future__ import annotations

import torch
from torch import Tensor

UPPER = [(i, j) for i in range(6) for j in range(i, 6)]
FULL = [UPPER.index((min(i, j), max(i, j))) for i in range(6) for j in range(6)]


def tukey_weights(
    r: Tensor,  # (B, P)
    information: Tensor,  # (B, P), inverse variance of r
    weight: Tensor,  # (B, P), in [0, 1]; 0 where r means nothing
    counted: Tensor,  # (B, P), 1 for what is to have a residual, else 0
    kernel_width: Tensor,  # (), standard deviations
) -> tuple[Tensor, Tensor]:
    """Weights of residuals under Tukey's biweight (Beaton and Tukey 1974), and their costs, 1 at the ceiling; (B, P).

    What is counted and has no weight costs what an outlier costs, so that losing residuals never looks like progress.
    """
    inlier = (1.0 - r * r * information / (kernel_width * kernel_width)).clamp(min=0.0)
    robust = weight * inlier * inlier
    # Tukey's rho in whitened units: all that is counted starts at its ceiling, and an inlier brings it down
    return robust * information, counted - robust * inlier


def tukey_error(
    cost: Tensor,  # (B, P), of `tukey_weights`
    kernel_width: Tensor,  # (), standard deviations
    total: Tensor,  # (B,)
) -> Tensor:
    """Half the sum of robust squared residuals over `total`, (B,)."""
    return kernel_width * kernel_width / 6.0 * cost.sum(-1) / total


def normal_equations(
    J: list[Tensor],  # six columns (B, P)
    r: Tensor,  # (B, P)
    w: Tensor,  # (B, P)
    total: Tensor,  # (B,)
) -> tuple[Tensor, Tensor]:
    """J^T W J (B, 6, 6) and J^T W r (B, 6) over `total`.

    Each entry summed by itself: compiled, that is one pass over the pixels in which no column is ever stored.
    """
    wJ = [w * j for j in J]
    sums = [(wJ[i] * J[j]).sum(-1) / total for i, j in UPPER] + [(wj * r).sum(-1) / total for wj in wJ]
    return torch.stack([sums[k] for k in FULL], -1).unflatten(-1, (6, 6)), torch.stack(sums[21:], -1)
