"""Implicit differentiation and direct loss: gradients of a solution without those of the iterations.

Both attach the gradient to a solution x that was found without any record, so memory and time of the backward pass do
not depend on how many iterations that took. The solution leaves as retract(x, zero), and the zero carries the gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from gradslam_ng.compute.safe import denominator
from gradslam_ng.compute.transforms import is_vmapped, refuse_gradient
from gradslam_ng.compute.tree import tree_map
from gradslam_ng.optim.linear import conjugate_gradients, observed_inverse
from gradslam_ng.optim.problem import Point, Problem, gradient
from gradslam_ng.optim.sparse import BlockSparse

TangentFunction = Callable[[Tensor], Tensor]  # (..., n) -> (..., n)


class _HessianInverse:
    """The inverse of a symmetric matrix given as v -> A v, all (..., n), without gradient, by conjugate gradients."""

    def __init__(self, hessian: TangentFunction, *, preconditioner: TangentFunction) -> None:
        self.hessian, self.preconditioner = hessian, preconditioner
        self.goal: Tensor | None = None  # (...), squared length of a gradient beside which less is rounding

    @torch.no_grad()
    def measure(self, v: Tensor) -> None:
        """Take what is much less than v from now on for rounding."""
        self.goal = self.length(v) * torch.finfo(v.dtype).eps ** 1.2

    @torch.no_grad()
    def is_rounding(self, v: Tensor) -> bool:
        return self.goal is not None and not is_vmapped(v) and bool((self.length(v) <= self.goal).all())

    def length(self, v: Tensor) -> Tensor:
        """Squared, in the metric of the preconditioner (...)."""
        return torch.linalg.vecdot(v, self.preconditioner(v))

    @torch.no_grad()
    def __call__(self, v: Tensor) -> Tensor:
        return conjugate_gradients(self.hessian, v, self.preconditioner, 2 * v.shape[-1], self.goal)


class _Root(Function):
    """0 = g(delta, theta) makes d delta / d theta = -(dg/d delta)^-1 dg/d theta; `inverse` applies (dg/d delta)^-T."""

    @staticmethod
    def forward(g: Tensor, inverse: TangentFunction, mode: str) -> Tensor:
        return torch.zeros_like(g)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        g, ctx.inverse, ctx.mode = inputs
        ctx.save_for_backward(g)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        with torch.no_grad():
            u = -ctx.inverse(v)
        (g,) = ctx.saved_tensors
        return refuse_gradient(_second_order(ctx.mode), u, v, g) if torch.is_grad_enabled() else u, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        raise RuntimeError(_forward_mode(ctx.mode))


class _ReverseOnly(Function):
    """Part of backward="implicit"."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        raise RuntimeError(_forward_mode("backward='implicit'"))


class _SymmetricRoot(_ReverseOnly):
    """`_Root` with second derivatives: g is evaluated where `start`, the root to first order, moves to.

    The chord method: one more step from a point whose first derivatives are right, with the same inverse, makes the
    second ones right. To first order nothing comes through `start`, since v + (dg/d delta)^T u = 0.
    """

    @staticmethod
    def forward(g: Tensor, start: Tensor, inverse: _HessianInverse) -> Tensor:
        return torch.zeros_like(g)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        g, _, ctx.inverse = inputs
        ctx.save_for_backward(g)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        ctx.inverse.measure(v)
        u = _Negative.apply(v, ctx.inverse)
        return _SecondOrder.apply(u, *ctx.saved_tensors) if torch.is_grad_enabled() else u, v, None


class _Start(_ReverseOnly):
    """The root to first order, where `_SymmetricRoot` starts."""

    @staticmethod
    def forward(g: Tensor, inverse: _HessianInverse) -> Tensor:
        return torch.zeros_like(g)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.inverse = inputs[1]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        if not torch.is_grad_enabled() and ctx.inverse.is_rounding(v):
            return None, None
        return _Negative.apply(v, ctx.inverse), None


class _Negative(_ReverseOnly):
    """-A^-1 v for symmetric A, a constant."""

    @staticmethod
    def forward(v: Tensor, inverse: TangentFunction) -> Tensor:
        return -inverse(v)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.inverse = inputs[1]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        return _Negative.apply(v, ctx.inverse), None


class _SecondOrder(_ReverseOnly):
    """u, part of a gradient: its gradient is right, that of its gradient is not, and refused."""

    @staticmethod
    def forward(u: Tensor, g: Tensor) -> Tensor:
        return u.view_as(u)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        nothing = torch.zeros_like(v)
        if torch.is_grad_enabled():
            message = "backward='implicit' has no third derivatives: use 'unroll'"
            nothing = refuse_gradient(message, nothing, *ctx.saved_tensors)
        return v, nothing


def _second_order(mode: str) -> str:
    return f"{mode} has no second derivatives: use backward='unroll' or 'implicit'"


def _forward_mode(mode: str) -> str:
    return f"{mode} has no forward-mode derivative: use backward='unroll' or 'truncated'"


