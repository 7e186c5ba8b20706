"""Cholesky solution of normal equations, dense or sparse, with finite values and gradients whatever their rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.safe import divide
from gradslam_ng.compute.transforms import is_vmapped
from gradslam_ng.optim.sparse import BlockSparse, SparseFactor


class Factor(NamedTuple):
    """Cholesky factor of `H` scaled to a unit diagonal: H + (damping + floor) D = S^-1 L L^T S^-1, D = diag(S)^-2."""

    L: Tensor  # (..., n, n) lower triangular
    scale: Tensor  # (..., n), S; zero where H holds no information at all

    def solve(
        self,
        b: Tensor,  # (..., n)
    ) -> Tensor:
        """The damped inverse of H times b (..., n)."""
        return self.scale * torch.cholesky_solve((self.scale * b)[..., None], self.L)[..., 0]

    def norm2(
        self,
        delta: Tensor,  # (..., n)
    ) -> Tensor:
        """delta^T D delta, the squared length of a step in the metric of the damping. (..., n) -> (...)."""
        informed = self.scale > 0
        return divide(delta, self.scale, informed).square().sum(-1)


def _unit_diagonal(
    H: Tensor,  # (..., n, n)
) -> tuple[Tensor, Tensor]:
    """H (..., n, n) with rows and columns scaled to a unit diagonal (Marquardt 1963), and the scales S (..., n).

    So neither the units of the unknowns nor the scale of the cost matter. A diagonal below 1e-4 of the largest is taken
    for that much: it may be a direction that only rounding observes (a wall seen head on), and must not be scaled up to
    look like one that something does. All of S is zero where all of H is.
    """
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    largest = diagonal.amax(-1, keepdim=True)
    informed = largest > torch.finfo(H.dtype).tiny
    unit = torch.where(informed, largest.detach(), 1.0)  # cancels from every solution, hence no gradient
    least = 1e-4 * (largest / unit)  # and this is 1e-4, with one
    scale = torch.where(informed, torch.maximum(diagonal / unit, least), 1.0).rsqrt()
    A = scale[..., :, None] * (H / unit[..., None]) * scale[..., None, :]
    return A, torch.where(informed, scale * unit.rsqrt(), 0.0)


def _floor(H: Tensor) -> float:
    return torch.finfo(H.dtype).eps ** 0.75  # 2e-12 in float64, 6e-6 in float32


def trace(
    H: Tensor | BlockSparse,  # (..., n, n)
) -> Tensor:
    """The sum of the diagonal, (...)."""
    return H.diagonal().sum(-1) if isinstance(H, BlockSparse) else H.diagonal(dim1=-2, dim2=-1).sum(-1)


def factor(
    H: Tensor | BlockSparse,  # (..., n, n)
    damping: Tensor | float = 0.0,  # (...), relative to the diagonal of H
) -> Factor | SparseFactor:
    """Factor positive semidefinite normal equations H (..., n, n), damped by a share (...) of their diagonal.

    A floor under the scaled eigenvalues keeps directions that nothing observes (a planar scene) at a finite,
    practically zero step; H = 0 gives a zero step.
    """
    if isinstance(H, BlockSparse):
        return H.factor(damping)
    A, scale = _unit_diagonal(H)
    identity = torch.eye(H.shape[-1], dtype=H.dtype, device=H.device)
    damping = (H.new_ones(()) * damping).to(H.dtype)[..., None, None]
    A = A + (damping + _floor(H)) * identity
    with torch.no_grad():  # rounding can leave a rank-deficient sum slightly indefinite: damp those more
        indefinite = torch.linalg.cholesky_ex(A).info > 0
    A = A + (1e-3 * indefinite.to(H.dtype))[..., None, None] * identity
    return Factor(torch.linalg.cholesky_ex(A).L, scale)


def pseudo_inverse(
    H: Tensor,  # (..., n, n)
) -> Tensor:
    """Inverse (..., n, n) of H (..., n, n) on the directions that it observes, zero on the others, without gradient."""
    A, scale = _unit_diagonal(H.detach())
    values, vectors = torch.linalg.eigh(A)
    observed = values > _floor(H)
    values = divide(1.0, values, observed)
    vectors = scale[..., :, None] * vectors
    return (vectors * values[..., None, :]) @ vectors.mT


def observed_inverse(
    H: Tensor | BlockSparse,  # (..., n, n)
) -> Callable[[Tensor], Tensor]:
    """v (..., n) -> u with H u = v on the directions that H observes, without gradient."""
    if isinstance(H, BlockSparse):
        return H.observed_inverse()
    inverse = pseudo_inverse(H)
    return lambda v: (inverse @ v[..., None])[..., 0]


def conjugate_gradients(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,  # (..., n)
    preconditioner: Callable[[Tensor], Tensor],
    iterations: int,
    goal: Tensor | None = None,  # (...)
) -> Tensor:
    """Solve A u = b for symmetric A given as v -> A v, all (..., n), by preconditioned conjugate gradients.

    Nocedal and Wright 2006, algorithm 5.3; the preconditioner stands for the inverse of A. Elements of the
    batch stop on their own; the host looks at them once an iteration. Where A has no positive curvature along the first
    direction the preconditioner's answer is returned. `goal`: squared residual, in the preconditioner's metric, that is
    small enough.
    """
    apply = torch.linalg.vecdot
    u, r = torch.zeros_like(b), b
    z = preconditioner(r)
    p, rz = z, apply(r, z)
    least = rz * torch.finfo(b.dtype).eps ** 1.2
    goal = least if goal is None else torch.maximum(goal, least)
    for iteration in range(iterations):
        if not is_vmapped(rz) and bool((rz <= goal).all()):
            break
        Ap = matvec(p)
        curvature = apply(p, Ap)
        active = (rz > goal) & (curvature > 0)
        alpha = divide(rz, curvature, active, otherwise=1.0 if iteration == 0 else 0.0)[..., None]
        u, r = u + alpha * p, r - alpha * Ap
        z = preconditioner(r)
        rz, previous = torch.where(active, apply(r, z), 0.0), rz
        p = z + divide(rz, previous, active)[..., None] * p
    return u
