"""Mazes as differentiable planners are tried on: perfect ones with some walls taken away, and noisy pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.planning import shortest_path

PIXELS = 3  # a cell, on each side


def maze(size: int, rng: np.random.Generator, opened: float | None = None) -> np.ndarray:
    """Free cells (size, size), size odd, of a perfect maze by depth-first search, with a share of its inner walls taken
    away; by default a random share, the same chance for each."""
    free = np.zeros((size, size), bool)
    at = (1, 1)
    free[at], stack = True, [at]
    while stack:
        x, y = stack[-1]
        around = [(x + dx, y + dy) for dx, dy in ((-2, 0), (2, 0), (0, -2), (0, 2))]
        around = [(a, b) for a, b in around if 0 < a < size and 0 < b < size and not free[a, b]]
        if not around:
            stack.pop()
            continue
        a, b = around[rng.integers(len(around))]
        free[(a + x) // 2, (b + y) // 2] = free[a, b] = True
        stack.append((a, b))
    share = rng.random() if opened is None else opened
    inner = rng.random((size - 2, size - 2)) < share
    free[1:-1, 1:-1] |= inner
    return free


def batch(size: int, count: int, seed: int, opened: float | None = None) -> tuple[Tensor, Tensor]:
    """Free cells (count, size, size) and a goal (count, 2) in each."""
    rng = np.random.default_rng(seed)
    free = np.stack([maze(size, rng, opened) for _ in range(count)])
    goals = np.stack([rng.permutation(np.argwhere(one))[0] for one in free])
    return torch.from_numpy(free), torch.from_numpy(goals)


def picture(free: Tensor, seed: int, noise: float) -> Tensor:
    """Pixels (B, 1, 3 X, 3 Y): 1 in walls, 0 elsewhere, and noise."""
    walls = (~free).float().repeat_interleave(PIXELS, 1).repeat_interleave(PIXELS, 2)
    return (walls + noise * torch.randn(walls.shape, generator=torch.Generator().manual_seed(seed)))[:, None]


def truth(free: Tensor, goals: Tensor) -> Tensor:
    """Steps to the goal (B, X, Y), over 4 neighbors."""
    return shortest_path(torch.where(free, 1.0, torch.inf), goals, connectivity=4).cost_to_go


def optimal_actions(steps: Tensor, moves: np.ndarray) -> Tensor:
    """bool (B, A, X, Y), the actions that take one of the fewest steps."""
    padded = torch.nn.functional.pad(steps, (1, 1, 1, 1), value=torch.inf)
    x, y = steps.shape[1:]
    after = torch.stack([padded[:, 1 + a : 1 + a + x, 1 + b : 1 + b + y] for a, b in moves.tolist()], 1)
    return (after == steps[:, None] - 1) & steps[:, None].isfinite()


def arrived(successor: Tensor, free: Tensor, goals: Tensor) -> Tensor:
    """bool (B, X, Y): starts from which successors (flat indices, -1 for none) lead to the goal over free cells."""
    count, cells = successor.shape[0], successor[0].numel()
    own = torch.arange(cells)
    flat = successor.reshape(count, -1)
    after = torch.where((flat >= 0) & free.reshape(count, -1), flat, own)  # stop in walls
    goal = (goals[:, 0] * free.shape[2] + goals[:, 1])[:, None]
    after = after.scatter(1, goal, goal)
    for _ in range(int(np.ceil(np.log2(cells))) + 1):
        after = after.gather(1, after)
    return (after == goal).view(free.shape) & free
