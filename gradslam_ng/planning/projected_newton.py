"""Optimal control with limits on the controls by a projected Newton method, a Riccati recursion an iteration.

Bertsekas 1982 (projected Newton methods with simple constraints) in the space of controls: those at a limit that the
cost pushes against stay, Newton's step is taken in the others and clipped. It comes from the Riccati recursion on the
exact second derivatives of the Lagrangian, as in differential dynamic programming (Jacobson and Mayne 1970;
Tassa, Mansard and Todorov 2014), and is rolled out with its feedback, so that unstable dynamics do not throw it off.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.planning.riccati import Factors, factorize, sweep
from gradslam_ng.planning.stages import Dynamics, StageCost

HALVINGS = 6  # of a step that does not lower the cost
RAISE, LOWER = 8.0, 0.125  # factors of the damping after a step that had to be shortened, and after one that had not
FIRST_DAMPING, LEAST_DAMPING = 1e-2, 1e-3  # of the mean curvature to controls
SUFFICIENT = 1e-4  # share of the decrease promised to first order (Armijo)
FLOOR = 1e-6  # of the largest eigenvalue: what negative curvature of a step is raised to


class Limits(NamedTuple):
    """Smallest and largest controls (B, T, m), infinite where there are none."""

    low: Tensor
    high: Tensor


class ActiveSet(NamedTuple):
    """Controls (B, T, m) bool that are at a limit and stay there."""

    low: Tensor
    high: Tensor

    @property
    def any(self) -> Tensor:
        return self.low | self.high


class Quadratic(NamedTuple):
    """The problem to second order at a trajectory, and the step from there."""

    H: Tensor  # (B, T, n + m, n + m), of the Lagrangian
    F: Tensor  # (B, T - 1, n, n + m)
    costates: Tensor  # (B, T, n)
    slope: Tensor  # (B, T, m), the derivative of the whole cost to each control
    active: ActiveSet
    factors: Factors  # of the controls that are not active
    offset: Tensor  # (B, T, m), k of u = gain (x - x before) + k + u before
    convex: Tensor  # (B,) bool: H needed no change


class Trajectory(NamedTuple):
    """Where the iterations stand."""

    tau: Tensor  # (B, T, n + m)
    cost: Tensor  # (B,)
    quadratic: Quadratic | None  # at tau, of the last iteration
    converged: Tensor  # (B,) bool
    iterations: Tensor  # (B,) long


class Problem(NamedTuple):
    """Costs, dynamics and limits over a horizon."""

    dynamics: Dynamics
    cost: StageCost
    limits: Limits
    tolerance: float  # of a control, in units of the larger of 1 and the largest control

    def rollout(self, x0: Tensor, u: Tensor) -> Tensor:
        """tau (B, T, n + m) from x0 (B, n) under u (B, T, m)."""
        states, T = [x0], u.shape[1]
        for t in range(T - 1):
            states.append(self.dynamics.step(states[-1], u[:, t], t))
        return torch.cat([torch.stack(states, 1), u], -1)

    def follow(self, x0: Tensor, tau: Tensor, quadratic: Quadratic, share: Tensor) -> Tensor:
        """tau (B, T, n + m) with a share (B, 1) of the step, under its feedback and within limits."""
        n = x0.shape[-1]
        x, taus = x0, []
        (low, high), active = self.limits, quadratic.active
        moved = tau[..., n:] + share[:, None] * quadratic.offset
        at_limit = torch.where(active.low, low, high)
        values = tau, moved, quadratic.factors.gain, low, high, active.any, at_limit
        steps = zip(*(value.unbind(1) for value in values), strict=True)
        for t, (tau_t, u, gain, low_t, high_t, held, bound) in enumerate(steps):
            u = torch.baddbmm(u[..., None], gain, (x - tau_t[:, :n])[..., None])[..., 0]
            u = torch.where(held, bound, u.clamp(low_t, high_t))
            taus.append(torch.cat([x, u], -1))
            if t + 1 < tau.shape[1]:
                x = self.dynamics.step(x, u, t)
        return torch.stack(taus, 1)


def expand(problem: Problem, tau: Tensor, damping: Tensor | None = None, exact: bool = True) -> Quadratic:
    """The quadratic problem at a trajectory; exact: with the curvature of the dynamics. damping (B,): of controls.

    Where the Lagrangian is not convex in what is free, the cost alone is taken, its curvature raised where negative.
    """
    dynamics, cost, limits, _ = problem
    next_x, F, curvature = dynamics.linearize(tau[:, :-1])
    n = F.shape[-2]
    g, hessian = cost.expand(tau)
    costates, slope = adjoint(g, F)
    active = active_set(tau[..., n:], slope, limits)
    H = hessian()
    bend = curvature(costates[:, 1:]) if exact else None
    if bend is not None:
        H = H + torch.nn.functional.pad(bend, (0, 0, 0, 0, 0, 1))
    free = (~active.any).to(H.dtype)[..., None] if bool(active.any.any()) else None
    factors = factorize(_damped(H, damping, n), F, free)
    convex = factors.convex.all(-1)
    if not bool(convex.all()):
        H = torch.where(convex[:, None, None, None], H, raise_curvature(hessian().detach()))
        factors = factorize(_damped(H, damping, n), F, free)
    offset, _ = sweep(factors, g, F, next_x - tau[:, 1:, :n])
    return Quadratic(H, F, costates, slope, active, factors, offset, convex)


def _damped(H: Tensor, damping: Tensor | None, n: int) -> Tensor:
    """H (B, T, n + m, n + m) with a damping (B,) of controls."""
    if damping is None or not bool(damping.any()):
        return H
    controls = (torch.arange(H.shape[-1], device=H.device) >= n).to(H.dtype)
    return H + torch.diag(controls) * damping[:, None, None, None]


def adjoint(g: Tensor, F: Tensor) -> tuple[Tensor, Tensor]:
    """Costates (B, T, n) of cost gradients g (B, T, n + m), and the derivatives (B, T, m) to the controls."""
    n = F.shape[-2]
    costate = g[:, -1, :n, None]
    costates = [costate]
    for g_t, F_t in zip(reversed(g[:, :-1, :n, None].unbind(1)), reversed(F[..., :n].unbind(1)), strict=True):
        costate = torch.baddbmm(g_t, F_t.mT, costate)
        costates.append(costate)
    costate = torch.stack(costates[::-1], 1)
    later = (F[..., n:].mT @ costate[:, 1:])[..., 0]
    return costate[..., 0], g[..., n:] + torch.nn.functional.pad(later, (0, 0, 0, 1))


@torch.no_grad()
def active_set(u: Tensor, slope: Tensor, limits: Limits) -> ActiveSet:
    """Controls at a limit that the cost pushes against; where limits meet all are."""
    meet = limits.low == limits.high
    down = (u <= limits.low) & ((slope > 0) | (meet & (slope == 0)))
    return ActiveSet(down, (u >= limits.high) & (slope < 0))


def raise_curvature(H: Tensor) -> Tensor:
    """H (..., n, n) with eigenvalues raised to a little above zero."""
    values, vectors = torch.linalg.eigh(torch.where(H.isfinite(), H, 0.0))
    floor = FLOOR * values.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(H.dtype).tiny ** 0.5)
    return vectors @ (torch.maximum(values, floor)[..., None] * vectors.mT)


def minimize(problem: Problem, x0: Tensor, u: Tensor, iterations: int) -> Trajectory:
    """From controls u (B, T, m), recorded where gradients are."""
    tau = problem.rollout(x0, u)
    cost = problem.cost.evaluate(tau).sum(-1)
    check_finite_cost(cost)
    converged = torch.zeros_like(cost, dtype=torch.bool)
    damping, count = torch.zeros_like(cost.detach()), torch.zeros_like(cost, dtype=torch.long)
    for number in range(iterations + 1):
        quadratic = expand(problem, tau, damping)
        converged = converged | (is_optimal(problem, tau, quadratic) & (damping == 0))
        if number == iterations or bool(converged.all()):
            break
        count = count + (~converged).long()
        tau, cost, share = search(problem, x0, (tau, cost), quadratic, converged)
        damping = adapt(damping, share, quadratic)
    return Trajectory(tau, cost, quadratic, converged, count)


@torch.no_grad()
def is_optimal(problem: Problem, tau: Tensor, quadratic: Quadratic) -> Tensor:
    """Elements (B,) whose next step is nothing, at a strict minimum."""
    u = tau[..., -quadratic.offset.shape[-1] :]
    size = u.abs().amax((-2, -1)).clamp(min=1)
    change = quadratic.offset.abs().amax((-2, -1))
    return (change <= problem.tolerance * size) & quadratic.convex


@torch.no_grad()
def adapt(damping: Tensor, share: Tensor, quadratic: Quadratic) -> Tensor:
    """The damping (B,) after a share (B,) of the step was taken."""
    unit = quadratic.factors.cholesky.square().sum(-1).mean((-2, -1))  # mean diagonal of Q_uu
    raised = (RAISE * damping).clamp(min=FIRST_DAMPING * unit)
    lowered = LOWER * damping
    lowered = torch.where(lowered < LEAST_DAMPING * unit, 0.0, lowered)
    return torch.where(share < 0.5, raised, torch.where(share == 1, lowered, damping))


def search(
    problem: Problem, x0: Tensor, at: tuple[Tensor, Tensor], quadratic: Quadratic, converged: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The trajectory, its cost, and the share (B,) of the step taken: the longest of the halved ones that lowers the
    cost enough, 0 where none does."""
    tau, cost = at
    m = quadratic.offset.shape[-1]
    share = torch.ones_like(cost.detach())
    stages = problem.cost.evaluate(tau.detach()).detach()
    rounding = 8 * torch.finfo(cost.dtype).eps * stages.abs().sum(-1)
    done = torch.zeros_like(converged)
    best, best_cost = tau, cost
    for _ in range(HALVINGS):
        candidate = problem.follow(x0, tau, quadratic, share[:, None])
        new_cost = problem.cost.evaluate(candidate).sum(-1)
        with torch.no_grad():
            promised = (quadratic.slope * (candidate - tau)[..., -m:]).sum((-2, -1)).clamp(max=0)
            enough = (new_cost <= cost + SUFFICIENT * promised + rounding) | converged
            take = enough & ~done
            done = done | enough
        best, best_cost = _choose(take, (candidate, new_cost), (best, best_cost), converged)
        if bool(done.all()):
            break
        share = torch.where(done, share, 0.5 * share)
    return best, best_cost, torch.where(done, share, 0.0)


