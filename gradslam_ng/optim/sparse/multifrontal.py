"""Multifrontal Cholesky factorization of sparse block matrices: all arithmetic in dense fronts, by BLAS.

Duff and Reid 1983; Liu 1992. Blocks are ordered by multiple minimum degree (Liu 1985, as SuperLU has it), columns of
alike structure gathered into supernodes, and each supernode is a small dense problem: it adds up the matrix's own
entries and what its children left, eliminates its columns, and leaves the rest to its parent. The structure is
analyzed once per pattern; needs SciPy and nothing else.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import blas, lapack

from gradslam_ng.optim.sparse.blocks import NotPositiveDefinite
from gradslam_ng.optim.sparse.symbolic import Symbolic

__all__ = ["Numeric", "Symbolic"]


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

    def __init__(self, symbolic: Symbolic, *, values: np.ndarray) -> None:
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
