"""Leading axes of tensors as one batch."""

from __future__ import annotations

import torch
from torch import Tensor


def as_batch(x: Tensor, lead: torch.Size, event: int) -> Tensor:
    """x (..., *event), of so many axes, expanded to leading axes `lead` and these flattened to one, (B, *event); a view
    where that is possible."""
    shape = x.shape[x.ndim - event :]
    return x.expand(*lead, *shape).reshape(lead.numel(), *shape)
