"""Division, reciprocal square roots and normalization without NaN gradients, by the double-where technique.

`torch.where(ok, a / b, 0)` alone has a NaN gradient where b is zero: the derivative of the branch that is not taken is
infinite, and is multiplied by zero. So the argument is made harmless first, then the result is chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor


def denominator(
    b: Tensor,  # (...)
    ok: Tensor,  # (...) bool
) -> Tensor:
    """b where `ok` holds, 1 elsewhere: what can be divided by. Returns (...)."""
    return torch.where(ok, b, 1.0)


def divide(
    a: Tensor | float,  # (...)
    b: Tensor,  # (...)
    ok: Tensor,  # (...) bool
    otherwise: float = 0.0,
) -> Tensor:
    """a / b where `ok` holds, `otherwise` elsewhere, without gradient there. a, b, ok broadcast to (...)."""
    return torch.where(ok, a / denominator(b, ok), otherwise)


def rsqrt(
    x: Tensor,  # (...)
    ok: Tensor,  # (...) bool
) -> Tensor:
    """1 / sqrt(x) where `ok` holds, 0 elsewhere, without gradient there. Returns (...)."""
    return torch.where(ok, denominator(x, ok).rsqrt(), 0.0)


def normalize(
    v: Tensor,  # (..., n)
) -> Tensor:
    """Vectors (..., n) at unit length; zero, without gradient, where v is zero or its square underflows."""
    square = v.square().sum(-1, keepdim=True)
    return v * rsqrt(square, square > 0)


def expand_mask(
    mask: Tensor,  # (...) bool
    like: Tensor,  # (..., *event)
) -> Tensor:
    """A mask (...) with trailing axes of size one, so that it selects among entries of `like` (..., *event)."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))
