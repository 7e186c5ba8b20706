"""Interface of nonlinear least-squares problems: normal equations, error and retraction at a point."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import Tensor

from gradslam_ng.compute.tree import tree_map
from gradslam_ng.optim.sparse import BlockSparse

Point: TypeAlias = "Tensor | tuple[Point, ...]"  # where a problem is linearized: one variable, or several
P = TypeVar("P")  # the kind of `Point` that a problem is over


class Linearization(NamedTuple):
    """Gauss-Newton normal equations of a cost at a point, any leading batch axes.

    The three are normalized alike: a problem may divide all of them by its number of inliers, or by nothing.
    """

    H: Tensor | BlockSparse  # (..., n, n), J^T W J
    g: Tensor  # (..., n), J^T W r, the gradient of the error
    error: Tensor  # (...), half the sum of robust squared residuals


class Problem(Protocol[P]):
    """A least-squares problem over points x, one per element of the leading batch axes. `n` counts tangent dimensions.

    Whatever a problem depends on and that requires a gradient gets it through `linearize` and `error`; the solver
    never asks for a list of parameters.
    """

    def linearize(self, x: P, /) -> tuple[Tensor | BlockSparse, Tensor, Tensor]:
        """H (..., n, n), g (..., n) and error (...) at x; see `Linearization`."""
        ...

    def error(self, x: P, /) -> Tensor:
        """The error (...) alone."""
        ...

    def retract(self, x: P, delta: Tensor, /) -> P:  # delta (..., n)
        """x moved by the tangent vector delta; delta = 0 gives x itself."""
        ...


@runtime_checkable
class GradientProblem(Problem[P], Protocol[P]):
    """A problem that finds its gradient at less cost than its normal equations."""

    def gradient(self, x: P, /) -> tuple[Tensor, Tensor]:
        """g (..., n) and error (...) at x, as in `linearize`."""
        ...


def gradient(problem: Problem, x: Point) -> tuple[Tensor, Tensor]:
    """g (..., n) and error (...) at x: from a `GradientProblem` itself, else from the normal equations."""
    if isinstance(problem, GradientProblem):
        return problem.gradient(x)
    _, g, error = problem.linearize(x)
    return g, error


def detach(x: Point) -> Point:
    """x without gradient."""
    return tree_map(Tensor.detach, x)
