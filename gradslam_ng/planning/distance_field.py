"""A grid of distances as a smooth function of position, by cubic convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradslam_ng.planning.checks import check_tensors


class DistanceField:
    """Signed distances on a grid, meters, positive in free space, between the cells' centers by Catmull-Rom splines.

    Through every value of the grid, with a continuous gradient to the position (Keys 1981), of a field in the plane or
    in space. Beyond the grid the value of its border holds.

    Args:
        values: (X, Y) or (X, Y, Z), or with leading axes that match those of the positions.
        origin: (d,), the center of the first cell, meters.
        cell: meters.

    Raises:
        TypeError: values that are no tensor of floating-point numbers.
        ValueError: values that are not finite, an origin of another number of axes than 2 or 3, a cell that is not
            positive.
    """

    def __init__(self, values: Tensor, *, origin: Tensor | Sequence[float], cell: float) -> None:
        check_tensors(values=values)
        self.origin = torch.as_tensor(origin, dtype=values.dtype, device=values.device)
        if self.origin.shape not in ((2,), (3,)) or values.ndim < len(self.origin):
            raise ValueError(f"origin: expected one number for each axis of the grid, 2 or 3, got {origin}")
        if not cell > 0:
            raise ValueError(f"cell: expected a size in meters, got {cell}")
        self.values, self.cell = values, cell
        self.taps = torch.arange(-1, 3, device=values.device)

    def __call__(
        self,
        p: Tensor,  # (..., d)
    ) -> Tensor:
        """Distances (...) at positions, with gradient to both. Leading axes of the grid are p's first ones."""
        d = len(self.origin)
        shape = self.values.shape[self.values.ndim - d :]
        flat = self.values.flatten(self.values.ndim - d)
        lead = flat.shape[:-1]
        at = (p - self.origin) / self.cell
        index, weight = torch.zeros_like(at[..., :1]).long(), torch.ones_like(at[..., :1])
        for axis, size in enumerate(shape):
            x = at[..., axis].clamp(0, size - 1)
            first = x.detach().floor().clamp(max=max(size - 2, 0))
            taps = (first.long()[..., None] + self.taps).clamp(0, size - 1)
            index = (index[..., :, None] * size + taps[..., None, :]).flatten(-2)
            weight = (weight[..., :, None] * _catmull_rom(x - first)[..., None, :]).flatten(-2)
        return (weight * _take(flat, index, lead)).sum(-1)


def _take(flat: Tensor, index: Tensor, lead: torch.Size) -> Tensor:
    """Entries of grids (*lead, cells) at an index (..., ) that begins with the same axes; of one grid without any."""
    if not lead:
        return flat[index]
    where = index.reshape(*lead, -1)
    return flat.gather(-1, where).reshape(index.shape)


def _catmull_rom(s: Tensor) -> Tensor:  # (...)
    """Weights (..., 4) of the values at -1, 0, 1, 2 for a position 0 <= s <= 1."""
    s2, s3 = s.square(), s**3
    weights = 2 * s2 - s - s3, 3 * s3 - 5 * s2 + 2, s + 4 * s2 - 3 * s3, s3 - s2
    return 0.5 * torch.stack(weights, -1)
