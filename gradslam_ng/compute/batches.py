"""Batches taken apart into their elements, which compiled functions work off one after the other.

The compiler lays loops out for one image far better than for a batch of them: with an axis more it takes tiles over it
that no batch fills, keeps what it could do without, and compiles anew for each size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def split_batch(tensors: list[Tensor]) -> list[list[Tensor]]:
    """The tensors (1, ...) of each element of a batch (B, ...), beside those () that all share; all together where they
    are of no batch."""
    size = next((x.shape[0] for x in tensors if x.dim()), 1)
    if size == 1 or any(x.dim() and x.shape[0] != size for x in tensors):
        return [tensors]
    parts = [x.chunk(size) if x.dim() else (x,) * size for x in tensors]
    return [list(element) for element in zip(*parts, strict=True)]


def join_batch(elements: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The tensors (B, ...) of elements (1, ...); those () are what elements add to, as to the gradient of a number."""
    return [torch.cat(parts) if parts[0].dim() else torch.stack(parts).sum(0) for parts in zip(*elements, strict=True)]
