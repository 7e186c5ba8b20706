"""Riccati recursion of the linear-quadratic problem: its factors, and solutions for any linear terms with them.

With tau_t = [x_t, u_t], t = 0 ... T - 1, minimize sum_t 1/2 tau_t^T C_t tau_t + c_t^T tau_t subject to x_0 given and
x_{t+1} = F_t tau_t + f_t. The optimality conditions are linear in (tau, lambda), symmetric and block tridiagonal; the
recursion is their block elimination (Rao, Wright and Rawlings 1998), whose factors serve for any linear terms.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

Linear = tuple[Tensor, Tensor, Tensor]  # c (B, T, n + m), f (B, T - 1, n), x0 (B, n)


class Factors(NamedTuple):
    """What the recursion leaves: u_t = gain_t x_t + ..., value 1/2 x^T P_t x + ..., and Q_uu, its quadratic in u_t."""

    gain: Tensor  # (B, T, m, n)
    cholesky: Tensor  # (B, T, m, m), of Q_uu
    value: Tensor  # (B, T, n, n), P
    closed: Tensor  # (B, T - 1, n, n), F_x + F_u gain
    convex: Tensor  # (B, T) bool, Q_uu is positive definite; all are just where the problem has one minimum
    free: Tensor | None  # (B, T, m, 1), 1 for controls that are free, 0 for those that are zero; None: all are free


def factorize(
    C: Tensor,  # (B, T, n + m, n + m), symmetric
    F: Tensor,  # (B, T - 1, n, n + m)
    free: Tensor | None = None,  # (B, T, m, 1), as in `Factors`
) -> Factors:
    """The factors; where Q_uu is not positive definite those of this element mean nothing."""
    n = F.shape[-2]
    kept: list[tuple[Tensor, ...]] = []
    masks = [None] * C.shape[1] if free is None else _masks(C[..., n:, n:], free)
    steps = list(zip(C.unbind(1), (*F.unbind(1), None), masks, strict=True))
    P = None
    for C_t, F_t, mask in reversed(steps):
        Q = C_t if P is None or F_t is None else torch.baddbmm(C_t, F_t.mT, P @ F_t)
        Qux, Quu = Q[:, n:, :n], Q[:, n:, n:]
        if mask is not None:
            rows, block, alone = mask
            Qux, Quu = rows * Qux, torch.addcmul(alone, block, Quu)
        root, info = torch.linalg.cholesky_ex(Quu)
        solved = torch.linalg.solve_ex(Quu, Qux)[0]
        half = torch.baddbmm(Q[:, :n, :n], Qux.mT, solved, beta=0.5, alpha=-0.5)
        P = half + half.mT
        kept.append((solved, root, P, info))
    solved, root, value, info = (torch.stack(found[::-1], 1) for found in zip(*kept, strict=True))
    gain = -solved
    closed = F[..., :n] + F[..., n:] @ gain[:, :-1]
    return Factors(gain, root, value, closed, (info == 0) & root.isfinite().all(-1).all(-1), free)


def _masks(
    C_uu: Tensor,  # (B, T, m, m)
    free: Tensor,  # (B, T, m, 1)
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each step what keeps rows (B, m, 1) and blocks (B, m, m) of free controls, and a positive diagonal (B, m, m)
    for the others."""
    diagonal = C_uu.diagonal(dim1=-2, dim2=-1)
    alone = torch.diag_embed((1 - free[..., 0]) * torch.where(diagonal > 0, diagonal, 1.0))
    return list(zip(free.unbind(1), (free * free.mT).unbind(1), alone.unbind(1), strict=True))


def sweep(
    factors: Factors,
    c: Tensor,  # (B, T, n + m)
    F: Tensor,  # (B, T - 1, n, n + m)
    f: Tensor,  # (B, T - 1, n)
) -> tuple[Tensor, Tensor]:
    """Offsets k (B, T, m) of the controls u_t = gain_t x_t + k_t, and linear terms v (B, T, n) of the value."""
    n = F.shape[-2]
    gain, root, P, closed, _, free = factors
    c_x, c_u = c[..., :n, None], c[..., n:, None]
    step = c_x + gain.mT @ c_u
    step_f = P[:, 1:] @ f[..., None]  # what the offset of the dynamics adds to v_{t+1}
    step = torch.cat([step[:, :-1] + closed.mT @ step_f, step[:, -1:]], 1)
    v = step[:, -1]
    values = [v]
    for step_t, closed_t in zip(reversed(step[:, :-1].unbind(1)), reversed(closed.unbind(1)), strict=True):
        v = torch.baddbmm(step_t, closed_t.mT, v)
        values.append(v)
    v = torch.stack(values[::-1], 1)  # (B, T, n, 1)
    Q_u = torch.cat([c_u[:, :-1] + F[..., n:].mT @ (v[:, 1:] + step_f), c_u[:, -1:]], 1)
    if free is not None:
        Q_u = free * Q_u
    return -torch.cholesky_solve(Q_u, root)[..., 0], v[..., 0]


def solve(
    factors: Factors,
    F: Tensor,  # (B, T - 1, n, n + m)
    linear: Linear,
) -> tuple[Tensor, Tensor]:
    """tau (B, T, n + m) and the costates lambda (B, T, n), the derivative of the optimal cost to x_t."""
    c, f, x0 = linear
    n = F.shape[-2]
    k, v = sweep(factors, c, F, f)
    offset = F[..., n:] @ k[:, :-1, :, None] + f[..., None]
    x = x0[..., None]
    states = [x]
    for closed_t, offset_t in zip(factors.closed.unbind(1), offset.unbind(1), strict=True):
        x = torch.baddbmm(offset_t, closed_t, x)
        states.append(x)
    x = torch.stack(states, 1)  # (B, T, n, 1)
    u = (factors.gain @ x)[..., 0] + k
    return torch.cat([x[..., 0], u], -1), (factors.value @ x)[..., 0] + v


class LinearQuadratic(Function):
    """(C, c, F, f, x0, factors of C and F) to tau and lambda, differentiated by the optimality conditions.

    They are M z = -b, z = (tau, lambda), b = (c, f, x0), M symmetric. Of a loss with gradient g to z, d = -M^-1 g is
    the solution of the same problem with g for b, found with the same factors, and the loss changes by
    d^T (db + dM z) (Amos et al. 2018). The backward pass is this function again: derivatives of any order are right.
    """

    @staticmethod
    def forward(C: Tensor, c: Tensor, F: Tensor, f: Tensor, x0: Tensor, factors: Factors) -> tuple[Tensor, Tensor]:
        return solve(factors, F, (c, f, x0))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        C, _, F, _, _, ctx.factors = inputs
        ctx.save_for_backward(C, F, *output)

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> Any:
        C, F, tau, costate = ctx.saved_tensors
        g_tau, g_costate = g
        d, d_costate = LinearQuadratic.apply(C, g_tau, F, g_costate[:, 1:], g_costate[:, 0], ctx.factors)
        dC = dF = None
        if ctx.needs_input_grad[0]:
            dC = 0.5 * (d[..., :, None] * tau[..., None, :] + tau[..., :, None] * d[..., None, :])
        if ctx.needs_input_grad[2]:
            dF = d_costate[:, 1:, :, None] * tau[:, :-1, None, :] + costate[:, 1:, :, None] * d[:, :-1, None, :]
        return dC, d, dF, d_costate[:, 1:], d_costate[:, 0], None
