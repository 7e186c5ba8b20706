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
    runs: list[tuple[int, int, int]]  # rows as (first, last, where in the parent's front), none across its columns' end
    offset: int  # of its columns of the factor: L11 (w, w), then L21 (r, w), each column by column
    room: int = 0  # where in the workspace it leaves what its parent takes, (r, r)


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
        self.children = [[] for _ in self.nodes]
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
            at = 0
            if area:
                for k, (first, last) in enumerate([*taken, (np.inf, np.inf)]):  # noqa: B007
                    if first - at >= area:
                        break
                    at = last
                taken.insert(k, (at, at + area))
                node.room, size = at, max(size, at + area)
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

    def give_back(self, *storage: np.ndarray) -> None:
        if not self._spare:
            self._spare.append(storage)


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


def entries(sizes: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every value of stored blocks, which lie one after the other, each row by row."""
    areas = sizes[rows] * sizes[cols]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    within, wide = ranges(np.zeros(len(areas), np.int64), areas), np.repeat(sizes[cols], areas)
    return np.repeat(starts[rows], areas) + within // wide, np.repeat(starts[cols], areas) + within % wide


def _runs(index: np.ndarray, first: int) -> list[tuple[int, int, int]]:
    """An increasing index cut into runs of consecutive numbers: (first, last, number at first)."""
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    edges = [0, *breaks.tolist(), len(index)]
    return [(first + a, first + b, int(index[a])) for a, b in pairwise(edges) if b > a]


def _solve_triangular(L: np.ndarray, y: np.ndarray, trans: int = 0) -> None:
    """Overwrite y, contiguous (w,) or any (w, k), by L^-1 y, or with trans = 1 by L^-T y."""
    if y.ndim == 1:
        blas.dtrsv(L, y, lower=1, trans=trans, overwrite_x=1)
    else:
        y[:] = lapack.dtrtrs(L, y, lower=1, trans=trans)[0]


class Numeric:
    """The factor of one matrix with a known structure.

    Raises:
        NotPositiveDefinite: it has none.
    """

    def __init__(self, symbolic: Symbolic, values: np.ndarray) -> None:
        self.symbolic = symbolic
        self.storage, self.workspace = symbolic.borrow()
        self.storage.fill(0.0)
        self.storage[symbolic.target] = values[symbolic.source]
        self.parts: list[tuple[np.ndarray, np.ndarray | None]] = []  # L11 (w, w) and L21 (r, w) of each supernode
        for s, node in enumerate(symbolic.nodes):
            w, r = node.width, len(node.rows)
            at = node.offset
            own = self.storage[at : at + w * w].reshape(w, w, order="F")
            below = self.storage[at + w * w : at + w * (w + r)].reshape(r, w, order="F")
            rest = self._left_by(s)
            rest.fill(0.0)
            for c in symbolic.children[s]:
                self._add(self._left_by(c), symbolic.nodes[c].runs, own, below, rest)
            own, info = lapack.dpotrf(own, lower=1, clean=0, overwrite_a=1)
            if info or not np.isfinite(own[-1, -1]):
                raise NotPositiveDefinite(f"pivot {node.start + abs(info)} of {symbolic.n}")
            if r:
                blas.dtrsm(1.0, own, below, side=1, lower=1, trans_a=1, overwrite_b=1)
                blas.dsyrk(-1.0, below, 1.0, rest, lower=1, overwrite_c=1)
            self.parts.append((own, below if r else None))

    def __del__(self) -> None:
        self.symbolic.give_back(self.storage, self.workspace)

    def _left_by(self, s: int) -> np.ndarray:
        """What an eliminated supernode leaves to its parent, lower triangle."""
        node = self.symbolic.nodes[s]
        r = len(node.rows)
        return self.workspace[node.room : node.room + r * r].reshape(r, r, order="F")

    @staticmethod
    def _add(update: np.ndarray, runs: list[tuple[int, int, int]], own, below, rest) -> None:
        """The lower triangle of `update`, run by run, into its place in the parent's three parts."""
        width = own.shape[1]
        for k, (a, b, at) in enumerate(runs):
            if at < width:
                columns = slice(at, at + b - a)
                above, under, first = own[:, columns], below[:, columns], width
            else:
                columns = slice(at - width, at - width + b - a)
                above, under, first = None, rest[:, columns], width
            for a2, b2, at2 in runs[k:]:
                part = under[at2 - first : at2 - first + b2 - a2] if at2 >= width else above[at2 : at2 + b2 - a2]
                part += update[a2:b2, a:b]

    def solve(self, b: np.ndarray) -> np.ndarray:
        """The matrix's inverse times b (n, k)."""
        x = np.empty(b.shape)
        y = b[self.symbolic.permutation]
        y = y[:, 0] if y.shape[1] == 1 else y  # products with vectors are quicker
        nodes = self.symbolic.nodes
        for node, (L11, L21) in zip(nodes, self.parts, strict=True):
            own = y[node.start : node.start + node.width]
            _solve_triangular(L11, own)
            if L21 is not None:
                y[node.rows] -= L21 @ own
        for node, (L11, L21) in zip(reversed(nodes), reversed(self.parts), strict=True):
            own = y[node.start : node.start + node.width]
            if L21 is not None:
                own -= L21.T @ y[node.rows]
            _solve_triangular(L11, own, trans=1)
        x[self.symbolic.permutation] = y.reshape(b.shape)
        return x
