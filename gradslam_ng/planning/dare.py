"""The discrete algebraic Riccati equation by structure-preserving doubling; its derivative by a Lyapunov equation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.planning.batches import as_batch
from gradslam_ng.planning.checks import check_all, check_shape, check_tensors

DOUBLINGS = 60  # covers 2^60 steps of the recursion; a stable closed loop needs some ten


@mode_free
def dare(
    A: Tensor,  # (..., n, n)
    B: Tensor,  # (..., n, m)
    Q: Tensor,  # (..., n, n)
    R: Tensor,  # (..., m, m)
) -> Tensor:
    """The stabilizing P (..., n, n) of P = A^T P A - A^T P B (R + B^T P B)^-1 B^T P A + Q: the cost 1/2 x^T P x of all
    that is to come, of x_{t+1} = A x_t + B u_t with 1/2 (x^T Q x + u^T R u) a step, at u = -(R + B^T P B)^-1 B^T P A x.

    Leading axes broadcast. Only the symmetric parts of Q and R count. Solved by doubling (Chu, Fan, Lin and Wang 2004),
    each iteration of which covers twice as many steps. The gradient to all four is one Lyapunov equation of the closed
    loop (East et al. 2020), again by doubling.

    Raises:
        TypeError: what is no tensor of floating-point numbers.
        ValueError: shapes that do not fit; numbers that are not finite; an R that is not positive definite; no solution
            that stabilizes, as where a state that grows cannot be controlled, or one that neither grows nor decays
            costs nothing.
    """
    check_tensors(A=A, B=B, Q=Q, R=R)
    n, m = B.shape[-2:] if B.ndim > 1 else (0, 0)
    if n < 1 or m < 1:
        raise ValueError(f"B: expected (..., n, m), one state and one control at least, got {tuple(B.shape)}")
    for name, x, size in (("A", A, n), ("Q", Q, n), ("R", R, m)):
        check_shape(name, x, (size, size), f"as B is {n} x {m}")
    lead = torch.broadcast_shapes(*(x.shape[:-2] for x in (A, B, Q, R)))
    A, B, Q, R = (as_batch(x, lead, 2) for x in (A, B, 0.5 * (Q + Q.mT), 0.5 * (R + R.mT)))
    check_all("R", torch.linalg.cholesky_ex(R.detach())[1].reshape(lead) == 0, "a positive definite matrix")
    return _Dare.apply(A, B, Q, R).reshape(*lead, n, n)


class _Dare(Function):
    """A, B, Q, R (N, ...) to P. S = L S L^T + G, of the closed loop L and a gradient G to P, is that to Q."""

    @staticmethod
    def forward(A: Tensor, B: Tensor, Q: Tensor, R: Tensor) -> Tensor:
        P = _double(A, B, Q, R)
        change = _step(A, B, Q, R, P) - P
        scale = P.abs().amax((-2, -1)).clamp(min=torch.finfo(P.dtype).tiny)
        _, closed = _closed_loop(A, B, R, P)
        radius = torch.linalg.eigvals(torch.where(closed.isfinite(), closed, 2.0)).abs().amax(-1)
        solved = (change.abs().amax((-2, -1)) <= torch.finfo(P.dtype).eps ** 0.5 * scale) & P.isfinite().all(-1).all(-1)
        check_all("A, B, Q, R", solved & (radius < 1), "a system with a stabilizing solution")
        return P

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        A, B, _, R = inputs
        ctx.save_for_backward(A, B, R, output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        A, B, R, P = ctx.saved_tensors
        gain, closed = _closed_loop(A, B, R, P)
        S = _lyapunov(closed, 0.5 * (g + g.mT))
        PAS = 2 * P @ closed @ S
        return PAS, PAS @ gain.mT, S, gain @ S @ gain.mT


def _closed_loop(A: Tensor, B: Tensor, R: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """K (N, m, n) of u = K x, and A + B K."""
    gain = -torch.linalg.solve(R + B.mT @ P @ B, B.mT @ P @ A)
    return gain, A + B @ gain


def _step(A: Tensor, B: Tensor, Q: Tensor, R: Tensor, P: Tensor) -> Tensor:
    """One step of the recursion from P (N, n, n), in Joseph's form, stationary in the gain."""
    gain, closed = _closed_loop(A, B, R, P)
    P = Q + gain.mT @ R @ gain + closed.mT @ P @ closed
    return 0.5 * (P + P.mT)


def _double(A: Tensor, B: Tensor, Q: Tensor, R: Tensor) -> Tensor:
    """P (N, n, n), NaN or far from a solution where there is none."""
    G, H = B @ torch.linalg.solve(R, B.mT), Q
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    for _ in range(DOUBLINGS):
        lu, pivots, _ = torch.linalg.lu_factor_ex(eye + G @ H)
        WA, WG = torch.linalg.lu_solve(lu, pivots, A), torch.linalg.lu_solve(lu, pivots, G)
        change = A.mT @ H @ WA
        G, H, A = G + A @ WG @ A.mT, H + 0.5 * (change + change.mT), A @ WA
        G = 0.5 * (G + G.mT)
        small = change.abs().amax((-2, -1)) <= torch.finfo(H.dtype).eps * H.abs().amax((-2, -1))
        if bool((small | ~H.isfinite().all(-1).all(-1)).all()):
            break
    return H


def _lyapunov(
    M: Tensor,  # (N, n, n), eigenvalues within the unit circle
    W: Tensor,  # (N, n, n)
) -> Tensor:
    """S = M S M^T + W, the sum of M^k W M^kT, twice as many terms each time."""
    for _ in range(DOUBLINGS):
        W = W + M @ W @ M.mT
        if bool((M.detach().abs().amax((-2, -1)) <= torch.finfo(M.dtype).eps).all()):
            break
        M = M @ M
    return W
