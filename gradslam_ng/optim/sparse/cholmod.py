"""Sparse Cholesky factorization by CHOLMOD (Chen et al. 2008), where scikit-sparse is installed: the extra `cholmod`.

The same two steps as in `multifrontal`, which needs nothing but SciPy.
"""

from __future__ import annotations

import importlib.util

import numpy as np
from scipy.sparse import csc_matrix

from gradslam_ng.optim.sparse.blocks import NotPositiveDefinite, entries


def installed() -> bool:
    """Whether scikit-sparse is there."""
    return importlib.util.find_spec("sksparse") is not None


class Symbolic:
    """The analysis of a structure; arguments as of `multifrontal.Symbolic`."""

    def __init__(self, sizes: np.ndarray, *, rows: np.ndarray, cols: np.ndarray) -> None:
        from sksparse.cholmod import analyze

        n, (row, col) = int(sizes.sum()), entries(sizes, rows, cols)
        lower = np.flatnonzero(row >= col)
        order = self.source = lower[np.lexsort((row[lower], col[lower]))]  # which value goes where
        ends = np.searchsorted(col[order], np.arange(n + 1))
        self.matrix = csc_matrix((np.ones(len(order)), row[order], ends), shape=(n, n))
        self.factor = analyze(self.matrix, mode="supernodal")  # else it might be L D L^T, which takes indefinite ones


class Numeric:
    """The factor of one matrix with a known structure.

    Raises:
        NotPositiveDefinite: it has none.
    """

    def __init__(self, symbolic: Symbolic, *, values: np.ndarray) -> None:
        from sksparse.cholmod import CholmodNotPositiveDefiniteError

        entries = values[symbolic.source]
        if not np.isfinite(entries).all():
            raise NotPositiveDefinite("an entry is not finite")
        structure = symbolic.matrix
        matrix = csc_matrix((entries, structure.indices, structure.indptr), shape=structure.shape)
        try:
            self.factor = symbolic.factor.cholesky(matrix)
        except CholmodNotPositiveDefiniteError as error:
            raise NotPositiveDefinite(str(error)) from None

    def solve(self, b: np.ndarray) -> np.ndarray:
        """The matrix's inverse times b (n, k)."""
        return self.factor(b)
