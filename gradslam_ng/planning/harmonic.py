"""Harmonic functions on grids: potentials of networks of resistors that lead every cell to a goal, with gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.optim.sparse import BlockSparse, Pattern
from gradslam_ng.planning.checks import check_all, check_shape, check_tensors

LEAST = 1e-150  # of probabilities in one solve; lesser ones are solved for again, relative to these
IDLE_SOLVES = 5  # conductances of float64 can be apart by so many times 1e150


@dataclass(eq=False)
class Potential:
    """A potential of every free cell, and the grid that it is on."""

    grid: ResistorGrid
    goal: Tensor  # (N,) bool
    reachable: Tensor  # (N,) bool, of which there is a way to the goal
    value: Tensor  # (..., N), of free cells in the order of `grid.cells`
    kind: Literal["probability", "log", "time"]

    def on_grid(self, wall: float = torch.nan) -> Tensor:
        """(..., *grid.shape), with a given value in walls."""
        return self.grid.spread(self.value, wall)

    def gains(self) -> Tensor:
        """(..., N, 2 dim): how much better each neighbor is, relative to the cell; negative towards walls.

        Neighbors as in `grid.neighbors`. In float64, and the same for probabilities and their logarithms.
        """
        value = self.value.double()
        own, at = value[..., None], self.grid.neighbors.to(value.device)
        other, wall = value[..., at.clamp(min=0)], at < 0
        lost = ~self.reachable.to(value.device)[:, None] | wall
        if self.kind == "time":
            return torch.where(lost, -1.0, torch.where(lost, 0.0, own) - torch.where(lost, 0.0, other))
        if self.kind == "log":
            ratio = torch.where(lost, 0.0, other) - torch.where(lost, 0.0, own)
            return torch.where(lost, -1.0, torch.expm1(ratio.clamp(max=300.0)))
        return torch.where(lost, -1.0, (other - own) / torch.where(lost, 1.0, own))


class ResistorGrid:
    """Cells joined by resistors along the axes of a grid in 2 or 3 dimensions (Connolly and Grupen 1993).

    The structure of the equations depends on the free cells alone and is analyzed once; goals and conductances may
    change from call to call.

    Args:
        free: (X, Y) or (X, Y, Z) bool. What lies outside the grid is wall.
        walls: "absorbing" ones end a random walk that meets them (Dirichlet); resistors join them to their neighbors.
            "reflecting" ones are not there: no current flows into them (Neumann).

    Raises:
        TypeError: free is not bool.
        ValueError: another number of axes, no free cell, or other walls.
    """

    def __init__(self, free: Tensor, *, walls: Literal["absorbing", "reflecting"] = "absorbing") -> None:
        if not isinstance(free, Tensor) or free.dtype != torch.bool:
            raise TypeError("free: expected a tensor of bool, which cells can be entered")
        if free.ndim not in (2, 3) or not bool(free.any()):
            raise ValueError(f"free: expected (X, Y) or (X, Y, Z) with one free cell at least, got {tuple(free.shape)}")
        if walls not in ("absorbing", "reflecting"):
            raise ValueError(f"walls: expected absorbing or reflecting, got {walls!r}")
        self.shape, self.walls = tuple(free.shape), walls
        self._free = free.cpu().numpy()
        self.cells = torch.from_numpy(np.argwhere(self._free))  # (N, dim)
        number = np.full([size + 2 for size in self.shape], -1)
        number[(slice(1, -1),) * free.ndim][self._free] = np.arange(len(self.cells))
        pairs, around = [], []
        for axis in range(free.ndim):
            low, high = np.delete(number, -1, axis).ravel(), np.delete(number, 0, axis).ravel()
            pairs.append(np.stack([np.where(low >= 0, low, high), np.where(low >= 0, high, -1)], -1))
            around += [np.roll(number, 1, axis)[number >= 0], np.roll(number, -1, axis)[number >= 0]]
        edges = np.concatenate(pairs)
        self.edges = torch.from_numpy(edges[edges[:, 0 if walls == "absorbing" else 1] >= 0])  # (E, 2), -1 for a wall
        self.neighbors = torch.from_numpy(np.stack(around, -1))  # (N, 2 dim), before and after on each axis
        inner = self.edges[self.edges[:, 1] >= 0].numpy()
        self._pattern = Pattern(np.ones(len(self.cells), np.int64), rows=inner[:, 0], cols=inner[:, 1])
        self._places = torch.from_numpy(self._pattern.find(inner.max(1), inner.min(1)))

    @cached_property
    def _regions(self) -> np.ndarray:
        return ndimage.label(self._free)[0][self._free]  # (N,), cells with a way between them share a number

    def spread(self, values: Tensor, wall: float) -> Tensor:
        """Values (..., N) of free cells on the grid (..., *shape)."""
        full = values.new_full((*values.shape[:-1], *self.shape), wall).flatten(-len(self.shape))
        at = torch.from_numpy(np.flatnonzero(self._free)).to(values.device)
        return full.index_copy(-1, at, values).unflatten(-1, self.shape)

    def find_goal(self, goal: Tensor | tuple[int, ...]) -> Tensor:
        """(N,) bool of a cell, or of a mask (*shape) bool of cells.

        Raises:
            ValueError: outside the grid, in a wall, or nowhere.
        """
        mask = np.zeros(self.shape, bool)
        if isinstance(goal, Tensor):
            check_shape("goal", goal, self.shape, "bool, as the grid")
            mask = goal.cpu().numpy().astype(bool)
        elif len(goal) == len(self.shape) and all(0 <= at < size for at, size in zip(goal, self.shape, strict=True)):
            mask[goal] = True
        else:
            raise ValueError(f"goal: expected a cell of the grid of {self.shape}, got {goal}")
        if not mask.any() or (mask & ~self._free).any():
            raise ValueError("goal: expected free cells, got " + ("cells in a wall" if mask.any() else "none"))
        return torch.from_numpy(mask[self._free])

    @mode_free
    def potential(
        self,
        conductance: Tensor,  # (..., E)
        goal: Tensor | tuple[int, ...],
        *,
        log: bool = False,
        current: Tensor | None = None,  # (..., *shape)
    ) -> Potential:
        """The potential whose steepest ascent (of probabilities) or descent (of times) leads every cell to the goal.

        With absorbing walls it is the probability that a random walk with these conductances meets the goal before a
        wall: 1 at the goal, 0 in walls. It falls by a factor with each cell of a corridor. Where it goes below what
        numbers can hold there is an error; `log` gives the logarithm instead, of any size. With reflecting walls a
        current, by default 1, enters at each cell and leaves at the goal, where the potential is 0: with conductances
        1 it is 1/(2 dim) and more of the mean time to the goal, and stays far from the limits of numbers.

        Cells without a way to the goal have probability 0, log -inf, time +inf, and no gradient; see `reachable`.
        Solved by sparse Cholesky factors in float64 on the CPU, whose substitutions add numbers of one sign, so that of
        a small probability, too, all digits but the last few are right: relative to itself it is off by 1e-11 at most
        for each cell of the way. The gradient to conductances g of resistors between i and j is
        -(l_i - l_j)(phi_i - phi_j) with one more solve for l by the same factors.

        Raises:
            TypeError: conductance is no tensor of floating-point numbers.
            ValueError: other shapes; conductances that are not positive and finite; a goal in a wall; probabilities
                too small for the precision; log of reflecting walls, or current with absorbing ones.
        """
        check_tensors(conductance=conductance)
        check_shape("conductance", conductance, (len(self.edges),), "one for each of grid.edges")
        check_all("conductance", (conductance > 0).detach(), "positive numbers")
        reflecting = self.walls == "reflecting"
        if (log and reflecting) or (current is not None and not reflecting):
            raise ValueError("expected log for absorbing walls only, and current for reflecting ones only")
        at_goal = self.find_goal(goal)
        reachable = torch.from_numpy(np.isin(self._regions, self._regions[at_goal.numpy()]))
        fixed = (at_goal | ~reachable).to(conductance.device)
        g = conductance.double()
        lead = g.shape[:-1]
        if reflecting:
            fed = torch.ones(1, dtype=g.dtype, device=g.device) if current is None else self._of_cells(current).to(g)
            lead = torch.broadcast_shapes(lead, fed.shape[:-1])
            g, fed = g.expand(*lead, -1), fed.expand(*lead, len(self.cells))
            value = self._solve(g, fixed, torch.zeros_like(fed), torch.where(fixed, 0.0, fed))
            value = torch.where(reachable.to(g.device), value, torch.inf)
            return Potential(self, at_goal, reachable, value.to(conductance), "time")
        start = at_goal.to(g).expand(*lead, -1)
        value = self._log(g, fixed, start) if log else self._solve(g, fixed, start, torch.zeros_like(start))
        least = 1e8 * torch.finfo(conductance.dtype).tiny
        if not log and bool((value.detach()[..., reachable] < least).any()):
            raise ValueError(
                f"potential: below {least:.0e} in some cells, too small for {conductance.dtype}: use log=True, or "
                "walls='reflecting'"
            )
        if log:
            value = torch.where(reachable.to(g.device), value, -torch.inf)
        return Potential(self, at_goal, reachable, value.to(conductance), "log" if log else "probability")

    def _of_cells(self, x: Tensor) -> Tensor:
        check_shape("current", x, self.shape, "as the grid")
        return x[(..., *self.cells.T.to(x.device))]

    def matrix(
        self,
        conductance: Tensor,  # (..., E) float64
        fixed: Tensor,  # (..., N) bool
    ) -> BlockSparse:
        """Kirchhoff's equations of the cells that are not fixed, and the identity for those that are."""
        (a, b), inner = self.edges.T.to(conductance.device), self.edges[:, 1].to(conductance.device) >= 0
        lead = torch.broadcast_shapes(conductance.shape[:-1], fixed.shape[:-1])
        g, fixed = conductance.expand(*lead, -1), fixed.expand(*lead, -1)
        diagonal = g.new_zeros(*lead, len(self.cells)).index_add(-1, a, g).index_add(-1, b[inner], g[..., inner])
        joined = ~(fixed[..., a] | fixed[..., b])[..., inner]
        values = g.new_zeros(*lead, self._pattern.nnz)
        values = values.index_copy(-1, self._pattern.diagonal.to(a.device), torch.where(fixed, 1.0, diagonal))
        values = values.index_copy(-1, self._places.to(a.device), torch.where(joined, -g[..., inner], 0.0))
        return BlockSparse(values, self._pattern)

    def _solve(
        self,
        g: Tensor,  # (..., E)
        fixed: Tensor,  # (..., N) bool
        boundary: Tensor,  # (..., N), 0 where not fixed
        current: Tensor,  # (..., N), 0 where fixed
    ) -> Tensor:
        inner = self.edges[:, 1].to(g.device) >= 0
        a, b = self.edges.T.to(g.device)[:, inner]
        through = g[..., inner]
        fed = torch.where(fixed, boundary, 0.0) + current
        fed = fed.index_add(-1, a, torch.where(fixed[..., a], 0.0, through * boundary[..., b]))
        fed = fed.index_add(-1, b, torch.where(fixed[..., b], 0.0, through * boundary[..., a]))
        return self.matrix(g, fixed).factor().solve(fed)

    def _log(
        self,
        g: Tensor,  # (..., E)
        fixed: Tensor,  # (N,) bool
        boundary: Tensor,  # (..., N)
    ) -> Tensor:
        """Logarithms of probabilities: what comes out too small is solved for again, 1e150 times as large, with the
        cells known so far as boundary; which is exact, since these hold the effect of the others already."""
        fixed = fixed.expand_as(boundary)
        logs, shift, idle = torch.zeros_like(boundary), 0.0, 0
        while True:
            value = self._solve(g, fixed, boundary, torch.zeros_like(boundary))
            new = ~fixed & (value.detach() >= LEAST)
            logs = torch.where(new, torch.where(new, value, 1.0).log() + shift, logs)
            idle = 0 if bool(new.any()) else idle + 1
            fixed = fixed | new
            if bool(fixed.all()):
                return logs
            if idle > IDLE_SOLVES:
                raise ValueError("conductance: expected numbers whose ratios float64 can hold")
            boundary = torch.where(fixed, value, 0.0).clamp(max=1.0) / LEAST
            shift += float(np.log(LEAST))
