"""Where to start a pose graph from: chordal relaxation (Martinec and Pajdla 2007; Carlone et al. 2015).

Rotations first, their orthogonality left out, so that they solve a linear problem; each is then brought to the nearest
rotation. Positions follow from another linear problem. Good starts where odometry alone is far off.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.optim.costs import IsotropicWeight


def chordal(T: Tensor, i: Tensor, j: Tensor, T_ij: Tensor, information: Tensor | None = None) -> Tensor:
    """Poses (N, d + 1, d + 1) in the plane or in space, d = 2 or 3, from motions T_ij (E, d + 1, d + 1) between them.

    T (N, d + 1, d + 1): the first pose of each connected part stays where it is here. information (E, m, m), ordered
    [translation, rotation], weighs the edges by the mean of its diagonal.
    """
    d = T.shape[-1] - 1
    sure = torch.ones(2, len(i), dtype=T.dtype, device=T.device)
    if information is not None:
        diagonal = information.diagonal(dim1=-2, dim2=-1)
        sure = torch.stack([diagonal[:, :d].mean(-1), diagonal[:, d:].mean(-1)]).sqrt()
    R, R_ij = T[:, :d, :d], T_ij[:, :d, :d]

    # row by row: each row of R_j is the row of R_i times R_ij
    rows = _linear(R.mT.contiguous(), i, j, R_ij.mT, sure[1])
    R = nearest_rotation(rows.mT)
    t_ij = (R[i] @ T_ij[:, :d, d:])[..., 0]
    t = _linear(T[:, :d, d:].contiguous(), i, j, None, sure[0], t_ij[..., None])[..., 0]
    T = T.clone()
    T[:, :d, :d], T[:, :d, d] = R, t
    return T


def nearest_rotation(M: Tensor) -> Tensor:
    """The rotation nearest to each M (..., d, d) (Umeyama 1991), itself if it is one."""
    U, _, Vh = torch.linalg.svd(M)
    sign = torch.ones(M.shape[:-1], dtype=M.dtype, device=M.device)
    sign[..., -1] = torch.linalg.det(U @ Vh)
    return (U * sign[..., None, :]) @ Vh


class _Transfer:
    """x_j - A x_i - b of vectors (..., M, d), which is linear."""

    def __init__(self, A: Tensor | None, b: Tensor) -> None:
        self.A, self.b = A, b

    def __call__(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return x_j - (x_i if self.A is None else (self.A @ x_i[..., None])[..., 0]) - self.b

    def linearize(self, x_i: Tensor, x_j: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        r = self(x_i, x_j)
        one = torch.eye(r.shape[-1], dtype=r.dtype, device=r.device).expand(*r.shape, -1)
        return r, (-one if self.A is None else -self.A.expand_as(one), one)


def _linear(x: Tensor, i: Tensor, j: Tensor, A: Tensor | None, sure: Tensor, b: Tensor | None = None) -> Tensor:
    """The least squares x (N, d, c), c columns of unknowns at once, with x_j = A x_i + b on E edges."""
    columns = x.permute(2, 0, 1)
    b = torch.zeros_like(columns[:, i]) if b is None else b.permute(2, 0, 1)
    graph = FactorGraph()
    graph.add_variables("x", optim.Euclidean(), columns[0])
    graph.add_factor(_Transfer(A, b[0]), ("x", i), ("x", j), weight=IsotropicWeight(sure))
    # the columns share their equations: one factor of H solves them all
    H, _, _ = graph.linearize(graph.x)
    gradients = []
    for column, offset in zip(columns, b, strict=True):
        graph.factors[0].residual.b = offset
        gradients.append(graph.gradient((column,))[0])
    g = torch.stack(gradients, dim=-1)
    delta = -torch.linalg.solve(H, g) if isinstance(H, Tensor) else -H.factor().solve_columns(g)
    return torch.stack([graph.retract((c,), step)[0] for c, step in zip(columns, delta.mT, strict=True)], dim=-1)
