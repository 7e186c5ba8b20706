"""Branch-free building blocks for the per-pixel operations.

On a CPU `torch.where` and comparisons run several times slower than multiplying by a mask of zeros and ones, and planes
(x, y and z apart) are read and written faster than interleaved triples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import discrete

MIN_DEPTH = 0.01  # meters: no camera measures nearer, but a network says so where it means that there is nothing


@discrete
def heaviside(x: Tensor) -> Tensor:
    """1 where x > 0, else 0, in x's dtype; without gradient."""
    return x.detach().sign().relu()


def valid_depth(depth: Tensor) -> Tensor:
    """Depth with every hole (NaN, infinite, not beyond `MIN_DEPTH`) set to 0, through which no gradient passes."""
    depth = torch.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0)
    return torch.nn.functional.threshold(depth, MIN_DEPTH, 0.0)


def stack_last(*planes: Tensor) -> Tensor:
    """Planes (...) stacked along a new last axis, contiguous."""
    return torch.stack(planes).movedim(0, -1).contiguous()


def pad(x: Tensor, size: int, dim: int, value: float = 0.0) -> Tensor:
    """x with `size` constant entries before and after along `dim`.

    A concatenation stays a buffer in compiled code, where `pad` is evaluated anew at every read, several times slower.
    """
    shape = list(x.shape)
    shape[dim] = size
    edge = x.new_full(shape, value)
    return torch.cat([edge, x, edge], dim)
