"""Sparse Cholesky factorisation of block matrices, multifrontal: all arithmetic in dense fronts, by BLAS.

Duff and Reid 1983; Liu 1992. Blocks are ordered by multiple minimum degree (Liu 1985, as SuperLU has it), columns of
alike structure gathered into supernodes, and each supernode is a small dense problem: it adds up the matrix's own
entries and what its children left, eliminates its columns, and leaves the rest to its parent. The structure is
analysed once per pattern; needs SciPy and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.linalg import blas, lapack
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

MAY_PAD = ((48, 1.0), (96, 0.4), (192, 0.2), (np.inf, 0.08))  # supernodes up to so many columns: share of zeros allowed


class NotPositiveDefinite(ArithmeticError):
    """A pivot was not positive, or not a number."""


@dataclass(eq=False)
class Supernode:
    """Columns eliminated together. Numbers count scalars in the order of elimination."""

    start: int
    width: int
    rows: np.ndarray  # (r,), below the columns
    parent: int  # -1 at a root
    runs: list[tuple[int, int, int]]  # rows as (first, last, where in the parent's front)


class Symbolic:
    """Where everything goes, for a symmetric matrix of blocks of which those on and below the diagonal are stored.

    sizes: (N,) of the N unknowns. rows, cols: (E,) of the stored blocks, rows >= cols, none twice, with all of the
    diagonal. Their values lie one after the other, each block row by row.
    """

    def __init__(self, sizes: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> None:
        place = _minimum_degree(len(sizes), rows, cols)
        low, high = np.minimum(place[rows], place[cols]), np.maximum(place[rows], place[cols])
        by_place = np.argsort(place)
        members, below, parents = _supernodes(sizes[by_place], low, high)

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
        first = 0
        for s, (columns, rest, parent) in enumerate(zip(members, below, parents, strict=True)):
            last = first + len(columns)
            owner[first:last] = s
            ranks = np.sort(rank_of_place[np.fromiter(rest, np.int64, len(rest))])
            scalars = ranges(starts[ranks], sizes[order[ranks]])
            self.nodes.append(Supernode(int(starts[first]), int(starts[last] - starts[first]), scalars, parent, []))
            first = last
        for node in self.nodes:
            if node.parent >= 0:
                node.runs = _runs(self._local(self.nodes[node.parent], node.rows))
        self.children = [[] for _ in self.nodes]
        for s, node in enumerate(self.nodes):
            if node.parent >= 0:
                self.children[node.parent].append(s)
        self._place_entries(sizes, rows, cols, starts, owner)

    @staticmethod
    def _local(node: Supernode, scalars: np.ndarray) -> np.ndarray:
        """Where scalars lie in a supernode's front."""
        inside = scalars < node.start + node.width
        return np.where(inside, scalars - node.start, node.width + np.searchsorted(node.rows, scalars))

    def _place_entries(self, sizes, rows, cols, starts, owner) -> None:
        """Which value goes to which place of which front: `source` and `target`, front by front from `bounds`."""
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
        self.bounds = np.searchsorted(front[self.source], np.arange(len(self.nodes) + 1))
        self.target = np.empty(len(block), dtype=np.int64)
        for node, a, b in zip(self.nodes, self.bounds[:-1], self.bounds[1:], strict=True):
            entries = self.source[a:b]
            height = node.width + len(node.rows)
            self.target[a:b] = (column[entries] - node.start) * height + self._local(node, row[entries])


