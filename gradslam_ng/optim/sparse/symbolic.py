"""Symbolic analysis for multifrontal Cholesky factorization: fronts, and where every value of the matrix goes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gradslam_ng.optim.sparse.blocks import ranges
from gradslam_ng.optim.sparse.elimination import minimum_degree, supernodes


@dataclass(eq=False)
class Supernode:
    """Columns eliminated together. Numbers count scalars in the order of elimination."""

    start: int
    width: int
    rows: np.ndarray  # (r,), below the columns
    parent: int  # -1 at a root
    runs: list[tuple[int, int, int]]  # rows as (first, last, where in the parent's front), none across its columns' end
    offset: int  # of its columns of the factor: L11 (w, w), then L21 (r, w), each column by column
    room: int = 0  # where in the workspace it leaves what its parent takes, (r, r)


class Symbolic:
    """Where everything goes, for a symmetric matrix of blocks of which those on and below the diagonal are stored.

    sizes: (N,) of the N unknowns. rows, cols: (E,) of the stored blocks, rows >= cols, none twice, with all of the
    diagonal. Their values lie one after the other, each block row by row.
    """

    def __init__(self, sizes: np.ndarray, *, rows: np.ndarray, cols: np.ndarray) -> None:
        place = minimum_degree(len(sizes), rows, cols)
        low, high = np.minimum(place[rows], place[cols]), np.maximum(place[rows], place[cols])
        by_place = np.argsort(place)
        members, below, parents = supernodes(sizes[by_place], low, high)

        order = by_place[np.concatenate(members)] if members else by_place  # blocks in the order of elimination
        self.rank = np.empty(len(sizes), dtype=np.int64)
        self.rank[order] = np.arange(len(sizes))
        rank_of_place = self.rank[by_place]
        starts = np.concatenate([[0], np.cumsum(sizes[order])])  # of the blocks, by rank
        own = np.concatenate([[0], np.cumsum(sizes)])
        self.n = int(own[-1])
        self.permutation = ranges(own[order], sizes[order])  # scalars in the order of elimination
        self.nodes: list[Supernode] = []
        owner = np.empty(len(sizes), dtype=np.int64)  # of a block, by rank
        first = self.size = 0
        for s, (columns, rest, parent) in enumerate(zip(members, below, parents, strict=True)):
            last = first + len(columns)
            owner[first:last] = s
            ranks = np.sort(rank_of_place[np.fromiter(rest, np.int64, len(rest))])
            scalars = ranges(starts[ranks], sizes[order[ranks]])
            width = int(starts[last] - starts[first])
            self.nodes.append(Supernode(int(starts[first]), width, scalars, parent, [], self.size))
            self.size += width * (width + len(scalars))  # numbers of the factor
            first = last
        self.children: list[list[int]] = [[] for _ in self.nodes]
        for s, node in enumerate(self.nodes):
            if node.parent >= 0:
                self.children[node.parent].append(s)
                above = self.nodes[node.parent]
                inside = int(np.searchsorted(node.rows, above.start + above.width))
                local = np.searchsorted(above.rows, node.rows[inside:]) + above.width
                node.runs = _runs(node.rows[:inside] - above.start, 0) + _runs(local, inside)
        self.workspace = self._share_workspace()
        self._place_entries(sizes, rows, cols, starts, owner)
        self._spare: list[tuple[np.ndarray, np.ndarray]] = []

    def _share_workspace(self) -> int:
        """Give each supernode room for what it leaves to its parent, free again after that; returns the size."""
        taken: list[tuple[int, int]] = []  # in the workspace, in order
        size = 0
        for s, node in enumerate(self.nodes):
            area = len(node.rows) ** 2
            if area:
                node.room, k = _first_fit(taken, area)
                taken.insert(k, (node.room, node.room + area))
                size = max(size, node.room + area)
            free = {(self.nodes[c].room, self.nodes[c].room + len(self.nodes[c].rows) ** 2) for c in self.children[s]}
            taken = [pair for pair in taken if pair not in free]
        return size

    def _place_entries(self, sizes, rows, cols, starts, owner) -> None:
        """Which value, `source`, goes to which place of the factor's columns, `target`."""
        transposed = self.rank[rows] < self.rank[cols]
        lower, left = np.where(transposed, cols, rows), np.where(transposed, rows, cols)
        counts = sizes[rows] * sizes[cols]
        offsets = np.concatenate([[0], np.cumsum(counts)])[:-1]
        block = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(block)) - np.repeat(offsets, counts)
        down, across = within // sizes[cols][block], within % sizes[cols][block]
        down, across = np.where(transposed[block], across, down), np.where(transposed[block], down, across)
        row = starts[self.rank[lower]][block] + down
        column = starts[self.rank[left]][block] + across
        front = owner[self.rank[left]][block]
        self.source = np.argsort(front, kind="stable")
        bounds = np.searchsorted(front[self.source], np.arange(len(self.nodes) + 1))
        row, column = row[self.source], column[self.source]
        self.target = np.empty(len(block), dtype=np.int64)
        for node, a, b in zip(self.nodes, bounds[:-1], bounds[1:], strict=True):
            i, j = row[a:b] - node.start, column[a:b] - node.start
            below = np.searchsorted(node.rows, row[a:b]) + node.width * node.width
            self.target[a:b] = node.offset + np.where(i < node.width, j * node.width + i, j * len(node.rows) + below)

    def borrow(self) -> tuple[np.ndarray, np.ndarray]:
        """Storage for a factor and a workspace, used before if possible: new memory is slow at first touch."""
        try:
            return self._spare.pop()
        except IndexError:
            return np.empty(self.size), np.empty(self.workspace)

    def give_back(self, storage: np.ndarray, workspace: np.ndarray) -> None:
        """Keep what was borrowed for the next factor, one at a time."""
        if not self._spare:
            self._spare.append((storage, workspace))


def _first_fit(taken: list[tuple[int, int]], area: int) -> tuple[int, int]:
    """Where between pieces of memory, in order, another one fits, and how many lie before it."""
    at = 0
    for k, (first, last) in enumerate(taken):
        if first - at >= area:
            return at, k
        at = last
    return at, len(taken)


def _runs(index: np.ndarray, first: int) -> list[tuple[int, int, int]]:
    """An increasing index cut into runs of consecutive numbers: (first, last, number at first)."""
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    edges = [0, *breaks.tolist(), len(index)]
    return [(first + a, first + b, int(index[a])) for a, b in pairwise(edges) if b > a]
