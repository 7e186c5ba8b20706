"""Factors of one kind: a residual, the variables it is on, a weight and a robust kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.graph.residuals import Residual
from gradslam_ng.optim.costs import DiagonalWeight, FullWeight, IsotropicWeight
from gradslam_ng.optim.kernels import Kernel

Weight = IsotropicWeight | DiagonalWeight | FullWeight
Keys = tuple[tuple[str, Tensor], ...]


@dataclass(frozen=True, eq=False)
class Factor:
    """M factors of one kind. `keys` names the variables that each is on and says which (M,) of them.

    residual: see `residuals`. weight: whitens it, `optim.IsotropicWeight`, `DiagonalWeight` or `FullWeight`, of a
    tensor or of a module that computes one; None where it is white. kernel: a robust kernel on the whitened residual.
    """

    residual: Residual
    keys: Keys
    weight: Weight | None = None
    kernel: Kernel | None = None

    def __len__(self) -> int:
        return len(self.keys[0][1])

    def error(
        self,
        *x: Tensor,  # (..., M, *event) each
    ) -> Tensor:
        """The cost (...) of all M."""
        s = self.squared(*x)
        return 0.5 * (s if self.kernel is None else self.kernel.rho(s)).sum(-1)

    def squared(
        self,
        *x: Tensor,  # (..., M, *event) each
    ) -> Tensor:
        """The squared whitened residuals (..., M), before the kernel."""
        return self.whiten(self.residual(*x)[..., None]).square().sum((-2, -1))

    def linearize(
        self,
        *x: Tensor,  # (..., M, *event) each
    ) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """Whitened Jacobians (..., M, d, n) and residuals (..., M, d), kernel weights (..., M), cost (...)."""
        r, J = self.residual.linearize(*x)
        A = self.whiten(torch.cat([*J, r[..., None]], dim=-1))
        *J, r = A.split([*(part.shape[-1] for part in J), 1], dim=-1)
        s = r.square().sum((-2, -1))
        if self.kernel is None:
            return J, r[..., 0], torch.ones_like(s), 0.5 * s.sum(-1)
        return J, r[..., 0], self.kernel.weight(s), 0.5 * self.kernel.rho(s).sum(-1)

    def gradient(
        self,
        *x: Tensor,  # (..., M, *event) each
    ) -> tuple[list[Tensor], Tensor]:
        """Gradients (..., M, n) of the cost, for each Jacobian that `linearize` returns, and the cost (...)."""
        r, transpose = self.residual.vjp(*x)
        white, p = (r, r) if self.weight is None else self.weight.whiten(r)
        s = white.square().sum(-1)
        rho, p = (s, p) if self.kernel is None else (self.kernel.rho(s), self.kernel.weight(s)[..., None] * p)
        return list(transpose(p)), 0.5 * rho.sum(-1)

    def whiten(
        self,
        A: Tensor,  # (..., M, d, m)
    ) -> Tensor:
        """W A for the columns of every residual."""
        return A if self.weight is None else self.weight(A)
