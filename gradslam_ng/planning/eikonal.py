"""Upwind differences for the eikonal equation |grad T| = w: marching in fronts, and what each cell's time depends on.

At a cell q, with n the neighbor on an axis from which T_q comes and the size of a cell as unit of length,

    sum over axes of max(T_q - T_n - w_q e, 0)^2 = w_q^2,    e = r_q - r_n - |dr/dx|,    r the distance to the goal.

Without e this is the scheme of first order (Rouy and Tourin 1992), whose errors grow with the curvature of fronts, most
of all around the goal. e is its error for the circular front that leaves the goal, so that in constant cost times
are exact (the source is factored out: Fomel, Luo and Zhao 2009, in additive form).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FRONT = 2.5  # cells of a front are accepted if ahead of its last by at most so many times their own cost
LEAST_CHANGE = 1e-14  # relative
LEAST_COST = 1e-8  # of the largest; where a cell costs less, float64 does not tell times of neighbors apart


class Eikonal:
    """One map's equations, on the grid with a layer of walls around it, flat.

    Args:
        step: (*shape), cost times size of a cell; infinite in walls.
        goal: (d,).
    """

    def __init__(self, step: np.ndarray, *, goal: Sequence[int]) -> None:
        padded = np.pad(step, 1, constant_values=np.inf)
        self.shape, self.d = padded.shape, step.ndim
        self.free = np.isfinite(padded).ravel()
        given = np.where(self.free, padded.ravel(), 0.0)
        self.step = np.where(self.free, np.maximum(given, LEAST_COST * given.max()), 0.0)
        self.raised = given < self.step
        strides = np.cumprod([1, *padded.shape[:0:-1]])[::-1]
        self.sides = np.stack([-strides, strides], -1).ravel()  # (2 d,), offsets of neighbors
        self.goal = int(strides @ (np.asarray(goal) + 1))
        self.curvature = self._curvature(goal)
        self.time = np.full(padded.size, np.inf)
        self.time[self.goal] = 0.0
        self._march()

    def _curvature(self, goal: Sequence[int]) -> np.ndarray:
        """e (2 d, N) of the neighbors."""
        around = np.ogrid[tuple(slice(-at - 1, size - at - 1) for at, size in zip(goal, self.shape, strict=True))]
        squared = sum(x.astype(float) ** 2 for x in around)
        r = np.sqrt(squared)
        e = np.zeros((2 * self.d, r.size))
        for axis, x in enumerate(around):
            slope = np.divide(x, r, out=np.zeros_like(r), where=r > 0)
            for side, sign in enumerate((-1, 1)):
                e[2 * axis + side] = (r - np.sqrt(squared + 2 * sign * x + 1) + sign * slope).ravel()
        return e

    def _march(self) -> None:
        """Arrival times by a front: its earliest cells are accepted together, and what then is late is done again
        (label correcting, between the group marching method of Kim 2001 and the fast iterative method)."""
        time, step, sides = self.time, self.step, self.sides[:, None]
        bent = self.curvature * step
        enters = self.free.copy()
        enters[self.goal] = False
        number = np.empty(len(time), np.int64)
        front = self.goal + self.sides
        front = front[enters[front]]
        while len(front):
            cost = step.take(front)
            earliest = time.take(front + sides) + bent.take(front, 1)
            new = arrival(np.minimum(earliest[::2], earliest[1::2]), cost)
            better = np.flatnonzero(new < time.take(front) * (1 - LEAST_CHANGE))
            if not len(better):
                break
            front, new, cost = front.take(better), new.take(better), cost.take(better)
            now = new <= FRONT * cost + new.min()
            accepted, t = front[now], new[now]
            time[accepted] = t
            beside = accepted + sides
            beside = beside[time.take(beside) + 0.5 * step.take(beside) > t]  # e is above -1/2
            beside = np.concatenate([front[~now], beside[enters.take(beside)]])
            once = np.arange(len(beside))
            number[beside] = once
            front = beside[number.take(beside) == once]

    def arrived(self) -> np.ndarray:
        """Cells (K,) with a time, but the goal."""
        cells = np.flatnonzero(np.isfinite(self.time))
        return cells[cells != self.goal]

    def differences(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of cells (K,): max(T_q - T_n - w e, 0), the offset of the neighbor n, and e, on each axis (d, K)."""
        drops, offsets, errors = [], [], []
        for (before, after), (low, high) in zip(
            self.sides.reshape(-1, 2), self.curvature.reshape(self.d, 2, -1), strict=True
        ):
            e, e2 = low.take(at), high.take(at)
            t, t2 = (
                self.time.take(at + before) + e * self.step.take(at),
                self.time.take(at + after) + e2 * self.step.take(at),
            )
            drops.append(np.maximum(self.time.take(at) - np.minimum(t, t2), 0.0))
            offsets.append(np.where(t <= t2, before, after))
            errors.append(np.where(t <= t2, e, e2))
        return np.stack(drops), np.stack(offsets), np.stack(errors)

    def dependence(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The derivative dT_q = sum of share dT_n + own dw_q of all cells with a time but the goal.

        Returns:
            Cells (K,), as indices; row and column (E,) within these of each share, and the shares; own (K,).
        """
        cells = self.arrived()
        drop, offset, e = self.differences(cells)
        total = drop.sum(0)
        number = np.full(len(self.time), -1)
        number[cells] = np.arange(len(cells))
        to = number[cells + offset]
        axis, row = np.nonzero((drop > 0) & (to >= 0))
        own = np.where(self.raised[cells], 0.0, (self.step[cells] + (drop * e).sum(0)) / total)
        return cells, row, to[axis, row], drop[axis, row] / total[row], own

    def inner(self, values: np.ndarray) -> np.ndarray:
        """Values on the grid without the layer around it."""
        return values.reshape(self.shape)[(slice(1, -1),) * self.d]


def arrival(
    earliest: np.ndarray,  # (d, K), of the neighbors on each axis
    step: np.ndarray,  # (K,)
) -> np.ndarray:
    """T (K,) of sum max(T - earliest, 0)^2 = step^2. What is later than T does not count."""
    if len(earliest) == 2:
        x, y = earliest
        first, second = np.minimum(x, y), np.maximum(x, y)
    else:
        x, y, z = earliest
        low, high = np.minimum(x, y), np.maximum(x, y)
        first, last = np.minimum(low, z), np.maximum(high, z)
        second = np.maximum(low, np.minimum(high, z))
    apart = np.minimum(second - first, step)
    after = 0.5 * (apart + np.sqrt(2 * step * step - apart * apart))
    if len(earliest) == 3:
        apart2 = np.minimum(last - first, after)
        total = apart + apart2
        root = total * total - 3 * (apart * apart + apart2 * apart2 - step * step)
        after = (total + np.sqrt(np.maximum(root, 0.0))) / 3
    return first + after
