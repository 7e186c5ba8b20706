"""Block-sparse symmetric matrices and their Cholesky factors: normal equations of graphs, with gradient."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from gradslam_ng.compute.transforms import as_numpy, forward_mode_nested, unwrap
from gradslam_ng.optim.sparse import cholmod, multifrontal
from gradslam_ng.optim.sparse.blocks import NotPositiveDefinite, entries, ranges

log = logging.getLogger("gradslam_ng")
factorization: ModuleType = cholmod if cholmod.installed() else multifrontal
FLOOR = 2e-12  # under the eigenvalues, relative to the diagonal: what nothing observes stays where it is
INDEFINITE = (0.0, 1e-6, 1e-3, 1.0)  # more damping, where rounding or a robust kernel leaves H without a factor


class Pattern:
    """Which blocks of a symmetric matrix are stored: those on and below the diagonal where unknowns meet.

    sizes (N,) of the unknowns; rows, cols (E,), any order, may repeat. The whole diagonal is stored. Blocks are sorted
    by row, then column, each row by row.
    """

    def __init__(self, sizes: np.ndarray, *, rows: np.ndarray, cols: np.ndarray) -> None:
        count = len(sizes)
        low, high = np.minimum(rows, cols), np.maximum(rows, cols)
        self._codes = np.unique(np.concatenate([high * count + low, np.arange(count) * (count + 1)]))
        self.sizes, self.rows, self.cols = sizes, self._codes // max(count, 1), self._codes % max(count, 1)
        areas = sizes[self.rows] * sizes[self.cols]
        self.offsets = np.concatenate([[0], np.cumsum(areas)])
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.n, self.nnz = int(self.starts[-1]), int(self.offsets[-1])

    def find(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Where the values (E,) of blocks with rows >= cols begin."""
        return self.offsets[np.searchsorted(self._codes, rows * len(self.sizes) + cols)]

    @cached_property
    def symbolic(self) -> multifrontal.Symbolic | cholmod.Symbolic:
        _say_which(factorization.__name__.rpartition(".")[-1])
        return factorization.Symbolic(self.sizes, rows=self.rows, cols=self.cols)

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """Row and column (nnz,) of every value."""
        row, col = entries(self.sizes, self.rows, self.cols)
        return torch.from_numpy(row), torch.from_numpy(col)

    @cached_property
    def diagonal(self) -> Tensor:
        """Where in the values (nnz,) the diagonal (n,) lies."""
        blocks = np.flatnonzero(self.rows == self.cols)
        sizes = self.sizes[self.rows[blocks]]
        within = ranges(np.zeros(len(blocks), np.int64), sizes)
        places = np.repeat(self.offsets[blocks], sizes) + within * (np.repeat(sizes, sizes) + 1)
        return unwrap(torch.from_numpy(places))  # kept longer than a transform lasts

    @cached_property
    def mirrored(self) -> Tensor:
        """(nnz,) bool: values that stand for two entries, those of blocks off the diagonal."""
        return torch.from_numpy(np.repeat(self.rows != self.cols, np.diff(self.offsets)))

    def entries_on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and `mirrored` of every value, on a device."""
        row, col = self.places
        return row.to(device), col.to(device), self.mirrored.to(device)


@dataclass(eq=False)
class BlockSparse:
    """A symmetric matrix (..., n, n), batched over leading axes."""

    values: Tensor  # (..., nnz), in the order of the pattern
    pattern: Pattern
    _undamped: SparseFactor | None = field(default=None, init=False, repr=False)

    def isfinite(self) -> Tensor:
        """(...) bool."""
        return self.values.isfinite().all(-1)

    def diagonal(self) -> Tensor:
        """(..., n)."""
        return self.values[..., self.pattern.diagonal.to(self.values.device)]

    def dense(self) -> Tensor:
        """(..., n, n)."""
        n = self.pattern.n
        row, col = (place.to(self.values.device) for place in self.pattern.places)
        full = self.values.new_zeros(*self.values.shape[:-1], n * n)
        full = full.index_copy(-1, row * n + col, self.values)
        return full.index_copy(-1, col * n + row, self.values).unflatten(-1, (n, n))

    def factor(self, damping: Tensor | float = 0.0) -> SparseFactor:
        """Factor H + (damping + floor) D with D its diagonal, kept under 1e-8 of its largest entry from below.

        Damping (...). The factor without damping is kept, for the backward pass.
        """
        undamped = not isinstance(damping, Tensor) and damping == 0.0
        if not undamped:
            return SparseFactor(self, damping=damping)
        if self._undamped is None:
            self._undamped = SparseFactor(self, damping=0.0)
        return self._undamped

    def drop_factor(self) -> None:
        """Let go of the factor that is kept: of a large graph it is most of the memory."""
        self._undamped = None

    def observed_inverse(self) -> Callable[[Tensor], Tensor]:
        """v (..., n) -> H^-1 v, without gradient."""
        factor = self.factor()
        return lambda v: factor.numeric_solve(v[..., None])[..., 0]


class SparseFactor:
    """Cholesky factors of a batch of matrices, and their solutions with gradient.

    Raises:
        RuntimeError: within `torch.vmap` over matrices, or a second derivative by way of forward mode.
    """

    def __init__(self, H: BlockSparse, *, damping: Tensor | float) -> None:
        if forward_mode_nested():
            raise RuntimeError("torch.func.hessian, jacfwd twice: not of sparse systems; use torch.func.jacrev twice")
        pattern, values = H.pattern, H.values
        self.pattern = pattern
        at, diagonal = pattern.diagonal.to(values.device), H.diagonal()
        largest = diagonal.amax(-1, keepdim=True) if pattern.n else diagonal
        self.metric = torch.where(largest > 0, torch.maximum(diagonal, 1e-8 * largest), 1.0)  # D (..., n)
        damping = (values.new_ones(()) * damping)[..., None] + FLOOR
        for more in INDEFINITE:
            try:
                damped = values.index_add(-1, at, ((damping + more) * self.metric).to(values.dtype))
                self.parts: list[multifrontal.Numeric | cholmod.Numeric] | None = _factorize(damped, pattern)
                self.values = damped
                return
            except NotPositiveDefinite:
                continue
        self.values, self.parts = damped, None  # not even then: there are entries that are no numbers

    def solve(self, b: Tensor) -> Tensor:
        """The damped inverse of H times b (..., n)."""
        return self.solve_columns(b[..., None])[..., 0]

    def solve_columns(self, b: Tensor) -> Tensor:
        """The same for b (..., n, k)."""
        return _Solve.apply(self.values, b, self)

    def norm2(self, delta: Tensor) -> Tensor:
        """delta^T D delta (...)."""
        return (self.metric * delta.square()).sum(-1)

    def numeric_solve(self, b: Tensor) -> Tensor:
        """b (..., n, k), without gradient; NaN where there is no factor."""
        if self.parts is None:
            return torch.full_like(b, torch.nan)
        batch = as_numpy(b).astype(np.float64).reshape(-1, *b.shape[-2:])
        solved = [part.solve(one) for part, one in zip(self.parts, batch, strict=True)]
        return torch.from_numpy(np.stack(solved)).reshape(b.shape).to(b)


@cache
def _say_which(name: str) -> None:
    log.info(f"sparse matrices are factorized by {name}")


def _factorize(values: Tensor, pattern: Pattern) -> list[multifrontal.Numeric | cholmod.Numeric]:
    batch = as_numpy(values).astype(np.float64, copy=False).reshape(-1, pattern.nnz)
    return [factorization.Numeric(pattern.symbolic, values=one) for one in batch]


class _Solve(Function):
    """A^-1 b (..., n, k) for A (..., nnz) whose factor is kept. dx = A^-1 (db - dA x)."""

    @staticmethod
    def forward(values: Tensor, b: Tensor, factor: SparseFactor) -> Tensor:
        return factor.numeric_solve(b)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        values, _, ctx.factor = inputs
        ctx.save_for_backward(values, output)
        ctx.save_for_forward(values, output)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        values, x = ctx.saved_tensors
        u = _Solve.apply(values, v, ctx.factor)  # A is symmetric
        row, col, mirrored = ctx.factor.pattern.entries_on(x.device)
        products = (u[..., row, :] * x[..., col, :]).sum(-1), (x[..., row, :] * u[..., col, :]).sum(-1)
        return -(products[0] + torch.where(mirrored, products[1], 0.0)), u, None

    @staticmethod
    def jvp(ctx: Any, values_t: Tensor | None, b_t: Tensor | None, _: None) -> Tensor:
        values, x = ctx.saved_tensors
        change = torch.zeros_like(x) if b_t is None else b_t
        if values_t is not None:
            row, col, mirrored = ctx.factor.pattern.entries_on(x.device)
            change = change.index_add(-2, row, -values_t[..., None] * x[..., col, :])
            change = change.index_add(-2, col, -torch.where(mirrored, values_t, 0.0)[..., None] * x[..., row, :])
        return _Solve.apply(values, change, ctx.factor)

    @staticmethod
    def vmap(info: Any, in_dims: Any, values: Tensor, b: Tensor, factor: SparseFactor) -> Any:
        if in_dims[0] is not None:
            raise RuntimeError("vmap: this is worked out outside of torch; give the problem leading axes instead")
        columns = b.movedim(in_dims[1], -1)  # of one matrix: more of them are solved at once
        return _Solve.apply(values, columns.flatten(-2), factor).unflatten(-1, columns.shape[-2:]), columns.ndim - 1