def differentiate_root(
    residual: TangentFunction, zero: Tensor, inverse: Callable[[TangentFunction, Tensor], Tensor]
) -> Tensor:
    """Zero (..., n), with the gradient of the root of `residual` that lies at zero; second derivatives are refused.

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

    return _Root.apply(g, lambda v: inverse(transposed, v), "differentiate_root")


def dense_inverse(
    transposed: TangentFunction,
    v: Tensor,  # (..., n)
) -> Tensor:
    """Solve A^T u = v (..., n) for any regular A, by writing it out: n backward passes."""
    columns = [transposed(e.expand_as(v)) for e in torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)]
    return torch.linalg.solve(torch.stack(columns, -1), v)


def exact(problem: Problem, x: Point, zero: Tensor, known_H: BlockSparse | None = None) -> tuple[Tensor, Tensor]:
    """`zero` (..., n) with the gradient of the optimum x, by the implicit function theorem; and the error there.

    The exact Hessian of the error is the Jacobian of g, symmetric at an optimum, so that one backward pass through one
    linearization applies it. Conjugate gradients solve with it, preconditioned by the Gauss-Newton H,
    which may be known. Directions which H does not observe get no gradient.
    """
    at_x: list[tuple[Tensor | BlockSparse, Tensor]] = []  # H and error, once the residual has been evaluated

    def residual(delta: Tensor, of: Problem = problem) -> Tensor:
        H, g, error = _equations(of, problem.retract(x, delta), known_H)
        at_x.append((H, error))
        return g

    def hessian() -> TangentFunction:
        constant = zero.detach().requires_grad_()
        with torch.enable_grad():
            # of a problem that is held: nothing but the point is differentiated, once for every product
            g = residual(constant, tree_map(Tensor.detach, problem))
        return lambda w: torch.autograd.grad(g, constant, w, retain_graph=True)[0]

    inverse = _HessianInverse(_lazily(hessian), preconditioner=_lazily(lambda: observed_inverse(at_x[0][0])))
    with torch.enable_grad():
        start = _Start.apply(residual(zero), inverse)
        delta = _SymmetricRoot.apply(residual(start), start, inverse)
    return delta, at_x[1][1]


def _lazily(make: Callable[[], TangentFunction]) -> TangentFunction:
    """What `make` returns, made when it is first called."""
    made = functools.cache(make)
    return lambda v: made()(v)


def _equations(problem: Problem, x: Point, known_H: BlockSparse | None) -> tuple[Tensor | BlockSparse, Tensor, Tensor]:
    return problem.linearize(x) if known_H is None else (known_H, *gradient(problem, x))


def gauss_newton(problem: Problem, x: Point, zero: Tensor, known_H: BlockSparse | None = None) -> tuple[Tensor, Tensor]:
    """As `exact`, with the Gauss-Newton H for the Hessian: cheaper, and biased by the residuals left at the optimum.

    The bias is H^-1 sum(r d2r/dx2) to first order: none for residuals of zero; 8e-4 to 3e-2 of the gradient on noisy
    point-to-plane problems.
    """
    with torch.enable_grad():
        H, g, error = _equations(problem, x, known_H)
    return _Root.apply(g, lambda v: observed_inverse(H)(v), "backward='implicit-gn'"), error


class _Direct(Function):
    """Zero, whose gradient v asks `perturb` for two optima and weighs the errors at them."""

    @staticmethod
    def forward(error_plus: Tensor, error_minus: Tensor, zero: Tensor, perturb: TangentFunction) -> Tensor:
        return torch.zeros_like(zero)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.perturb = inputs[3]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        with torch.no_grad():
            weight = 0.5 / ctx.perturb(v)
        (error,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            weight = refuse_gradient(_second_order("backward='direct'"), weight, v, error)
        return weight, -weight, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        raise RuntimeError(_forward_mode("backward='direct'"))


def direct_loss(
    problem: Problem, x: Point, zero: Tensor, known_H: BlockSparse | None = None, iterations: int = 30
) -> tuple[Tensor, Tensor]:
    """`zero` (..., n) with the gradient of the optimum x, by perturbing the problem with the loss; and the error there.

    With v the gradient of the loss at x, and x(e) the optimum of error + e v . delta, the loss has the gradient
    [d error(x(e)) - d error(x(-e))] / 2e with respect to what the error depends on (McAllester, Hazan and Keshet 2010;
    Song et al. 2016), to second order in e. Nothing but the error is differentiated, and that once. The perturbation
    moves x by eps^(2/5) in units of the tangent: 1.7 mm in float32, which robust kernels still take for small, and
    where the errors still differ by enough digits. Gauss-Newton finds x(e) from x.
    """
    with torch.no_grad():
        inverse = observed_inverse(known_H or problem.linearize(x)[0])
    points = [x, x]  # where the two errors are evaluated; v, hence x(e), is known in the backward pass only

    def perturb(v: Tensor) -> Tensor:
        """Move the two points to x(e) and x(-e), and return e (...)."""
        length = inverse(v).abs().amax(-1)
        e = torch.finfo(v.dtype).eps ** 0.4 / denominator(length, length > 0)
        with torch.no_grad():
            for side, sign in enumerate((1.0, -1.0)):
                point = x
                for _ in range(iterations):
                    g = gradient(problem, point)[0] + sign * e[..., None] * v
                    point = problem.retract(point, -inverse(g))
                points[side] = point
        return e

    # a checkpointed function is evaluated again in the backward pass, by then at the points found there
    with torch.enable_grad():
        error_plus, error_minus = (
            checkpoint(lambda side=side: problem.error(points[side]), use_reentrant=False, preserve_rng_state=False)
            for side in (0, 1)
        )
    return _Direct.apply(error_plus, error_minus, zero, perturb), 0.5 * (error_plus + error_minus)
