"""Gradients of a solution without the path to it: the implicit function theorem, and direct loss.

Both attach the gradient to a solution x that was found without any record, so memory and time of the backward pass do
not depend on how many iterations that took. The solution leaves as retract(x, zero), and the zero carries the gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from gradslam_ng.optim.linear import conjugate_gradients, observed_inverse
from gradslam_ng.optim.problem import Point, Problem, gradient
from gradslam_ng.optim.sparse import BlockSparse

Map = Callable[[Tensor], Tensor]


class _Root(Function):
    """0 = g(delta, theta) makes d delta / d theta = -(dg/d delta)^-1 dg/d theta; `inverse` applies (dg/d delta)^-T."""

    @staticmethod
    def forward(ctx, g: Tensor, inverse: Map) -> Tensor:
        ctx.inverse = inverse
        return torch.zeros_like(g)

    @staticmethod
    @once_differentiable
    def backward(ctx, v: Tensor) -> tuple[Tensor, None]:
        return -ctx.inverse(v), None


def differentiate_root(residual: Map, zero: Tensor, inverse: Callable[[Map, Tensor], Tensor]) -> Tensor:
    """Zero (..., n), with the gradient of the root of `residual` that lies at zero.

    A fixed point x = f(x) is the root of delta -> x + delta - f(x + delta).

    Args:
        residual: (..., n) -> (..., n), zero at zero; what it depends on gets the gradient.
        zero: zeros of shape (..., n).
        inverse: called in the backward pass as inverse(transposed, v), solves A^T u = v, where A is the Jacobian of the
            residual at zero and transposed(w) gives A^T w for one backward pass through the residual.
    """
    delta = zero.detach().requires_grad_()
    with torch.enable_grad():
        g = residual(delta)

    def transposed(w: Tensor) -> Tensor:
        return torch.autograd.grad(g, delta, w, retain_graph=True)[0]

    return _Root.apply(g, lambda v: inverse(transposed, v))


def dense_inverse(transposed: Map, v: Tensor) -> Tensor:
    """Solve A^T u = v (..., n) for any regular A, by writing it out: n backward passes."""
    columns = [transposed(e.expand_as(v)) for e in torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)]
    return torch.linalg.solve(torch.stack(columns, -1), v)


def exact(problem: Problem, x: Point, zero: Tensor, known: BlockSparse | None = None) -> tuple[Tensor, Tensor]:
    """`zero` (..., n) with the gradient of the optimum x, by the implicit function theorem; and the error there.

    The exact Hessian of the error is the Jacobian of g, symmetric at an optimum, so that one backward pass through one
    linearisation applies it. Conjugate gradients solve with it, preconditioned by the Gauss-Newton H,
    which may be known. Directions which H does not observe get no gradient.
    """
    H, error = None, None

    def residual(delta: Tensor) -> Tensor:
        nonlocal H, error
        there = problem.retract(x, delta)
        H, g, error = problem.linearize(there) if known is None else (known, *gradient(problem, there))
        return g

    def inverse(hessian: Map, v: Tensor) -> Tensor:
        return conjugate_gradients(hessian, v, observed_inverse(H), iterations=2 * v.shape[-1])

    return differentiate_root(residual, zero, inverse), error


def gauss_newton(problem: Problem, x: Point, zero: Tensor, known: BlockSparse | None = None) -> tuple[Tensor, Tensor]:
    """As `exact`, with the Gauss-Newton H for the Hessian: cheaper, and biased by the residuals left at the optimum.

    The bias is H^-1 sum(r d2r/dx2) to first order: none for residuals of zero; 8e-4 to 3e-2 of the gradient on noisy
    point-to-plane problems.
    """
    with torch.enable_grad():
        H, g, error = problem.linearize(x) if known is None else (known, *gradient(problem, x))
    return _Root.apply(g, lambda v: observed_inverse(H)(v)), error


class _Direct(Function):
    """Zero, whose gradient v asks `perturb` for two optima and weighs the errors at them."""

    @staticmethod
    def forward(ctx, in_front: Tensor, behind: Tensor, zero: Tensor, perturb: Map) -> Tensor:
        ctx.perturb = perturb
        return torch.zeros_like(zero)

    @staticmethod
    @once_differentiable
    def backward(ctx, v: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight = 0.5 / ctx.perturb(v)
        return weight, -weight, None, None


def direct_loss(
    problem: Problem, x: Point, zero: Tensor, known: BlockSparse | None = None, iterations: int = 30
) -> tuple[Tensor, Tensor]:
    """`zero` (..., n) with the gradient of the optimum x, by perturbing the problem with the loss; and the error there.

    With v the gradient of the loss at x, and x(e) the optimum of error + e v . delta, the loss has the gradient
    [d error(x(e)) - d error(x(-e))] / 2e with respect to what the error depends on (McAllester, Hazan and Keshet 2010;
    Song et al. 2016), to second order in e. Nothing but the error is differentiated, and that once. The perturbation
    moves x by the cube root of the rounding unit, in units of the tangent; Gauss-Newton finds x(e) from x.
    """
    with torch.no_grad():
        inverse = observed_inverse(known or problem.linearize(x)[0])
    places = [x, x]  # where the two errors are evaluated; v, hence x(e), is known in the backward pass only

    def perturb(v: Tensor) -> Tensor:
        """Move the two places to x(e) and x(-e), and return e (...)."""
        length = inverse(v).abs().amax(-1)
        e = torch.finfo(v.dtype).eps ** (1 / 3) / torch.where(length > 0, length, 1.0)
        with torch.no_grad():
            for side, sign in enumerate((1.0, -1.0)):
                place = x
                for _ in range(iterations):
                    g = gradient(problem, place)[0] + sign * e[..., None] * v
                    place = problem.retract(place, -inverse(g))
                places[side] = place
        return e

    # a checkpointed function is evaluated again in the backward pass, by then at the places found there
    with torch.enable_grad():
        in_front, behind = (
            checkpoint(lambda side=side: problem.error(places[side]), use_reentrant=False, preserve_rng_state=False)
            for side in (0, 1)
        )
    return _Direct.apply(in_front, behind, zero, perturb), 0.5 * (in_front + behind)
