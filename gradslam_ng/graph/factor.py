"""A kind of factors: a residual, the unknowns it is on, how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.graph.residuals import Residual
from gradslam_ng.optim.costs import DiagonalWeight, FullWeight, IsotropicWeight, jacobian_forward
from gradslam_ng.optim.kernels import Kernel
from gradslam_ng.optim.variables import Variable

Weight = IsotropicWeight | DiagonalWeight | FullWeight


@dataclass(frozen=True, eq=False)
class Factor:
    """M factors of one kind. `on` names the unknowns that each meets and says which (M,) of them.

    residual: see `residuals`. weight: whitens it, `optim.IsotropicWeight`, `DiagonalWeight` or `FullWeight`, of a
    tensor or of a module that computes one; None where it is white. kernel: a robust kernel on the whitened residual.
    """

    residual: Residual
    on: tuple[tuple[str, Tensor], ...]
    weight: Weight | None = None
    kernel: Kernel | None = None

    def error(self, *x: Tensor) -> Tensor:
        """The cost (...) of all M."""
        s = self.squared(*x)
        return 0.5 * (s if self.kernel is None else self.kernel.rho(s)).sum(-1)

    def squared(self, *x: Tensor) -> Tensor:
        """The squared whitened residuals (..., M), before the kernel."""
        return self._whiten(self.residual(*x)[..., None]).square().sum((-2, -1))

    def linearize(self, variables: list[Variable], *x: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """Whitened Jacobians (..., M, d, n) and residuals (..., M, d), kernel weights (..., M), cost (...)."""
        r, J = self._differentiate(variables, x)
        A = self._whiten(torch.cat([*J, r[..., None]], dim=-1))
        *J, r = A.split([*(part.shape[-1] for part in J), 1], dim=-1)
        s = r.square().sum((-2, -1))
        if self.kernel is None:
            return J, r[..., 0], torch.ones_like(s), 0.5 * s.sum(-1)
        return J, r[..., 0], self.kernel.weight(s), 0.5 * self.kernel.rho(s).sum(-1)

    def gradient(self, variables: list[Variable], *x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Gradients (..., M, n) of the cost to the unknowns whose Jacobians `linearize` returns, and the cost (...)."""
        short = hasattr(self.residual, "vjp")
        r, J = (self.residual(*x), None) if short else self._differentiate(variables, x)
        white, p = (r, r) if self.weight is None else self.weight.whiten(r)
        s = white.square().sum(-1)
        rho, p = (s, p) if self.kernel is None else (self.kernel.rho(s), self.kernel.weight(s)[..., None] * p)
        g = self.residual.vjp(r, p, *x) if short else [(A.mT @ p[..., None])[..., 0] for A in J]
        return list(g), 0.5 * rho.sum(-1)

    def _differentiate(self, variables: list[Variable], x: tuple[Tensor, ...]) -> tuple[Tensor, Sequence[Tensor]]:
        """The residuals (..., M, d) and their Jacobians (..., M, d, n)."""
        if hasattr(self.residual, "linearize"):
            return self.residual.linearize(*x)
        r = self.residual(*x)
        return r, [self._push_forward(k, r, variables[k], x) for k in range(len(x))]

    def _whiten(self, A: Tensor) -> Tensor:
        return A if self.weight is None else self.weight(A)

    def _push_forward(self, k: int, r: Tensor, variable: Variable, x: tuple[Tensor, ...]) -> Tensor:
        """The Jacobian (..., M, d, n) to the k-th unknown."""
        still = r.new_zeros(*r.shape[:-1], variable.dimension(x[k]))
        return jacobian_forward(lambda delta: self.residual(*x[:k], variable.retract(x[k], delta), *x[k + 1 :]), still)
