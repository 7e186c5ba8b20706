"""Least-squares problems as sums of robust costs: residuals, their weights and kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from gradslam_ng.compute.configurable import ConfigurableDataclass, configurable
from gradslam_ng.compute.transforms import in_dual_level
from gradslam_ng.optim.kernels import Kernel
from gradslam_ng.optim.problem import Point
from gradslam_ng.optim.variables import Variable

Value = Tensor | Callable[[], Tensor]  # a tensor, or a module that computes it


@configurable
class IsotropicWeight(ConfigurableDataclass):
    """Each residual times a number: value (..., N), the inverse standard deviation."""

    value: Tensor | Callable[[], Tensor]

    def __call__(
        self,
        A: Tensor,  # (..., N, d, m)
    ) -> Tensor:
        """W A for the columns A (..., N, d, m) of every residual."""
        return evaluate(self.value)[..., None, None] * A

    def whiten(
        self,
        r: Tensor,  # (..., N, d)
    ) -> tuple[Tensor, Tensor]:
        """W r and W^T W r for the residuals r (..., N, d)."""
        w = evaluate(self.value)[..., None]
        return w * r, w.square() * r


@configurable
class DiagonalWeight(ConfigurableDataclass):
    """Each component times a number: value (..., N, d)."""

    value: Tensor | Callable[[], Tensor]

    def __call__(
        self,
        A: Tensor,  # (..., N, d, m)
    ) -> Tensor:
        return evaluate(self.value)[..., None] * A

    def whiten(
        self,
        r: Tensor,  # (..., N, d)
    ) -> tuple[Tensor, Tensor]:
        """W r and W^T W r for the residuals r (..., N, d)."""
        w = evaluate(self.value)
        return w * r, w.square() * r


@configurable
class FullWeight(ConfigurableDataclass):
    """Each residual times a matrix: value (..., N, d, d), W with W^T W = covariance^-1."""

    value: Tensor | Callable[[], Tensor]

    def __call__(
        self,
        A: Tensor,  # (..., N, d, m)
    ) -> Tensor:
        return evaluate(self.value) @ A

    def whiten(
        self,
        r: Tensor,  # (..., N, d)
    ) -> tuple[Tensor, Tensor]:
        """W r and W^T W r for the residuals r (..., N, d)."""
        W = evaluate(self.value)
        white = (W @ r[..., None])[..., 0]
        return white, (white[..., None, :] @ W)[..., 0, :]  # from the left: no gradient has to be transposed


def evaluate(value: Value) -> Tensor:
    """The tensor that a weight is made of."""
    return value if isinstance(value, Tensor) else value()


def jacobian_forward(function: Callable[[Tensor], Tensor], zero: Tensor) -> Tensor:
    """The Jacobian (..., n) of a function of tangents (..., n) at zero, one direction at a time, all at once."""
    directions = torch.eye(zero.shape[-1], dtype=zero.dtype, device=zero.device)
    push = _pushed_twice if in_dual_level() else _pushed
    return torch.func.vmap(lambda direction: push(function, zero, direction.expand_as(zero)), out_dims=-1)(directions)


def _pushed(function: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> Tensor:
    """The derivative of a function at x in a direction, by forward mode."""
    return torch.func.jvp(function, (x,), (direction,))[1]


def _pushed_twice(function: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> Tensor:
    """The same by reverse mode, of a function and of its pullback, which is linear: this nests in anything."""
    pulled = torch.func.vjp(function, x)
    return torch.func.vjp(lambda u: pulled[1](u)[0], torch.zeros_like(pulled[0]))[1](direction)[0]


@dataclass(frozen=True)
class Cost:
    """Half the sum over N residuals of rho(|W r|^2).

    residual: x -> r (..., N, d), each residual a vector of d components that one weight and one kernel treat together.
    jacobian: x -> J (..., N, d, n), of r to the tangent of x. Without one, forward-mode differentiation finds it; then
        `residual` must treat the elements of the batch apart and be made of operations that `torch.func.jvp` knows.
    weight: whitens the residuals; None where they already are.
    kernel: None for plain least squares.
    """

    residual: Callable[[Point], Tensor]
    jacobian: Callable[[Point], Tensor] | None = None
    weight: IsotropicWeight | DiagonalWeight | FullWeight | None = None
    kernel: Kernel | None = None

    def error(self, x: Point) -> Tensor:
        """The cost (...) at x."""
        r = self._whiten(self.residual(x)[..., None])
        s = r.square().sum((-2, -1))
        return 0.5 * (s if self.kernel is None else self.kernel.rho(s)).sum(-1)

    def linearize(self, x: Point, variable: Variable) -> tuple[Tensor, Tensor, Tensor]:
        """H (..., n, n), g (..., n) and the cost (...), as iteratively reweighted least squares sees them."""
        r = self.residual(x)
        if self.jacobian is not None:
            J = self.jacobian(x)
        else:
            still = r.new_zeros(*r.shape[:-2], variable.dimension(x))
            J = jacobian_forward(lambda delta: self.residual(variable.retract(x, delta)), still)
        A = self._whiten(torch.cat([J, r[..., None]], -1))  # (..., N, d, n + 1)
        s = A[..., -1].square().sum(-1)
        rho, w = (s, None) if self.kernel is None else (self.kernel.rho(s), self.kernel.weight(s)[..., None, None])
        J, A = A[..., :-1].flatten(-3, -2), (A if w is None else w * A).flatten(-3, -2)
        normal = J.mT @ A  # (..., n, n + 1): J^T W J and J^T W r side by side
        return normal[..., :-1], normal[..., -1], 0.5 * rho.sum(-1)

    def _whiten(self, A: Tensor) -> Tensor:
        return A if self.weight is None else self.weight(A)


@dataclass(eq=False)
class LeastSquares:
    """The sum of costs over one variable; a `Problem` for `solve`.

    Raises:
        ValueError: there are no costs.
    """

    costs: Sequence[Cost]
    variable: Variable

    def __post_init__(self) -> None:
        if not self.costs:
            raise ValueError("costs: expected at least one")

    def linearize(self, x: Point) -> tuple[Tensor, Tensor, Tensor]:
        H, g, error = zip(*(cost.linearize(x, self.variable) for cost in self.costs), strict=True)
        return reduce(torch.add, H), reduce(torch.add, g), reduce(torch.add, error)

    def error(self, x: Point) -> Tensor:
        return reduce(torch.add, [cost.error(x) for cost in self.costs])

    def retract(self, x: Point, delta: Tensor) -> Point:
        return self.variable.retract(x, delta)