def _minimum_degree(count: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """The place (N,) of each block in an order of elimination that keeps the factor sparse."""
    if count < 3:
        return np.arange(count)
    rows, cols = rows[rows != cols], cols[rows != cols]
    degree = np.bincount(rows, minlength=count) + np.bincount(cols, minlength=count)
    diagonal = np.arange(count)
    values = np.concatenate([np.full(2 * len(rows), -1.0), degree + 1.0])  # dominant: nothing is exchanged for size
    places = (np.concatenate([rows, cols, diagonal]), np.concatenate([cols, rows, diagonal]))
    graph = coo_matrix((values, places), shape=(count, count)).tocsc()
    symmetric = {"SymmetricMode": True}
    return splu(graph, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=symmetric).perm_c


def _supernodes(sizes: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[list, list, list]:
    """Columns, rows below and parent of each supernode, children before parents; blocks are named by their place.

    A column joins its child's supernode if that costs few explicit zeros (Ashcraft and Grimes 1989).
    """
    count = len(sizes)
    structure: list[set[int]] = [set() for _ in range(count)]
    for a, b in zip(low.tolist(), high.tolist(), strict=True):
        if a != b:
            structure[a].add(b)
    one_size = len(set(sizes.tolist())) <= 1
    size = sizes.tolist()
    columns = [[j] for j in range(count)]
    width, height, zeros = list(size), [0] * count, [0] * count  # of a supernode: scalars across, below, padded
    merged = [False] * count  # into the supernode of the parent
    children: list[list[int]] = [[] for _ in range(count)]
    parents = [-1] * count
    for j in range(count):
        rows = structure[j]
        for c in children[j]:
            rows |= structure[c]
        rows.discard(j)
        height[j] = tall = len(rows) * size[0] if one_size else sum(size[i] for i in rows)
        for c in sorted(children[j], key=width.__getitem__, reverse=True):
            wide = width[c] + width[j]
            padding = zeros[c] + zeros[j] + width[c] * (width[j] + tall - height[c])
            if padding <= next(share for limit, share in MAY_PAD if wide <= limit) * wide * (wide + tall):
                columns[j] = columns[c] + columns[j]
                width[j], zeros[j], merged[c] = wide, padding, True
        if rows:
            parents[j] = min(rows)
            children[parents[j]].append(j)
    kept = [j for j in range(count) if not merged[j]]
    number = {j: s for s, j in enumerate(kept)}

    def above(j: int) -> int:
        j = parents[j]
        while j >= 0 and merged[j]:
            j = parents[j]
        return number.get(j, -1)

    return [columns[j] for j in kept], [structure[j] for j in kept], [above(j) for j in kept]


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ... for each, joined."""
    shift = starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(starts) else starts
    return np.repeat(shift, lengths) + np.arange(lengths.sum())


def _runs(index: np.ndarray) -> list[tuple[int, int, int]]:
    """An increasing index cut into runs of consecutive numbers: (first, last, number at first)."""
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    edges = [0, *breaks.tolist(), len(index)]
    return [(a, b, int(index[a])) for a, b in pairwise(edges) if b > a]


class Numeric:
    """The factor of one matrix with a known structure.

    Raises:
        NotPositiveDefinite: it has none.
    """

    def __init__(self, symbolic: Symbolic, values: np.ndarray) -> None:
        self.symbolic = symbolic
        self.parts: list[tuple[np.ndarray, np.ndarray | None]] = []  # L11 (w, w) and L21 (r, w) of each supernode
        values = values[symbolic.source]
        left: dict[int, np.ndarray] = {}  # what eliminated supernodes leave to their parents, lower triangles
        bounds = symbolic.bounds.tolist()
        for s, node in enumerate(symbolic.nodes):
            w, height = node.width, node.width + len(node.rows)
            flat = np.zeros(height * height)
            flat[symbolic.target[bounds[s] : bounds[s + 1]]] = values[bounds[s] : bounds[s + 1]]
            front = flat.reshape(height, height, order="F")
            for c in symbolic.children[s]:
                update = left.pop(c)
                runs = symbolic.nodes[c].runs
                for k, (a, b, at) in enumerate(runs):
                    columns = front[:, at : at + b - a]
                    for a2, b2, at2 in runs[k:]:
                        columns[at2 : at2 + b2 - a2] += update[a2:b2, a:b]
            L11, info = lapack.dpotrf(front[:w, :w], lower=1)
            if info or not np.isfinite(L11[-1, -1]):
                raise NotPositiveDefinite(f"pivot {node.start + abs(info)} of {symbolic.n}")
            L21 = None
            if height > w:
                L21 = blas.dtrsm(1.0, L11, front[w:, :w], side=1, lower=1, trans_a=1)
                left[s] = blas.dsyrk(-1.0, L21, 1.0, front[w:, w:], lower=1)
            self.parts.append((L11, L21))

    def solve(self, b: np.ndarray) -> np.ndarray:
        """The matrix's inverse times b (n, k)."""
        x = np.empty(b.shape)
        y = b[self.symbolic.permutation]
        nodes = self.symbolic.nodes
        for node, (L11, L21) in zip(nodes, self.parts, strict=True):
            own = slice(node.start, node.start + node.width)
            y[own] = lapack.dtrtrs(L11, y[own], lower=1)[0]
            if L21 is not None:
                y[node.rows] -= L21 @ y[own]
        for node, (L11, L21) in zip(reversed(nodes), reversed(self.parts), strict=True):
            own = slice(node.start, node.start + node.width)
            rest = y[own] if L21 is None else y[own] - L21.T @ y[node.rows]
            y[own] = lapack.dtrtrs(L11, rest, lower=1, trans=1)[0]
        x[self.symbolic.permutation] = y
        return x
