"""Manifolds of unknowns: retraction by a tangent vector, retract(x, 0) = x, and its inverse, local.

Rotations and poses are matrices with left updates, x <- exp(delta) x; a pose has the tangent [translation, rotation].
"""

from __future__ import annotations

from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from gradslam_ng.geometry import se2, se3, so3
from gradslam_ng.optim.problem import Point


class Variable(Protocol):
    def dimension(self, x: Point, /) -> int:
        """Of the tangent space at x."""
        ...

    def retract(self, x: Point, delta: Tensor, /) -> Point:
        """x (..., *event) moved by delta (..., n)."""
        ...

    def local(self, x: Point, y: Point, /) -> Tensor:
        """The tangent vector (..., n) that moves x to y."""
        ...


class TensorVariable(Protocol):
    """A `Variable` whose points are one tensor each, as those of a factor graph are."""

    @property
    def event_ndim(self) -> int:
        """Number of trailing axes that make up one point."""
        ...

    @property
    def group(self) -> ModuleType | None:
        """The module of `geometry` that knows the matrix group; None for vectors."""
        ...

    def event_shape(self, x: Tensor, /) -> tuple[int, ...]:
        """The shape that the trailing axes of points like x must have."""
        ...

    def dimension(self, x: Tensor, /) -> int: ...

    def retract(self, x: Tensor, delta: Tensor, /) -> Tensor: ...

    def local(self, x: Tensor, y: Tensor, /) -> Tensor: ...


class Euclidean:
    """Vectors x (..., n)."""

    event_ndim = 1
    group: ModuleType | None = None

    def event_shape(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape[-1:])

    def dimension(self, x: Tensor) -> int:
        return x.shape[-1]

    def retract(self, x: Tensor, delta: Tensor) -> Tensor:
        return x + delta

    def local(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x


class LieGroup:
    """Elements of a matrix group, which its module of `geometry` knows; updated from the left."""

    group: ModuleType
    dimensions: int  # of the tangent space
    size: int  # rows of the matrices
    event_ndim = 2

    def event_shape(self, x: Tensor) -> tuple[int, ...]:
        return self.size, self.size

    def dimension(self, x: Tensor) -> int:
        return self.dimensions

    def retract(self, x: Tensor, delta: Tensor) -> Tensor:
        return self.group.exp(delta) @ x

    def local(self, x: Tensor, y: Tensor) -> Tensor:
        return self.group.log(y @ self.group.inverse(x))


class SO3(LieGroup):
    """Rotations R (..., 3, 3); delta in radians."""

    group, dimensions, size = so3, 3, 3


class SE3(LieGroup):
    """Poses T (..., 4, 4); delta in meters and radians."""

    group, dimensions, size = se3, 6, 4


class SE2(LieGroup):
    """Poses in the plane T (..., 3, 3); delta [x, y, theta] in meters and radians."""

    group, dimensions, size = se2, 3, 3


class Product:
    """Several unknowns at once: x is a tuple with one point for each variable, their tangents joined in that order."""

    def __init__(self, *variables: Variable) -> None:
        self.variables = variables

    def dimension(self, x: tuple[Point, ...]) -> int:
        return sum(v.dimension(part) for v, part in zip(self.variables, x, strict=True))

    def retract(self, x: tuple[Point, ...], delta: Tensor) -> tuple[Point, ...]:
        sizes = [v.dimension(part) for v, part in zip(self.variables, x, strict=True)]
        deltas = delta.split(sizes, dim=-1)
        return tuple(v.retract(part, d) for v, part, d in zip(self.variables, x, deltas, strict=True))

    def local(self, x: tuple[Point, ...], y: tuple[Point, ...]) -> Tensor:
        return torch.cat([v.local(a, b) for v, a, b in zip(self.variables, x, y, strict=True)], dim=-1)
