"""Policy iteration over conductances: a harmonic controller improved without ever leaving what is safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.planning.checks import check_shape
from gradslam_ng.planning.controller import Controller
from gradslam_ng.planning.harmonic import Potential, ResistorGrid

Index = Callable[[Controller], Tensor]  # (..., N), what each cell as start costs
Descent = Literal["exact", "surrogate", "local"]


class Policy(NamedTuple):
    """The best conductances of all steps, and how it went."""

    conductance: Tensor  # (..., E), the least of each 1
    total: Tensor  # (steps + 1, ...), the index summed over all starts that have a way to the goal
    least_gain: Tensor  # (steps + 1, ...), `Controller.least_gain`


@mode_free
def policy_iteration(
    grid: ResistorGrid,
    goal: Tensor | tuple[int, ...],
    conductance: Tensor | None = None,  # (..., E)
    *,
    index: Index = Controller.travel,
    gradient: Descent = "exact",
    steps: int = 400,
    rate: float = 0.03,
) -> Policy:
    """Improve conductances step by step so that the controller costs less, summed over all starts.

    After Coelho, Sitaraman and Grupen (1995), who minimize travel distance. Steps are taken on the logarithms of
    conductances, by Adam at a rate that falls to zero, so all stay positive and each controller on the way is safe: no
    local minimum and no collision. Conductances are divided by their least, which changes no controller.

    Args:
        conductance: where to start; default: ones. Leading axes are starts side by side, independent of each other.
        index: what to minimize, of each cell as start.
        gradient: "exact": of the index itself, through the controller and the potential. "surrogate": the paper's, of
            -sum cos(pi, grad index), pi = -grad phi by central differences, with the index held fixed. "local": the
            paper's with its locality: a conductance changes the potential at its ends and their neighbors only. For
            comparison; needs a dense inverse, so small grids.
        rate: the change of a logarithm in the first step.

    Raises:
        ValueError: other shapes, another gradient, no step; what `ResistorGrid.potential` refuses.
    """
    if gradient not in ("exact", "surrogate", "local") or steps < 1:
        raise ValueError(f"expected gradient exact, surrogate or local, and one step at least: {gradient!r}, {steps}")
    if conductance is None:
        conductance = torch.ones(len(grid.edges), dtype=torch.float64)
    check_shape("conductance", conductance, (len(grid.edges),), "one for each of grid.edges")
    logs = conductance.detach().log().requires_grad_()
    adam = torch.optim.Adam([logs], lr=rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    best, least = logs.detach(), torch.full_like(logs.detach()[..., 0], torch.inf)
    totals, gains = [], []
    for step in range(steps + 1):
        g = logs.exp()
        controller = Controller(grid.potential(g, goal))
        field = torch.where(controller.potential.reachable.to(g.device), index(controller), 0.0)
        total = field.sum(-1)
        totals.append(total.detach())
        gains.append(controller.least_gain().detach())
        better = totals[-1] < least
        best = torch.where(better[..., None], logs.detach(), best)
        least = torch.where(better, totals[-1], least)
        if step == steps:
            break
        if gradient == "exact":
            (logs.grad,) = torch.autograd.grad(total.sum(), logs)
        else:
            logs.grad = g.detach() * _paper(g, controller, field.detach(), gradient)
        adam.step()
        falling.step()
        with torch.no_grad():
            logs -= logs.amin(-1, keepdim=True)
    best = (best - best.amin(-1, keepdim=True)).exp()
    return Policy(best, torch.stack(totals), torch.stack(gains))


def _paper(g: Tensor, controller: Controller, field: Tensor, gradient: Descent) -> Tensor:
    """The derivative (..., E) to conductances of -sum cos(pi, grad field)."""
    potential = controller.potential
    if gradient == "surrogate":
        return torch.autograd.grad(surrogate(potential, field).sum(), g)[0]
    value = potential.value.detach().requires_grad_()
    held = Potential(potential.grid, potential.goal, potential.reachable, value, potential.kind)
    (to_value,) = torch.autograd.grad(surrogate(held, field).sum(), value)
    return local_gradient(held, g.detach(), to_value)


def surrogate(
    potential: Potential,
    field: Tensor,  # (..., N)
) -> Tensor:
    """-sum over cells of the cosine between the controller's direction and the way down the field (...)."""
    moving = (potential.reachable & ~potential.goal).to(field.device)
    at = potential.grid.neighbors.to(field.device).unflatten(-1, (-1, 2))  # (N, dim, 2)
    wall, at = at < 0, at.clamp(min=0)
    sign = 1.0 if potential.kind == "time" else -1.0  # of potentials that fall towards the goal, as the field does
    out = potential.value[..., None, None].detach() if potential.kind == "time" else potential.value.new_zeros(())
    around = torch.where(wall, out, potential.value[..., at])
    slope = 0.5 * sign * (around[..., 1] - around[..., 0])
    around = torch.where(wall, field[..., None, None], field[..., at])  # one-sided beside walls
    rise = (around[..., 1] - around[..., 0]) / (~wall).sum(-1).clamp(min=1)
    lengths = _norm(slope) * _norm(rise)
    cosine = (slope * rise).sum(-1) / torch.where(lengths > 0, lengths, 1.0)
    return -torch.where(moving, cosine, 0.0).sum(-1)


def _norm(x: Tensor) -> Tensor:
    """(...) of x (..., dim), without gradient where it is zero."""
    squared = x.square().sum(-1)
    return torch.where(squared > 0, torch.where(squared > 0, squared, 1.0).sqrt(), 0.0)


def local_gradient(
    potential: Potential,
    conductance: Tensor,  # (..., E)
    to_value: Tensor,  # (..., N), of a loss
) -> Tensor:
    """What of the gradient (..., E) to conductances the paper's locality leaves: the change of the potential at either
    end of a resistor and at its neighbors, the mean over both ends. At these cells the circuit equivalent of Thevenin
    that the paper sets up gives the exact change, which is taken here from the inverse matrix.
    """
    grid, count = potential.grid, len(potential.grid.cells)
    fixed = (potential.goal | ~potential.reachable).to(conductance.device)
    eye = torch.eye(count, dtype=torch.float64, device=conductance.device)
    factor = grid.matrix(conductance.double(), fixed).factor()
    inverse = factor.solve_columns(eye.expand(*conductance.shape[:-1], -1, -1))
    inverse = torch.where(fixed[:, None] | fixed, 0.0, inverse)
    near = eye.clone()
    cell, side = (grid.neighbors >= 0).nonzero(as_tuple=True)
    near[cell, grid.neighbors[cell, side]] = 1.0
    seen = (near * to_value.double()[..., None, :]) @ inverse  # (..., N, N): of a current at j, around i
    a, b = grid.edges.T.to(conductance.device)
    wall, b = b < 0, b.clamp(min=0)
    value = potential.value.double()
    drop = value[..., a] - torch.where(wall, 0.0, value[..., b])
    total, ends = torch.zeros_like(drop), torch.zeros_like(drop)
    for end in (a, b):
        change = seen[..., end, a] - torch.where(wall, 0.0, seen[..., end, b])
        counts = ~fixed[end] & ~((end is b) & wall)
        total, ends = total - torch.where(counts, change * drop, 0.0), ends + counts
    return (total / ends.clamp(min=1)).to(conductance)
