"""What the solver asks of a problem."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Linearization(NamedTuple):
    """Gauss-Newton normal equations of a cost at a point, any leading batch axes.

    The three are normalised alike: a problem may divide all of them by its number of inliers, or by nothing.
    """

    H: Tensor  # (..., n, n), J^T W J
    g: Tensor  # (..., n), J^T W r, the gradient of the error
    error: Tensor  # (...), half the sum of robust squared residuals


class Problem(Protocol):
    """A least-squares problem over x, one per element of the leading batch axes. `n` counts tangent dimensions.

    Whatever a problem depends on and that requires a gradient gets it through `linearize` and `error`; the solver
    never asks for a list of parameters.
    """

    def linearize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """H (..., n, n), g (..., n) and error (...) at x; see `Linearization`."""
        ...

    def error(self, x: Tensor) -> Tensor:
        """The error (...) alone."""
        ...

    def retract(self, x: Tensor, delta: Tensor) -> Tensor:
        """x moved by the tangent vector delta (..., n); delta = 0 gives x itself."""
        ...


def expand_to(mask: Tensor, like: Tensor) -> Tensor:
    """A per-element tensor (...) with trailing axes of one, to broadcast against `like` (..., *event)."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))


def select(mask: Tensor, there: Linearization, here: Linearization) -> Linearization:
    """`there` where the mask (...) holds, `here` elsewhere."""
    return Linearization(*(torch.where(expand_to(mask, b), b, a) for a, b in zip(here, there, strict=True)))
