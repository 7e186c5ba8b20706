"""Robust normal equations of scalar residuals, one for each pixel, to six unknowns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 30  # pixels across a block, several times what smoothing and a sensor correlate; see `Blocks`
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


class Blocks(NamedTuple):
    """How the pixels of a factor, row by row, are cut into blocks whose residuals are taken to be independent."""

    rows: int  # of pixels
    down: int  # blocks
    across: int

    @staticmethod
    def of(size: tuple[int, int], rows: int) -> Blocks:
        """For images of that height and width, of which so many rows take part: `BLOCK` pixels each, but for small
        images, which have 4 x 5 of them."""
        return Blocks(rows, max(4, round(size[0] / BLOCK)), max(5, round(size[1] / BLOCK)))


def block_sums(
    J: list[Tensor],  # six columns (B, P)
    wr: Tensor,  # (B, P)
    blocks: Blocks,
) -> Tensor:
    """Sums (B, G, 6) of J^T W r over blocks of pixels."""
    rows, columns = blocks.rows, wr.shape[-1] // blocks.rows
    height, width = -(-rows // blocks.down), -(-columns // blocks.across)
    border = 0, blocks.across * width - columns, 0, blocks.down * height - rows
    images = [pad((wr * j).unflatten(-1, (rows, columns)), border) for j in J]
    sums = [x.unflatten(-1, (-1, width)).unflatten(-3, (-1, height)).sum((-3, -1)).flatten(1) for x in images]
    return torch.stack(sums, -1)
