"""What a controller minimizes over: costs and dynamics of single steps, with derivatives, given or found.

Functions of one's own take states x (B, T, n) and controls u (B, T, m), treat elements and steps apart, and depend on
whatever tensors they like; those that require a gradient get one. Parameters of each element have shape (B, 1, ...).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradslam_ng.planning.checks import check_tensors

Function = Callable[[Tensor, Tensor], Tensor]  # (B, T, n), (B, T, m) -> (B, T, n) or (B, T)


class Dynamics(nn.Module, ABC):
    """x_{t+1} = f_t(x_t, u_t), with derivatives."""

    @abstractmethod
    def step(self, x: Tensor, u: Tensor, t: int) -> Tensor:
        """Next states (B, n) of x (B, n) and u (B, m) at step t."""

    @abstractmethod
    def linearize(self, tau: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor | None]]:
        """Along tau (B, T - 1, n + m): next states (B, T - 1, n), F (B, T - 1, n, n + m), and a function of costates
        (B, T - 1, n) to the Hessian of costate . f (B, T - 1, n + m, n + m), None for zero.

        Recorded where gradients are."""

    @abstractmethod
    def transposed(self, tau: Tensor, costates: Tensor) -> tuple[Tensor, Tensor]:
        """Next states and F^T costates (B, T - 1, n + m), recorded, with gradient to what f depends on."""


class StageCost(nn.Module, ABC):
    """The cost of each step, l_t(x_t, u_t), with derivatives."""

    @abstractmethod
    def evaluate(self, tau: Tensor) -> Tensor:
        """Costs (B, T) along tau (B, T, n + m)."""

    @abstractmethod
    def expand(self, tau: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """Gradient (B, T, n + m), and what finds the Hessian (B, T, n + m, n + m). Recorded where gradients are."""

    @abstractmethod
    def gradient(self, tau: Tensor) -> Tensor:
        """Gradient (B, T, n + m) at a constant tau, with gradient to what the cost depends on."""


class LinearDynamics(Dynamics):
    """x_{t+1} = F_t tau_t + f_t.

    F: (T - 1, n, n + m), or with an axis B before that; f: (T - 1, n) or (B, T - 1, n), None for none.
    """

    F: Tensor
    f: Tensor

    def __init__(self, F: Tensor, *, f: Tensor | None = None) -> None:
        super().__init__()
        check_tensors(F=F, **({} if f is None else {"f": f}))
        self.F = F
        self.f = F.new_zeros(F.shape[:-1]) if f is None else f

    def step(self, x: Tensor, u: Tensor, t: int) -> Tensor:
        return (self.F[..., t, :, :] @ torch.cat([x, u], -1)[..., None])[..., 0] + self.f[..., t, :]

    def linearize(self, tau: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor | None]]:
        F = self.F.expand(len(tau), *self.F.shape[-3:])
        return (F @ tau[..., None])[..., 0] + self.f, F, lambda costates: None

    def transposed(self, tau: Tensor, costates: Tensor) -> tuple[Tensor, Tensor]:
        return (self.F @ tau[..., None])[..., 0] + self.f, (self.F.mT @ costates[..., None])[..., 0]


class QuadraticCost(StageCost):
    """1/2 tau_t^T C_t tau_t + c_t^T tau_t; of C the symmetric part counts.

    C: (T, n + m, n + m), or with an axis B before that, T = 1 for the same at every step; c: the same, of vectors.
    """

    C: Tensor
    c: Tensor

    def __init__(self, C: Tensor, *, c: Tensor | None = None) -> None:
        super().__init__()
        check_tensors(C=C, **({} if c is None else {"c": c}))
        self.C = C
        self.c = C.new_zeros(C.shape[:-1]) if c is None else c

    def evaluate(self, tau: Tensor) -> Tensor:
        return (tau * (0.5 * (self.C @ tau[..., None])[..., 0] + self.c)).sum(-1)

    def expand(self, tau: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        C = 0.5 * (self.C + self.C.mT)
        return (C @ tau[..., None])[..., 0] + self.c, lambda: C.expand(*tau.shape, tau.shape[-1])

    def gradient(self, tau: Tensor) -> Tensor:
        return self.expand(tau)[0]


class DifferentiatedDynamics(Dynamics):
    """A function (x, u) -> next x, differentiated automatically; n is the number of states."""

    def __init__(self, function: Function, *, n: int) -> None:
        super().__init__()
        self.function, self.n = function, n

    def step(self, x: Tensor, u: Tensor, t: int) -> Tensor:
        y = self.function(x[:, None], u[:, None])
        if y.shape != (len(x), 1, self.n):
            raise ValueError(f"dynamics: expected next states {(len(x), 1, self.n)}, got {tuple(y.shape)}")
        return y[:, 0]

    def linearize(self, tau: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor | None]]:
        at, record = _variable(tau)
        with torch.enable_grad():
            y = self.function(at[..., : self.n], at[..., self.n :])
        F = _rows(y, at, record)

        def curvature(costates: Tensor) -> Tensor:
            if record:  # the costates are recorded too, and depend on `at`
                again, _ = _variable(tau)
                g = self.transposed(again, costates)[1]
                return _rows(g, again, record)
            with torch.enable_grad():
                (g,) = _grad((y * costates).sum(), at, True)
            return _rows(g, at, record)

        return (y if record else y.detach()), F, curvature

    def transposed(self, tau: Tensor, costates: Tensor) -> tuple[Tensor, Tensor]:
        at = tau if tau.requires_grad else tau.detach().requires_grad_()
        with torch.enable_grad():
            y = self.function(at[..., : self.n], at[..., self.n :])
            (g,) = _grad((y * costates).sum(), at, True)
        return y, g


class DifferentiatedCost(StageCost):
    """A function (x, u) -> costs, differentiated automatically; n is the number of states."""

    def __init__(self, function: Function, *, n: int) -> None:
        super().__init__()
        self.function, self.n = function, n

    def evaluate(self, tau: Tensor) -> Tensor:
        cost = self.function(tau[..., : self.n], tau[..., self.n :])
        if cost.shape != tau.shape[:-1]:
            raise ValueError(f"cost: expected a number for each step {tuple(tau.shape[:-1])}, got {tuple(cost.shape)}")
        return cost

    def expand(self, tau: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        at, record = _variable(tau)
        with torch.enable_grad():
            (g,) = _grad(self.evaluate(at).sum(), at, True)
        return (g if record else g.detach()), lambda: _rows(g, at, record)

    def gradient(self, tau: Tensor) -> Tensor:
        at = tau.detach().requires_grad_()
        with torch.enable_grad():
            (g,) = _grad(self.evaluate(at).sum(), at, True)
        return g


def _variable(tau: Tensor) -> tuple[Tensor, bool]:
    """What to differentiate to, and whether what comes out is recorded: then it has the history of tau."""
    record = torch.is_grad_enabled()
    return (tau.view_as(tau) if record and tau.requires_grad else tau.detach().requires_grad_()), record


def _grad(y: Tensor, at: Tensor, record: bool) -> Any:
    if not y.requires_grad:
        return (torch.zeros_like(at),)
    return torch.autograd.grad(y, at, retain_graph=True, create_graph=record, materialize_grads=True)


def _rows(y: Tensor, at: Tensor, record: bool) -> Tensor:
    """The Jacobian (B, T, d, n + m) of y (B, T, d) to `at` (B, T, n + m), a backward pass for all rows together."""
    d = y.shape[-1]
    if not y.requires_grad:
        return torch.zeros_like(at)[..., None, :].expand(*at.shape[:-1], d, -1)
    rows = torch.eye(d, dtype=y.dtype, device=y.device)[:, None, None].expand(d, *y.shape)
    (J,) = torch.autograd.grad(
        y, at, rows, retain_graph=True, create_graph=record, materialize_grads=True, is_grads_batched=True
    )
    return J.movedim(0, -2)


class SlewDynamics(Dynamics):
    """Dynamics whose state has the control before: [x, u_{t-1}] -> [f(x, u), u]."""

    def __init__(self, dynamics: Dynamics, *, n: int, m: int) -> None:
        super().__init__()
        self.dynamics, self.n, self.m = dynamics, n, m

    def step(self, x: Tensor, u: Tensor, t: int) -> Tensor:
        return torch.cat([self.dynamics.step(x[..., : self.n], u, t), u], -1)

    def linearize(self, tau: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor | None]]:
        y, F, curvature = self.dynamics.linearize(self.without(tau))
        eye = torch.eye(self.m, dtype=F.dtype, device=F.device).expand(*F.shape[:-2], -1, -1)
        still = F.new_zeros(*F.shape[:-2], self.m, self.n + self.m)
        F = torch.cat([self.widen(F), torch.cat([still, eye], -1)], -2)

        def widened(costates: Tensor) -> Tensor | None:
            inner = curvature(costates[..., : self.n])
            return inner if inner is None else self.widen(self.widen(inner).mT).mT

        return torch.cat([y, tau[..., -self.m :]], -1), F, widened

    def transposed(self, tau: Tensor, costates: Tensor) -> tuple[Tensor, Tensor]:
        y, g = self.dynamics.transposed(self.without(tau), costates[..., : self.n])
        before = g.new_zeros(*g.shape[:-1], self.m + self.n)
        g = self.widen(g) + torch.cat([before, costates[..., self.n :]], -1)
        return torch.cat([y, tau[..., -self.m :]], -1), g

    def without(self, tau: Tensor) -> Tensor:  # (..., n + m + m) -> (..., n + m)
        return torch.cat([tau[..., : self.n], tau[..., -self.m :]], -1)

    def widen(self, F: Tensor) -> Tensor:  # (..., n + m) -> (..., n + m + m), nothing depends on the control before
        return torch.cat([F[..., : self.n], F.new_zeros(*F.shape[:-1], self.m), F[..., self.n :]], -1)


class SlewCost(StageCost):
    """A cost, and weight/2 (u_t - u_{t-1})^2 beside it; weight (T, m) or (B, T, m)."""

    def __init__(self, cost: StageCost, *, dynamics: SlewDynamics, weight: Tensor) -> None:
        super().__init__()
        self.cost, self.dynamics, self.weight = cost, dynamics, weight

    def evaluate(self, tau: Tensor) -> Tensor:
        change = self.change(tau)
        return self.cost.evaluate(self.dynamics.without(tau)) + 0.5 * (self.weight * change.square()).sum(-1)

    def expand(self, tau: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        g, hessian = self.cost.expand(self.dynamics.without(tau))

        def whole() -> Tensor:
            widen = self.dynamics.widen
            W = torch.diag_embed(self.weight).expand(*tau.shape[:-1], -1, -1)
            W = torch.cat([torch.cat([W, -W], -1), torch.cat([-W, W], -1)], -2)
            n = self.dynamics.n
            return widen(widen(hessian()).mT).mT + nn.functional.pad(W, (n, 0, n, 0))

        return self.dynamics.widen(g) + self.pull(tau), whole

    def gradient(self, tau: Tensor) -> Tensor:
        return self.dynamics.widen(self.cost.gradient(self.dynamics.without(tau))) + self.pull(tau)

    def change(self, tau: Tensor) -> Tensor:
        n, m = self.dynamics.n, self.dynamics.m
        return tau[..., -m:] - tau[..., n : n + m]

    def pull(self, tau: Tensor) -> Tensor:
        force = self.weight * self.change(tau)
        return torch.cat([force.new_zeros(*tau.shape[:-1], self.dynamics.n), -force, force], -1)
