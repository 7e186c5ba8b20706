"""Absorbing chains, x = b + W x: sums over all ways that lead to an end, solved in order or by factorization."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix
from scipy.sparse.linalg import SuperLU, splu
from torch import Tensor
from torch.autograd import Function

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.transforms import as_numpy
from gradslam_ng.planning.checks import check_shape, check_tensors

MAX_SWEEPS = 60  # in order, before the whole matrix is factored: that costs about as much
TOLERANCE = 1e-14  # of a change, relative to the largest entry


class AbsorbingChain:
    """The equations x = b + W x for weights W >= 0 whose spectral radius is below 1, and their transpose.

    W is a probability of going from state to state, a discount of it, or any other weight that ways through states
    multiply; x is then the sum of b over all ways, weighted. I - W is an M-matrix, its inverse has no negative entry.

    With an order, entries of W from a state to one earlier in the order are solved for by substitution, and the others
    by repeating that: few sweeps if most weight leads back in the order, as where it is that of the cost to go. Without
    one, or where these sweeps do not converge, the whole matrix is factored. float64 on the CPU. Gradients to W and b,
    of any order, are solutions with the same factors.

    Args:
        weights: (E,), not negative.
        rows, cols: (E,) int64, from which state to which; a pair may come twice, and its weights then add up.
        count: how many states.
        order: (count,), increasing; for example the cost to go.

    Raises:
        TypeError, ValueError: weights that are no finite floating-point numbers or negative, states that do not exist,
            other shapes; when it is first solved: a spectral radius of 1 or more, so that some way never ends.
    """

    def __init__(self, weights: Tensor, *, rows: Tensor, cols: Tensor, count: int, order: Tensor | None = None) -> None:
        check_tensors(weights=weights)
        check_shape("weights", weights, (len(rows),), "one for each of rows")
        check_shape("cols", cols, (len(rows),), "one for each of rows")
        self.weights, self.count, self.rows, self.cols = weights, count, rows, cols
        self._at = as_numpy(rows), as_numpy(cols)
        self._values = as_numpy(weights).astype(np.float64)
        if (self._values < 0).any():
            raise ValueError(f"weights: expected none below 0, got {self._values.min()}")
        if len(rows) and not all(0 <= x.min() and x.max() < count for x in self._at):
            raise ValueError(f"rows, cols: expected states from 0 to {count - 1}")
        self.sweeps = 0  # of the last solution; 0 where the whole matrix was factored
        self._order: np.ndarray | None = None
        if order is not None:
            check_shape("order", order, (count,), "one for each state")
            self._order = np.argsort(as_numpy(order))

    @mode_free
    def solve(
        self,
        b: Tensor,  # (..., N)
    ) -> Tensor:
        """x = b + W x (..., N), with gradient to weights and b.

        Raises:
            TypeError, ValueError: b is not of finite floating-point numbers or has another shape; W as in the class.
        """
        return self._solve(b, False)

    @mode_free
    def solve_transposed(
        self,
        b: Tensor,  # (..., N)
    ) -> Tensor:
        """x = b + W^T x (..., N): how often each state is visited, weighted, by ways that start as b says."""
        return self._solve(b, True)

    def _solve(self, b: Tensor, transposed: bool) -> Tensor:
        check_tensors(b=b)
        check_shape("b", b, (self.count,), "one for each state")
        flat = b.reshape(-1, self.count)
        return _Solve.apply(self.weights.double(), flat.double(), self, transposed).to(b.dtype).view(b.shape)

    def run(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        """x (k, N) of b (k, N), without gradient."""
        if self._order is not None:
            found = self._sweep(b[:, self._order].T, "N" if transposed else "T")
            if found is not None:
                x = np.empty_like(b)
                x[:, self._order] = found.T
                return x
        self.sweeps = 0
        return self._whole.solve(b.T, "T" if transposed else "N").T

    def _sweep(self, b: np.ndarray, trans: str) -> np.ndarray | None:
        """x (N, k) in order; None without convergence."""
        inner, outer = self._split
        rest = outer if trans == "T" else outer.T
        x = inner.solve(b, trans)
        for self.sweeps in range(1, MAX_SWEEPS + 1):
            after = inner.solve(b + rest @ x, trans) if outer.nnz else x
            if np.abs(after - x).max(initial=0.0) <= TOLERANCE * np.abs(after).max(initial=0.0):
                return after
            x = after
        return None

    @cached_property
    def _split(self) -> tuple[SuperLU, csr_matrix]:
        """The factors of (I - L)^T, with L those weights that lead back in the order, and the others; in order."""
        place = np.empty(self.count, np.int32)
        place[self._order] = np.arange(self.count, dtype=np.int32)
        row, col = place[self._at[0]], place[self._at[1]]
        back, own = col < row, np.arange(self.count, dtype=np.int32)
        entries = np.concatenate([np.ones(self.count), -self._values[back]])
        inner = csr_matrix((entries, (np.concatenate([own, row[back]]), np.concatenate([own, col[back]]))))
        transposed = csc_matrix((inner.data, inner.indices, inner.indptr), shape=inner.shape)
        away = ~back & (self._values > 0)
        outer = csr_matrix((self._values[away], (row[away], col[away])), shape=inner.shape)
        return splu(transposed, permc_spec="NATURAL", diag_pivot_thresh=0.0, panel_size=1, relax=1), outer

    @cached_property
    def _whole(self) -> SuperLU:
        """The factors of I - W.

        Raises:
            ValueError: it is no M-matrix.
        """
        own = np.arange(self.count)
        entries = np.concatenate([np.ones(self.count), -self._values])
        at = np.concatenate([own, self._at[0]]), np.concatenate([own, self._at[1]])
        factors = None
        try:
            matrix = csc_matrix((entries, at), shape=(self.count, self.count))
            options = {"SymmetricMode": True}
            factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
            lengths = factors.solve(np.ones(self.count))
            proper = bool((lengths > 0).all()) and np.abs(matrix @ lengths - 1).max(initial=0.0) < 1e-6
        except RuntimeError:  # exactly singular
            proper = False
        if factors is None or not proper:
            raise ValueError("weights: expected a spectral radius below 1; some way through the states never ends")
        return factors


class _Solve(Function):
    """x (k, N) of x = b + W x, or with W transposed."""

    @staticmethod
    def forward(weights: Tensor, b: Tensor, chain: AbsorbingChain, transposed: bool) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(chain.run(as_numpy(b), transposed))).to(b.device)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        weights, _, ctx.chain, ctx.transposed = inputs
        ctx.save_for_backward(weights, output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        weights, x = ctx.saved_tensors
        chain = ctx.chain
        adjoint = _Solve.apply(weights, g.contiguous(), chain, not ctx.transposed)
        to_weights = None
        if ctx.needs_input_grad[0]:
            row, col = (chain.cols, chain.rows) if ctx.transposed else (chain.rows, chain.cols)
            to_weights = (adjoint[:, row] * x[:, col]).sum(0)
        return to_weights, adjoint, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, weights: Tensor, b: Tensor, chain: AbsorbingChain, transposed: bool) -> Any:
        if in_dims[0] is not None:
            raise RuntimeError("vmap: a chain has one set of weights; make one for each element instead")
        flat = b.movedim(in_dims[1], 0)
        return _Solve.apply(weights, flat.flatten(0, 1), chain, transposed).view(flat.shape), 0

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        raise RuntimeError("an absorbing chain has no forward-mode derivative")
