"""Fixed variables as part of a problem, with a gradient by every way back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.optim.problem import GradientProblem

Values = tuple[Tensor, ...]  # (..., N, *event) each, kind by kind


@dataclass(frozen=True, eq=False)
class WithFixedValues:
    """A graph whose fixed variables are where they are given.

    The ways back that record no iteration take where a search starts for a constant. What a fixed variable is held at
    is not where its search starts: the solution depends on it however long the search.
    """

    problem: GradientProblem
    given: Values
    fixed: tuple[Tensor, ...]  # bool, of shapes that broadcast with the values

    def linearize(self, x: Values, /) -> tuple[Tensor | optim.BlockSparse, Tensor, Tensor]:
        return self.problem.linearize(self._place(x))

    def gradient(self, x: Values, /) -> tuple[Tensor, Tensor]:
        return self.problem.gradient(self._place(x))

    def error(self, x: Values, /) -> Tensor:
        return self.problem.error(self._place(x))

    def retract(self, x: Values, delta: Tensor, /) -> Values:
        return self.problem.retract(self._place(x), delta)

    def _place(self, x: Values) -> Values:
        return with_fixed(x, self.given, self.fixed)


def with_fixed(x: Values, given: Values, fixed: tuple[Tensor, ...]) -> Values:
    """x, but where they are fixed the variables as they are given."""
    return tuple(torch.where(mask, value, other) for mask, value, other in zip(fixed, given, x, strict=True))
