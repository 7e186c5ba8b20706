"""Chordal initialization of pose graphs (Martinec and Pajdla 2007; Carlone et al. 2015).

Rotations first, their orthogonality left out, so that they solve a linear problem; each is then brought to the nearest
rotation. Positions follow from another linear problem. Good starts where odometry alone is far off.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry.so3 import nearest_rotation
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.graph.residuals import Residual
from gradslam_ng.optim.costs import IsotropicWeight


def chordal_initialization(
    T: Tensor,  # (N, d + 1, d + 1)
    i: Tensor,  # (E,)
    j: Tensor,  # (E,)
    T_ij: Tensor,  # (E, d + 1, d + 1)
    information: Tensor | None = None,  # (E, m, m)
) -> Tensor:
    """Poses (N, d + 1, d + 1) in the plane or in space, d = 2 or 3, from motions T_ij between them.

    The first pose of each connected part stays where T has it. `information`, ordered [translation, rotation], weighs
    the edges by the mean of its diagonal.
    """
    d = T.shape[-1] - 1
    scale = torch.ones(2, len(i), dtype=T.dtype, device=T.device)
    if information is not None:
        diagonal = information.diagonal(dim1=-2, dim2=-1)
        scale = torch.stack([diagonal[:, :d].mean(-1), diagonal[:, d:].mean(-1)]).sqrt()
    R, R_ij = T[:, :d, :d], T_ij[:, :d, :d]

    # row by row: each row of R_j is the row of R_i times R_ij
    rows = R.mT.contiguous()
    rows = _solve_linear(rows, i, j, R_ij.mT, scale[1], torch.zeros_like(rows[i]))
    R = nearest_rotation(rows.mT)
    t_ij = (R[i] @ T_ij[:, :d, d:])[..., 0]
    t = _solve_linear(T[:, :d, d:].contiguous(), i, j, None, scale[0], t_ij[..., None])[..., 0]
    T = T.clone()
    T[:, :d, :d], T[:, :d, d] = R, t
    return T


class _Transfer(Residual):
    """x_j - A x_i - b of vectors (..., M, d), which is linear. A (M, d, d), or None for the identity."""

    def __init__(self, A: Tensor | None, *, b: Tensor) -> None:
        self.A, self.b = A, b

    def __call__(self, *x: Tensor) -> Tensor:
        x_i, x_j = x
        return x_j - (x_i if self.A is None else (self.A @ x_i[..., None])[..., 0]) - self.b

    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        r = self(*x)
        identity = torch.eye(r.shape[-1], dtype=r.dtype, device=r.device).expand(*r.shape, -1)
        return r, (-identity if self.A is None else -self.A.expand_as(identity), identity)


def _solve_linear(
    x: Tensor,  # (N, d, c)
    i: Tensor,  # (E,)
    j: Tensor,  # (E,)
    A: Tensor | None,  # (E, d, d)
    scale: Tensor,  # (E,)
    b: Tensor,  # (E, d, c)
) -> Tensor:
    """The least squares x (N, d, c), c columns of variables at once, with x_j = A x_i + b on E edges."""
    columns = x.permute(2, 0, 1)  # (c, N, d)
    graph = FactorGraph()
    graph.add_variables("x", optim.Euclidean(), columns)
    graph.add_factor(_Transfer(A, b=b.permute(2, 0, 1)), ("x", i), ("x", j), weight=IsotropicWeight(scale))
    # the columns share their equations: one factorization of H solves them all
    H, _, _ = graph.linearize(graph.initial)
    g = graph.gradient(graph.initial)[0].mT  # (n, c)
    delta = -torch.linalg.solve(H[0], g) if isinstance(H, Tensor) else -first_of_batch(H).factor().solve_columns(g)
    return graph.retract(graph.initial, delta.mT)[0].permute(1, 2, 0)


def first_of_batch(H: optim.BlockSparse) -> optim.BlockSparse:
    """The first (n, n) of matrices (c, n, n)."""
    return optim.BlockSparse(H.values[0], H.pattern)
