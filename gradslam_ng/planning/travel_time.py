"""Travel times on a cost map, from the eikonal equation, with the gradient by one solution in the order of arrival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.transforms import as_numpy, refuse_gradient
from gradslam_ng.planning.absorbing_chain import AbsorbingChain
from gradslam_ng.planning.checks import check_all
from gradslam_ng.planning.eikonal import Eikonal
from gradslam_ng.planning.moves import Cell, check_goal, check_start

STEP = 0.5  # cells, of a descent
LEAST_DESCENT = 0.1  # of what a step should gain; below it a descent goes to the next cell's center


@dataclass(eq=False)
class TravelTime:
    """The cost of the shortest curve to the goal from every cell."""

    time: Tensor  # (..., *shape), +inf where there is no way; carries the gradient

    @property
    def reachable(self) -> Tensor:
        """(..., *shape) bool, from where there is a way to the goal."""
        return self.time.isfinite()

    def __getitem__(self, index: int) -> TravelTime:
        """Of one map of a batch."""
        return TravelTime(self.time[index])

    def descend(self, start: Cell) -> Tensor:
        """Points (K, d), in cells, of the shortest curve from a cell (d,) to the goal. For one map of a batch.

        In steps of half a cell along the direction between cells; where walls do not allow that, over the center of the
        next cell on an axis. float64, without gradient.

        Raises:
            ValueError: a batch of maps, a start outside the grid, in a wall, or without a way to the goal.
        """
        cell = check_start(start, self.time)
        slide = _Descent(as_numpy(self.time).astype(np.float64))
        points = [np.asarray(cell, float)]
        while slide.time[slide.cell(points[-1])] > 0:
            points.extend(slide.step(points[-1]))
        if slide.cell(points[-1]) != tuple(points[-1]):
            points.append(np.asarray(slide.cell(points[-1]), float))
        return torch.from_numpy(np.stack(points))


class _Descent:
    """Steps down the times (*shape). The time of the cell that a point is in never increases, which ends it."""

    def __init__(self, time: np.ndarray) -> None:
        self.time, self.direction = time, _directions(time)
        self.corners = np.stack(np.meshgrid(*[[0, 1]] * time.ndim, indexing="ij"), -1).reshape(-1, time.ndim)

    def cell(self, p: np.ndarray) -> tuple[int, ...]:
        return tuple(int(k) for k in np.floor(p + 0.5))

    def between(self, p: np.ndarray) -> tuple[float, np.ndarray]:
        """Time and direction at a point, from those of the cells around that have a way."""
        low = np.clip(np.floor(p), 0, np.maximum(np.array(self.time.shape) - 2, 0))
        at = tuple(np.minimum(low + self.corners, np.array(self.time.shape) - 1).astype(int).T)
        weights = np.where(self.corners == 1, p - low, 1 - (p - low)).prod(-1)
        weights = np.where(np.isfinite(self.time[at]), weights, 0.0)
        weights /= weights.sum()
        return float(weights @ np.where(weights > 0, self.time[at], 0.0)), weights @ self.direction[at]

    def step(self, p: np.ndarray) -> list[np.ndarray]:
        """The next points, one or two."""
        here = self.cell(p)
        before, along = self.between(p)
        norm = np.linalg.norm(along)
        lower = [n for n in self._beside(here) if self.time[n] < self.time[here]]
        best = min(lower, key=lambda n: self.time[n])
        if norm > 0:
            q = np.clip(p + STEP * along / norm, 0, np.array(self.time.shape) - 1)
            there = self.cell(q)
            gain = LEAST_DESCENT * STEP * (self.time[here] - self.time[best])
            if self._open(here, there) and self.time[there] <= self.time[here] and self.between(q)[0] < before - gain:
                return [q]
        center = np.asarray(here, float)
        return [np.asarray(best, float)] if np.array_equal(p, center) else [center, np.asarray(best, float)]

    def _beside(self, at: tuple[int, ...]) -> list[tuple[int, ...]]:
        found = []
        for axis, size in enumerate(self.time.shape):
            for k in (at[axis] - 1, at[axis] + 1):
                if 0 <= k < size:
                    found.append((*at[:axis], k, *at[axis + 1 :]))
        return found

    def _open(self, a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        """Whether all cells of the box that two cells span have a way."""
        box = tuple(slice(min(i, j), max(i, j) + 1) for i, j in zip(a, b, strict=True))
        return bool(np.isfinite(self.time[box]).all())


def _directions(time: np.ndarray) -> np.ndarray:
    """Unit vectors (*shape, d) along -grad T by upwind differences; 0 at the goal and without a way."""
    padded = np.pad(time, 1, constant_values=np.inf)
    inner, found = (slice(1, -1),) * time.ndim, []
    for axis in range(time.ndim):
        low, high = (np.roll(padded, k, axis)[inner] for k in (1, -1))
        earliest = np.minimum(low, high)
        drop = np.subtract(time, earliest, out=np.zeros_like(time), where=np.isfinite(time) & (earliest < time))
        found.append(np.where(low < high, -drop, drop))
    along = np.stack(found, -1)
    norm = np.linalg.norm(along, axis=-1, keepdims=True)
    return np.divide(along, norm, out=np.zeros_like(along), where=norm > 0)


@mode_free
def travel_time(
    cost: Tensor,  # (..., X, Y) or (..., X, Y, Z)
    goal: Cell,  # (2,) or (3,), or one for each map (..., 2)
    *,
    cell: float = 1.0,
) -> TravelTime:
    """The viscosity solution of |grad T| = cost, T = 0 at the goal: what the shortest curve to the goal costs.

    Unlike paths over a grid's edges, curves have any direction: in constant cost times are exact along all of them.
    Around obstacles and in varying cost the error is of first order in the size of a cell. Solved in float64 on the
    CPU.

    The gradient is exact for the discrete equations (`gradslam_ng.planning.eikonal`), with the neighbors that times
    come from as constants: one solution of a nearly triangular system in the order of arrival. T is of degree 1 in the
    cost, so the sum of cost times gradient is T. Walls and what is unreachable have no gradient; second derivatives are
    refused.

    Args:
        cost: per unit of length, positive; +inf is a wall. Less than 1e-8 of the largest counts as that, and has no
            gradient.
        goal: a free cell. Its number of axes says which axes of the cost are those of the grid.
        cell: size of a cell.

    Raises:
        TypeError: cost is no tensor of floating-point numbers.
        ValueError: NaN cost or one that is not positive, a goal outside the grid or in a wall.
    """
    d, goals = check_goal(goal, cost)
    check_all("cost", (cost > 0).detach(), "positive numbers, infinite in walls")
    if not 0 < cell < np.inf:
        raise ValueError(f"cell: expected a size, got {cell}")
    shape = cost.shape[cost.ndim - d :]
    steps = as_numpy(cost).astype(np.float64).reshape(-1, *shape) * cell
    maps = [
        Eikonal(step, goal=[int(k) for k in np.unravel_index(at, shape)]) for step, at in zip(steps, goals, strict=True)
    ]
    return TravelTime(_Time.apply(cost, maps, cell))


class _Time(Function):
    """T (..., *shape) of a cost of that shape."""

    @staticmethod
    def forward(cost: Tensor, maps: list[Eikonal], cell: float) -> Tensor:
        return torch.from_numpy(np.stack([x.inner(x.time) for x in maps])).to(cost).view(cost.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        cost, ctx.maps, ctx.cell = inputs
        ctx.save_for_backward(cost)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        found = []
        for equations, slope in zip(ctx.maps, as_numpy(g).reshape(len(ctx.maps), -1), strict=True):
            found.append(_to_cost(equations, slope.astype(np.float64)))
        to_cost = ctx.cell * torch.from_numpy(np.stack(found)).to(g).view(g.shape)
        if torch.is_grad_enabled():
            to_cost = refuse_gradient("travel_time has no second derivatives", to_cost, g, *ctx.saved_tensors)
        return to_cost, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        raise RuntimeError("travel_time has no forward-mode derivative")


def _to_cost(equations: Eikonal, slope: np.ndarray) -> np.ndarray:
    """(*shape), of the gradient to the times, flat."""
    cells, row, col, share, own = equations.dependence()
    out = np.zeros(len(equations.time))
    if len(cells):
        weights, rows, cols, order = (torch.from_numpy(x) for x in (share, row, col, equations.time[cells]))
        chain = AbsorbingChain(weights, rows=rows, cols=cols, count=len(cells), order=order)
        padded = np.pad(slope.reshape(np.array(equations.shape) - 2), 1).ravel()
        out[cells] = own * as_numpy(chain.solve_transposed(torch.from_numpy(padded[cells])))
    return equations.inner(out)
