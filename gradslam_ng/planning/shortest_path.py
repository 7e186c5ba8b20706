"""Shortest paths on a cost map by Dijkstra's algorithm, with the gradient along the tree of shortest paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.transforms import as_numpy
from gradslam_ng.planning.moves import CONNECTIVITY, Cell, Lattice, check_goal, check_start, follow, neighborhood


@dataclass(eq=False)
class ShortestPath:
    """What the cheapest way to the goal costs from every cell, and where it goes."""

    cost_to_go: Tensor  # (..., *shape), +inf where there is no way; carries the gradient
    successor: Tensor  # (..., *shape) int64, flat index of the next cell; -1 at the goal and where there is no way

    @property
    def reachable(self) -> Tensor:
        """(..., *shape) bool, from where there is a way to the goal."""
        return self.cost_to_go.isfinite()

    def path(self, start: Cell) -> Tensor:
        """Cells (K, d) from a start (d,) to the goal, both included. For one map; index a batch first, `found[2]`.

        Raises:
            ValueError: a batch of maps, a start outside the grid, in a wall, or without a way to the goal.
        """
        return follow(as_numpy(self.successor).ravel(), check_start(start, self.cost_to_go), self.successor.shape)

    def __getitem__(self, index: int) -> ShortestPath:
        """Of one map of a batch."""
        return ShortestPath(self.cost_to_go[index], self.successor[index])


@mode_free
def shortest_path(
    cost: Tensor,  # (..., X, Y) or (..., X, Y, Z)
    goal: Cell,  # (2,) or (3,), or one for each map (..., 2)
    *,
    connectivity: int | None = None,
    cell: float = 1.0,
) -> ShortestPath:
    """The cheapest paths from all cells to a goal, over steps to neighboring cells.

    A step costs the mean of both cells' cost times its length. Diagonal steps must have a way beside them: they do not
    go between two walls, so that the same cells are reachable whatever the connectivity. Solved in float64 on the CPU.

    The gradient is that of the paths found: for a cell, half the lengths of the steps that touch it. It is exact as
    long as no other path is as short; where two are, the cost to go has a kink, and the gradient is that of one side.
    What is unreachable, and walls, have none. Forward mode and derivatives of higher order, zero, are right too.

    Args:
        cost: per unit of length, from 0 on; +inf is a wall.
        goal: a free cell. Its number of axes says which axes of the cost are those of the grid.
        connectivity: 4 or 8 in the plane, 6, 18 or 26 in space; default: 8 or 26.
        cell: size of a cell.

    Raises:
        TypeError: cost is no tensor of floating-point numbers.
        ValueError: NaN or negative cost, a goal outside the grid or in a wall, a connectivity of other grids.
    """
    d, goals = check_goal(goal, cost)
    connectivity = {2: 8, 3: 26}[d] if connectivity is None else connectivity
    moves = neighborhood(connectivity)
    if CONNECTIVITY[connectivity][0] != d:
        raise ValueError(f"connectivity: expected one of a grid with {d} axes, got {connectivity}")
    lattice = Lattice(cost, moves=moves, cell=cell)
    trees = [lattice.tree(k, int(at)) for k, at in enumerate(goals)]
    successor, action = (torch.from_numpy(np.stack(x)).to(cost.device) for x in zip(*trees, strict=True))
    length = torch.from_numpy(lattice.lengths).to(cost.device)[action]
    to_go = tree_cost(cost, torch.from_numpy(goals).to(cost.device), successor, length)
    return ShortestPath(to_go, successor.view(cost.shape))


def tree_cost(
    cost: Tensor,  # (..., *shape)
    goals: Tensor,  # (B,)
    successor: Tensor,  # (B, N), as in `ShortestPath`
    length: Tensor,  # (B, N), of the step to it
) -> Tensor:
    """The cost to go (..., *shape) along trees, with gradient to the cost."""
    flat = cost.reshape(successor.shape).double()
    inner = successor >= 0
    flat = torch.where(flat.isfinite(), flat, 0.0)
    step = 0.5 * length * (flat + flat.gather(1, successor.clamp(min=0)))
    to_go = _TreeSum.apply(torch.where(inner, step, 0.0), successor, False)
    root = torch.zeros_like(inner).scatter(1, goals[:, None], True)
    return torch.where(inner | root, to_go, torch.inf).to(cost.dtype).view(cost.shape)


class _TreeSum(Function):
    """Sums (B, N) of values along the ways to the roots of trees, or transposed: from each cell over all behind it.

    By pointer jumping: after k rounds each cell has the sum over 2^k cells, and knows the one after these.
    """

    @staticmethod
    def forward(values: Tensor, successor: Tensor, transposed: bool) -> Tensor:
        count = values.shape[1]
        after = torch.cat([torch.where(successor < 0, count, successor), torch.full_like(successor[:, :1], count)], 1)
        total = torch.cat([values, torch.zeros_like(values[:, :1])], 1)
        while bool((after < count).any()):
            part = torch.zeros_like(total).scatter_add(1, after, total) if transposed else total.gather(1, after)
            total = total + part
            total[:, count] = 0.0
            after = after.gather(1, after)
        return total[:, :count].contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        _, successor, ctx.transposed = inputs
        ctx.save_for_backward(successor)
        ctx.save_for_forward(successor)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (successor,) = ctx.saved_tensors
        return _TreeSum.apply(g, successor, not ctx.transposed), None, None

    @staticmethod
    def jvp(ctx: Any, values: Tensor, *_: Any) -> Tensor:
        (successor,) = ctx.saved_tensors
        return _TreeSum.apply(values, successor, ctx.transposed)

    @staticmethod
    def vmap(info: Any, in_dims: Any, values: Tensor, successor: Tensor, transposed: bool) -> Any:
        side_by_side = (
            (x.movedim(dim, 0) if dim is not None else x.expand(info.batch_size, *x.shape)).flatten(0, 1)
            for x, dim in zip((values, successor), in_dims[:2], strict=True)
        )
        total = _TreeSum.apply(*side_by_side, transposed)
        return total.unflatten(0, (info.batch_size, -1)), 0
