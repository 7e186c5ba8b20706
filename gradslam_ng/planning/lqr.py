"""Linear-quadratic regulator over a finite horizon by the Riccati recursion, with the exact adjoint of its solution."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.transforms import is_vmapped
from gradslam_ng.planning.batches import as_batch
from gradslam_ng.planning.checks import check_shape, check_tensors
from gradslam_ng.planning.riccati import LinearQuadratic, factorize


class LQRSolution(NamedTuple):
    """States and controls, and what the dynamics cost."""

    tau: Tensor  # (..., T, n + m), [x_t, u_t]
    costates: Tensor  # (..., T, n), lambda_t, the derivative of the optimal cost to x_t


@mode_free
def lqr(
    C: Tensor,  # (..., T, n + m, n + m)
    c: Tensor,  # (..., T, n + m)
    F: Tensor,  # (..., T - 1, n, n + m)
    f: Tensor | None,  # (..., T - 1, n); None for none
    x0: Tensor,  # (..., n)
) -> LQRSolution:
    """Minimize sum_t 1/2 tau_t^T C_t tau_t + c_t^T tau_t over tau_t = [x_t, u_t], x_{t+1} = F_t tau_t + f_t, x_0 = x0.

    Leading axes broadcast. Only the symmetric part of C counts, and the gradient to it is symmetric. States need not be
    controllable, and C need not be positive semidefinite; what is needed is that the problem has one minimum.

    The gradient of tau and costates to all five comes from the optimality conditions, solved again with the factors of
    the forward pass (Amos et al. 2018, Differentiable MPC): no step of the recursion is recorded, and derivatives of
    any order are right.

    Raises:
        TypeError: what is no tensor of floating-point numbers.
        ValueError: shapes that do not fit; numbers that are not finite; a problem without one minimum, as where the
            cost of a control is singular and nothing else depends on it.
    """
    if f is None:
        f = F.new_zeros(F.shape[:-1])
    check_tensors(C=C, c=c, F=F, f=f, x0=x0)
    T, n = c.shape[-2] if c.ndim > 1 else 0, x0.shape[-1] if x0.ndim else 0
    size = c.shape[-1] if c.ndim else 0
    if T < 1 or n < 1 or size <= n:
        raise ValueError(
            f"c: expected (..., T, n + m) with one step and one control at least beside the n = {n} states of x0, "
            f"got {tuple(c.shape)}"
        )
    check_shape("C", C, (T, size, size), "a matrix for each step")
    check_shape("F", F, (T - 1, n, size), "a matrix for each step but the last")
    check_shape("f", f, (T - 1, n), "a vector for each step but the last")
    lead = torch.broadcast_shapes(C.shape[:-3], c.shape[:-2], F.shape[:-3], f.shape[:-2], x0.shape[:-1])
    C, F = as_batch(0.5 * (C + C.mT), lead, 3), as_batch(F, lead, 3)
    c, f, x0 = as_batch(c, lead, 2), as_batch(f, lead, 2), as_batch(x0, lead, 1)
    with torch.no_grad():
        factors = factorize(C.detach(), F.detach())
    _check_convex(factors.convex.reshape(*lead, T))
    tau, costates = LinearQuadratic.apply(C, c, F, f, x0, factors)
    return LQRSolution(tau.reshape(*lead, T, size), costates.reshape(*lead, T, n))


def _check_convex(convex: Tensor) -> None:  # (..., T) bool
    """Raise ValueError for the step, going back in time, at which the recursion of some element fails first."""
    if is_vmapped(convex) or bool(convex.all()):
        return
    *index, t = (~convex).nonzero()[-1].tolist()
    where = f" of element {tuple(index)}" if index else ""
    raise ValueError(
        "C and F: expected a problem with one minimum, the cost to go positive definite in the controls of every "
        f"step; it is not at step {t}{where}"
    )