def _choose(
    take: Tensor, new: tuple[Tensor, Tensor], old: tuple[Tensor, Tensor], converged: Tensor
) -> tuple[Tensor, Tensor]:
    """`new` where it is taken; where an element has converged it stays, with the gradient of the new."""
    tau, cost = new
    if tau.requires_grad:
        tau = torch.where(converged[:, None, None], old[0].detach() + (tau - tau.detach()), tau)
        cost = torch.where(converged, old[1].detach() + (cost - cost.detach()), cost)
    else:
        take = take & ~converged
    return torch.where(take[:, None, None], tau, old[0]), torch.where(take, cost, old[1])


def check_finite_cost(cost: Tensor) -> None:  # (B,)
    """Raise ValueError unless the first trajectory has a finite cost."""
    finite = cost.detach().isfinite()
    if not bool(finite.all()):
        index = int((~finite).nonzero()[0])
        raise ValueError(
            f"cost: expected finite numbers along the first trajectory, got {float(cost[index])} for element {index}"
        )


def continued(problem: Problem, x0: Tensor, tau: Tensor, iterations: int) -> Trajectory:
    """Further iterations from a trajectory that was found without record, recorded, all of them taken."""
    cost = problem.cost.evaluate(tau.detach()).sum(-1)
    converged = torch.zeros_like(cost, dtype=torch.bool)
    tau = tau.detach()
    for _ in range(iterations):
        quadratic = expand(problem, tau)
        converged = converged | is_optimal(problem, tau, quadratic)
        tau, cost, _ = search(problem, x0, (tau, cost), quadratic, converged)
    quadratic = expand(problem, tau)
    return Trajectory(tau, cost, quadratic, is_optimal(problem, tau, quadratic), torch.zeros_like(converged).long())
