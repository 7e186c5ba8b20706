"""Moves between cells of a grid: sets of actions, where walls allow them, and what they cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from gradslam_ng.compute.transforms import as_numpy
from gradslam_ng.planning.checks import check_all

Cell = Sequence[int] | Tensor
CONNECTIVITY = {4: (2, 1), 8: (2, 2), 6: (3, 1), 18: (3, 2), 26: (3, 3)}  # axes of the grid, axes that change at most


def neighborhood(connectivity: int) -> np.ndarray:
    """Moves (A, d) to the 4 or 8 neighbors of a cell in the plane, or its 6, 18 or 26 in space.

    Raises:
        ValueError: another number.
    """
    if connectivity not in CONNECTIVITY:
        raise ValueError(f"connectivity: expected one of {', '.join(map(str, CONNECTIVITY))}, got {connectivity!r}")
    d, most = CONNECTIVITY[connectivity]
    moves = [move for move in itertools.product((-1, 0, 1), repeat=d) if 0 < np.count_nonzero(move) <= most]
    return np.array(sorted(moves, key=np.count_nonzero))  # axis-aligned first: these win ties


def check_moves(actions: Tensor | Sequence[Sequence[int]]) -> np.ndarray:
    """Moves (A, d) int64, each once.

    Raises:
        ValueError: no whole numbers, another number of axes than 2 or 3, no move, one twice, or one that stays.
    """
    moves = as_numpy(actions) if isinstance(actions, Tensor) else np.asarray(actions)
    if moves.dtype.kind not in "iu" or moves.ndim != 2 or moves.shape[1] not in (2, 3):
        raise ValueError(f"actions: expected moves (A, 2) or (A, 3) of whole cells, got {moves.shape}")
    if not len(moves) or len(np.unique(moves, axis=0)) < len(moves) or not moves.any(-1).all():
        raise ValueError("actions: expected different moves, each to another cell")
    return moves.astype(np.int64)


def check_cost(
    cost: Tensor,  # (..., *shape)
    d: int,
) -> None:
    """A cost map: numbers that are not negative, infinite in walls.

    Raises:
        TypeError: no tensor of floating-point numbers.
        ValueError: too few axes, no cell, NaN or negative numbers.
    """
    if not isinstance(cost, Tensor) or not cost.is_floating_point():
        raise TypeError(f"cost: expected a tensor of floating-point numbers, got {type(cost).__name__}")
    if cost.ndim < d or not cost.numel():
        raise ValueError(
            f"cost: expected (..., {', '.join('XYZ'[:d])}) with one cell at least, got {tuple(cost.shape)}"
        )
    check_all("cost", (cost >= 0).detach(), "numbers from 0 to infinity, which is a wall")


def check_goal(
    goal: Cell,
    cost: Tensor,  # (..., *shape)
) -> tuple[int, np.ndarray]:
    """Number of axes of the grid, and the goals' flat indices (B,) for cost with its leading axes as one.

    Raises:
        TypeError, ValueError: as `check_cost`; and no whole numbers, other leading axes, outside the grid, in a wall.
    """
    cell = torch.as_tensor(goal)
    if cell.ndim < 1 or cell.shape[-1] not in (2, 3) or cell.is_floating_point() or cell.dtype == torch.bool:
        raise ValueError(f"goal: expected whole numbers (..., 2) or (..., 3), a cell of the grid, got {goal}")
    d = cell.shape[-1]
    check_cost(cost, d)
    lead, shape = cost.shape[: cost.ndim - d], cost.shape[cost.ndim - d :]
    if cell.ndim > 1 and cell.shape[:-1] != lead:
        raise ValueError(f"goal: expected (d,) or {(*lead, d)}, one for each map, got {tuple(cell.shape)}")
    cells = as_numpy(cell.expand(*lead, d)).reshape(-1, d)
    if not ((cells >= 0) & (cells < shape)).all():
        raise ValueError(f"goal: expected a cell of the grid of {tuple(shape)}, got {goal}")
    flat = np.ravel_multi_index(tuple(cells.T), shape)
    at = torch.from_numpy(flat).to(cost.device)[:, None]
    open_goals = cost.detach().reshape(len(flat), -1).gather(1, at)[:, 0].isfinite()
    check_all("goal", open_goals.view(lead), "a free cell, not one in a wall")
    return d, flat


def check_start(
    start: Cell,
    cost_to_go: Tensor,  # (*shape)
) -> tuple[int, ...]:
    """A cell of one grid from which there is a way.

    Raises:
        ValueError: a batch of grids, no whole numbers, outside the grid, in a wall, or without a way to the goal.
    """
    at, shape = torch.as_tensor(start), cost_to_go.shape
    if at.shape != (len(shape),) or at.is_floating_point():
        raise ValueError(f"start: expected whole numbers, a cell of one grid, got {start} for {tuple(shape)}")
    cell = tuple(int(k) for k in at)
    if not all(0 <= k < size for k, size in zip(cell, shape, strict=True)):
        raise ValueError(f"start: expected a cell of the grid of {tuple(shape)}, got {cell}")
    if not bool(cost_to_go[cell].isfinite()):
        raise ValueError(f"start: expected a cell with a way to the goal, there is none from {cell}")
    return cell


def follow(
    successor: np.ndarray,  # (N,), -1 at the end
    cell: Sequence[int],
    shape: Sequence[int],
) -> Tensor:
    """Cells (K, d) from one cell to the end.

    Raises:
        ValueError: it goes in a circle.
    """
    flat = [int(np.ravel_multi_index(tuple(cell), tuple(shape)))]
    while successor[flat[-1]] >= 0:
        if len(flat) > len(successor):
            raise ValueError(f"start: expected actions that lead to the goal, those from {tuple(cell)} go in a circle")
        flat.append(int(successor[flat[-1]]))
    return torch.from_numpy(np.stack(np.unravel_index(flat, tuple(shape)), -1))


def shifted(x: np.ndarray, move: Sequence[int]) -> np.ndarray:
    """bool (B, *shape) of what lies one move further; False beyond the grid."""
    out = np.zeros_like(x)
    to = tuple(slice(max(-k, 0), max(size - max(k, 0), 0)) for k, size in zip(move, x.shape[1:], strict=True))
    of = tuple(slice(max(k, 0), max(size + min(k, 0), 0)) for k, size in zip(move, x.shape[1:], strict=True))
    out[slice(None), *to] = x[slice(None), *of]
    return out


def allowed(
    free: np.ndarray,  # (B, *shape) bool
    moves: np.ndarray,  # (A, d)
) -> np.ndarray:
    """Where walls allow moves (A, B, *shape) bool: where single steps along the axes, in some order, lead through
    free cells from one end to the other. So no move goes through a wall, nor diagonally between two walls.
    """
    known: dict[tuple[int, ...], np.ndarray] = {(0,) * moves.shape[1]: free}

    def way(move: tuple[int, ...]) -> np.ndarray:
        if move not in known:
            found = np.zeros_like(free)
            for axis in np.flatnonzero(move):
                step = [0] * len(move)
                step[axis] = int(np.sign(move[axis]))
                rest = tuple(int(k) for k in np.subtract(move, step))
                found |= shifted(way(rest), step)
            known[move] = found & free
        return known[move]

    return np.stack([way(tuple(int(k) for k in move)) for move in moves])


class Lattice:
    """Cells and the steps between them.

    Args:
        cost: (..., *shape), per unit of length; infinite in walls.
        moves: (A, d).
        cell: size of a cell.

    Raises:
        ValueError: a cell that has no size, or a map of other axes.
    """

    def __init__(self, cost: Tensor, *, moves: np.ndarray, cell: float) -> None:
        if not 0 < cell < np.inf:
            raise ValueError(f"cell: expected a size, got {cell}")
        d = moves.shape[1]
        self.shape, self.moves = cost.shape[cost.ndim - d :], moves
        self.lengths = cell * np.linalg.norm(self.moves, axis=-1)  # (A,)
        self.cost = as_numpy(cost).astype(np.float64).reshape(-1, int(np.prod(self.shape)))  # (B, N)
        free = np.isfinite(self.cost).reshape(-1, *self.shape)
        self.ways = allowed(free, self.moves).reshape(len(moves), *self.cost.shape)  # (A, B, N)
        strides = np.cumprod([1, *self.shape[:0:-1]])[::-1]
        self.offsets = self.moves @ strides  # (A,), of flat indices

    def tree(self, k: int, goal: int) -> tuple[np.ndarray, np.ndarray]:
        """Successors (N,), -1 for none, and moves to them (N,), of the shortest paths to a goal in the k-th map."""
        ways, cost = self.ways[:, k].T, self.cost[k]  # (N, A)
        cells, actions = np.nonzero(ways)
        ends = cells + self.offsets[actions]
        steps = 0.5 * (cost[cells] + cost[ends]) * self.lengths[actions]
        first = np.concatenate([[0], np.cumsum(ways.sum(1))])
        graph = csr_matrix((steps, ends, first), shape=(len(cost), len(cost))).T
        _, successor = dijkstra(graph.tocsr(), indices=goal, return_predecessors=True)
        successor = np.where(successor < 0, -1, successor).astype(np.int64)
        action = np.zeros(len(cost), np.int64)
        taken = successor[cells] == ends
        action[cells[taken]] = actions[taken]
        return successor, action
