"""Problems composed of factors: their sum, a factor in a subspace, a factor recomputed in the backward pass."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.optim.variables import TensorVariable, Variable


class Term(Protocol):
    """A term of an error over x, one per element of the leading batch axes, as `Sum` adds them up."""

    def linearize(self, x: Any, /) -> tuple[Tensor, Tensor, Tensor]:
        """H (..., n, n), g (..., n) and error (...) at x; see `Linearization`."""
        ...

    def error(self, x: Any, /) -> Tensor:
        """The error (...) alone."""
        ...


@dataclass(frozen=True, init=False, eq=False)
class Sum:
    """The sum of terms over one variable: a `Problem` for `solve`, and a term itself."""

    terms: tuple[Term, ...]
    variable: Variable | TensorVariable

    def __init__(self, *terms: Term, variable: Variable | TensorVariable) -> None:
        if not terms:
            raise ValueError("terms: expected at least one")
        object.__setattr__(self, "terms", terms)
        object.__setattr__(self, "variable", variable)

    def linearize(self, x: Any, /) -> tuple[Tensor, Tensor, Tensor]:
        H, g, error = zip(*(term.linearize(x) for term in self.terms), strict=True)
        return add(H), add(g), add(error)

    def error(self, x: Any, /) -> Tensor:
        return add(tuple(term.error(x) for term in self.terms))

    def retract(self, x: Any, delta: Tensor, /) -> Any:
        return self.variable.retract(x, delta)


def add(tensors: tuple[Tensor, ...]) -> Tensor:
    return functools.reduce(operator.add, tensors)


@dataclass(frozen=True, eq=False)
class Subspace:
    """A term of which the solver sees only some directions: it takes no step where there is no information."""

    term: Term
    free: Tensor  # (..., n), 1 for the directions that are seen, 0 for the others

    def linearize(self, x: Any, /) -> tuple[Tensor, Tensor, Tensor]:
        H, g, error = self.term.linearize(x)
        return H * self.free[..., :, None] * self.free[..., None, :], g * self.free, error

    def error(self, x: Any, /) -> Tensor:
        return self.term.error(x)


@dataclass(frozen=True, eq=False)
class Checkpointed:
    """A term of whose evaluations only the arguments are kept for the backward pass; see `checkpoint`.

    It must be a dataclass: gradients reach the tensors in its fields, and nothing else.
    """

    term: Term

    def linearize(self, x: Any, /) -> tuple[Tensor, Tensor, Tensor]:
        return checkpoint(_linearize, self.term, x)

    def error(self, x: Any, /) -> Tensor:
        return checkpoint(_error, self.term, x)


def _linearize(term: Term, x: Any) -> tuple[Tensor, Tensor, Tensor]:
    return term.linearize(x)


def _error(term: Term, x: Any) -> Tensor:
    return term.error(x)
