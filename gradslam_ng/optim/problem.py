"""What the solver asks of a problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from gradslam_ng.optim.sparse import BlockSparse

Point: TypeAlias = "Tensor | tuple[Point, ...]"  # where a problem is linearised: one variable, or several


class Linearization(NamedTuple):
    """Gauss-Newton normal equations of a cost at a point, any leading batch axes.

    The three are normalised alike: a problem may divide all of them by its number of inliers, or by nothing.
    """

    H: Tensor | BlockSparse  # (..., n, n), J^T W J
    g: Tensor  # (..., n), J^T W r, the gradient of the error
    error: Tensor  # (...), half the sum of robust squared residuals


class Problem(Protocol):
    """A least-squares problem over x, one per element of the leading batch axes. `n` counts tangent dimensions.

    Whatever a problem depends on and that requires a gradient gets it through `linearize` and `error`; the solver
    never asks for a list of parameters.
    """

    def linearize(self, x: Point) -> tuple[Tensor, Tensor, Tensor]:
        """H (..., n, n), g (..., n) and error (...) at x; see `Linearization`."""
        ...

    def error(self, x: Point) -> Tensor:
        """The error (...) alone."""
        ...

    def retract(self, x: Point, delta: Tensor) -> Point:
        """x moved by the tangent vector delta (..., n); delta = 0 gives x itself."""
        ...


def gradient(problem: Problem, x: Point) -> tuple[Tensor, Tensor]:
    """g (..., n) and error (...) at x; a problem with a `gradient` of its own saves the work of H."""
    return problem.gradient(x) if hasattr(problem, "gradient") else problem.linearize(x)[1:]


def tree_map(function: Callable[..., Tensor], *points: Point) -> Point:
    """`function` applied to the tensors of points of one structure, or to the values of sparse matrices."""
    if isinstance(points[0], tuple):
        return tuple(tree_map(function, *parts) for parts in zip(*points, strict=True))
    if isinstance(points[0], BlockSparse):
        return points[0].tree_map(function, *points[1:])
    return function(*points)


def tree_where(mask: Tensor, there: Point, here: Point) -> Point:
    """`there` where the mask (...) holds, `here` elsewhere."""
    return tree_map(lambda a, b: torch.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b), there, here)


def detach(x: Point) -> Point:
    return tree_map(Tensor.detach, x)
