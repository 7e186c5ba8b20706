"""Soft choices: weights that rise and fall smoothly where a hard choice would jump."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import discrete

SPLINE_WIDTH = 3  # pixels across the support of `spline_weight`


def smoothstep(x: Tensor) -> Tensor:
    """0 below 0, 1 above 1, and a cubic between that is level at both ends."""
    x = x.clamp(0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def fade(x: Tensor) -> Tensor:
    """How much what lies at x counts, relative to a gate: 1 up to half of it, 0 from 1 on.

    Level where nearly all lies: what is well within its gate is not weighed by its noise.
    """
    return smoothstep(2.0 - 2.0 * x)


def spline_weight(offset: Tensor) -> Tensor:
    """Quadratic B-spline of an offset in pixels, along one axis: at most 3/4, 0 from one and a half pixels on.

    Over the pixels of a row the weights of one point sum to one, and so do the positions that they weigh to its own.
    """
    distance = offset.abs()
    return torch.where(distance < 0.5, 0.75 - distance * distance, 0.5 * (1.5 - distance).clamp(min=0.0) ** 2)


def spline_footprint(
    u: Tensor,  # (...), pixels
    v: Tensor,  # (...)
    in_front: Tensor,  # (...) bool
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The 3 x 3 pixels whose splines reach u, v: row-major indices (..., 9) int64, and weights (..., 9), 0 outside."""
    height, width = size
    first_column, first_row = spline_window(u, v, in_front, size)
    step = torch.arange(SPLINE_WIDTH, device=u.device)
    column, row = first_column[..., None] + step, first_row[..., None] + step
    across = spline_weight(u[..., None] - column) * ((column >= 0) & (column < width))
    down = spline_weight(v[..., None] - row) * ((row >= 0) & (row < height))
    weight = (down[..., :, None] * across[..., None, :]).flatten(-2)
    pixel = row.clamp(0, height - 1)[..., :, None] * width + column.clamp(0, width - 1)[..., None, :]
    return pixel.flatten(-2), torch.where(in_front[..., None], weight, 0.0)


@discrete
def spline_window(
    u: Tensor,  # (...), pixels
    v: Tensor,  # (...)
    in_front: Tensor,  # (...) bool
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """First column and row (...) int64 of the 3 x 3 pixels whose splines reach u, v; beyond the image where none does.

    A discrete choice, but one that changes only where the weights that come and go are zero.
    """
    height, width = size
    u, v = u.detach(), v.detach()
    near = in_front & (u > -2.0) & (u < width + 1.0) & (v > -2.0) & (v < height + 1.0)
    column, row = (torch.where(near, (x + 0.5).floor() - 1, -SPLINE_WIDTH).long() for x in (u, v))
    return column, row
