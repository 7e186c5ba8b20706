"""Memory for time in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.checkpoint import checkpoint

R = TypeVar("R")


def recomputed(function: Callable[..., R], *args: object) -> R:
    """function(*args), for which only the arguments are kept for the backward pass (Chen et al. 2016).

    What it works out on the way is worked out again there. The function must be deterministic.
    """
    if not torch.is_grad_enabled():
        return function(*args)
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)
