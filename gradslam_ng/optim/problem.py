"""What the solver asks of a problem."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from torch import Tensor

from gradslam_ng.compute.tree import tree_map
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


def detach(x: Point) -> Point:
    return tree_map(Tensor.detach, x)
