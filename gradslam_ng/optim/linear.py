"""Small dense normal equations, solved so that value and gradient are finite whatever their rank."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Factor(NamedTuple):
    """Cholesky factor of `H` scaled to a unit diagonal: H + (damping + floor) D = S^-1 L L^T S^-1, D = diag(S)^-2."""

    L: Tensor  # (..., n, n) lower triangular
    scale: Tensor  # (..., n), S; zero where H holds no information at all

    def solve(self, b: Tensor) -> Tensor:
        """The damped inverse of H times b (..., n)."""
        return self.scale * torch.cholesky_solve((self.scale * b)[..., None], self.L)[..., 0]

    def norm2(self, delta: Tensor) -> Tensor:
        """delta^T D delta, the squared length of a step in the metric of the damping. (..., n) -> (...)."""
        informed = self.scale > 0
        return (delta / torch.where(informed, self.scale, 1.0)).where(informed, 0.0).square().sum(-1)


def factor(H: Tensor, damping: Tensor | float = 0.0) -> Factor:
    """Factor positive semidefinite normal equations H (..., n, n), damped by a share (...) of their diagonal.

    Rows and columns are first scaled to a unit diagonal (Marquardt 1963), so neither the units of the unknowns nor the
    scale of the cost matters. A floor of some roundings on that unit diagonal keeps directions that nothing observes (a
    planar scene) at a finite, practically zero step; H = 0 gives a zero step.
    """
    eps = torch.finfo(H.dtype).eps
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    largest = diagonal.detach().amax(-1, keepdim=True)  # cancels from the solution, hence no gradient
    informed = largest > torch.finfo(H.dtype).tiny
    unit = torch.where(informed, largest, 1.0)
    scale = torch.where(informed, (diagonal / unit).clamp(min=eps), 1.0).rsqrt()
    identity = torch.eye(H.shape[-1], dtype=H.dtype, device=H.device)
    damping = torch.as_tensor(damping, dtype=H.dtype, device=H.device)[..., None, None]
    A = scale[..., :, None] * (H / unit[..., None]) * scale[..., None, :] + (damping + 32 * eps) * identity
    with torch.no_grad():  # rounding can leave a rank-deficient sum slightly indefinite: damp those more
        indefinite = torch.linalg.cholesky_ex(A).info > 0
    A = A + torch.where(indefinite, 1e-3, 0.0).to(H.dtype)[..., None, None] * identity
    return Factor(torch.linalg.cholesky_ex(A).L, torch.where(informed, scale * unit.rsqrt(), 0.0))
