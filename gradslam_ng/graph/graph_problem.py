"""The least-squares problem of a factor graph: its variables and factors, and their sparse normal equations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.graph.factor import Factor
from gradslam_ng.graph.fixed import with_fixed
from gradslam_ng.graph.ordering import Ordering, check_index, gather
from gradslam_ng.optim.variables import TensorVariable

DENSE_UP_TO = 96  # tangent dimensions

Index = Tensor | Sequence[int]  # (M,)


class GraphProblem:
    """Variables of several kinds, and factors between them: a `Problem` over all that are not fixed, for `optim.solve`.

    What `FactorGraph` builds and solves.
    """

    def __init__(self) -> None:
        self.variables: dict[str, TensorVariable] = {}
        self.values: dict[str, Tensor] = {}
        self.fixed: dict[str, Tensor] = {}
        self.factors: list[Factor] = []
        self._ordering: Ordering | None = None  # made when it is asked for, and again once the structure has changed

    def with_values(
        self,
        x: tuple[Tensor, ...],  # (..., N, *event) each
    ) -> Self:
        """The same graph with its variables starting at x."""
        other = self.with_factors({})
        other.values = dict(zip(self.values, x, strict=True))
        return other

    def started_at(
        self,
        x: tuple[Tensor, ...],  # (..., N, *event) each
    ) -> Self:
        """The same graph with its variables starting at x, but for those that are fixed."""
        return self.with_values(with_fixed(x, self.initial, self.fixed_masks()))

    def with_factors(self, factors: dict[int, Factor]) -> Self:
        """The same graph, some kinds of factors, by their number, with another weight or kernel."""
        other = type(self)()
        other.variables, other.values, other.fixed = dict(self.variables), dict(self.values), dict(self.fixed)
        other.factors = [factors.get(k, factor) for k, factor in enumerate(self.factors)]
        other._ordering = self.ordering
        return other

    @property
    def initial(self) -> tuple[Tensor, ...]:
        """Where the variables start, kind by kind."""
        return tuple(self.values.values())

    @property
    def ordering(self) -> Ordering:
        """Which variable's tangent is where in the normal equations.

        Raises:
            ValueError: there are no variables.
        """
        if not self.values:
            raise ValueError("factor graph: it has no variables")
        if self._ordering is None:
            dimensions = {name: self.variables[name].dimension(x) for name, x in self.values.items()}
            self._ordering = Ordering(dimensions, fixed=self.fixed, factors=self.factors)
        return self._ordering

    @mode_free
    def linearize(
        self,
        x: tuple[Tensor, ...],  # (..., N, *event) each
    ) -> tuple[Tensor | optim.BlockSparse, Tensor, Tensor]:
        """H (..., n, n), g (..., n) and the error (...) at x."""
        blocks: list[Tensor] = []
        gradients: list[Tensor] = []
        errors: list[Tensor] = []
        for factor, values in self._present(x):
            J, r, w, error = factor.linearize(*values)
            weighted = J
            if factor.kernel is not None:
                weighted, r = [w[..., None, None] * A for A in J], w[..., None] * r
            errors.append(error)
            lead = r.shape[:-2]
            g = [(A.mT @ r[..., None])[..., 0] for A in J]
            if factor.residual.relative:
                N = (J[0].mT @ weighted[0]).reshape(*lead, -1)
                blocks += [N, -N, N]
                g = [-g[0], g[0]]
            else:
                blocks += [(J[k].mT @ weighted[m]).reshape(*lead, -1) for k in range(len(J)) for m in range(k, len(J))]
            gradients += [part.reshape(*lead, -1) for part in g]
        order, lead = self.ordering, self._lead(x, errors)
        values_H = gather(blocks, order.block_columns, order.pattern.nnz, lead, x[0])
        H = optim.BlockSparse(values_H, order.pattern)
        g_all = gather(gradients, order.gradient_columns, order.n, lead, x[0])
        return (H.dense() if order.n <= DENSE_UP_TO else H), g_all, sum(errors, x[0].new_zeros(lead))

    @mode_free
    def gradient(
        self,
        x: tuple[Tensor, ...],  # (..., N, *event) each
    ) -> tuple[Tensor, Tensor]:
        """g (..., n) and the error (...) at x, at a fraction of what `linearize` takes, there and to differentiate."""
        gradients: list[Tensor] = []
        errors: list[Tensor] = []
        for factor, values in self._present(x):
            g, error = factor.gradient(*values)
            errors.append(error)
            gradients += [part.flatten(-2) for part in ([-g[0], g[0]] if factor.residual.relative else g)]
        lead = self._lead(x, errors)
        g_all = gather(gradients, self.ordering.gradient_columns, self.ordering.n, lead, x[0])
        return g_all, sum(errors, x[0].new_zeros(lead))

    @mode_free
    def error(
        self,
        x: tuple[Tensor, ...],  # (..., N, *event) each
    ) -> Tensor:
        """Half the sum of robust squared residuals (...) at x."""
        errors = [factor.error(*self.values_of(factor, x)) for factor in self.factors]
        return sum(errors, x[0].new_zeros(self._lead(x)))

    @mode_free
    def retract(
        self,
        x: tuple[Tensor, ...],  # (..., N, *event) each
        delta: Tensor,  # (..., n)
    ) -> tuple[Tensor, ...]:
        """All variables moved by delta, which counts those that are not fixed only."""
        parts = self.ordering.split(delta)
        return tuple(self.variables[name].retract(value, parts[name]) for name, value in self._named(x).items())

    def values_of(self, factor: Factor, x: tuple[Tensor, ...]) -> list[Tensor]:
        """The values (..., M, *event) of the variables that factors of one kind are on, all variables at x."""
        named = self._named(x)
        return [named[name].index_select(-1 - self.variables[name].event_ndim, index) for name, index in factor.keys]

    @mode_free
    def index_of(self, name: str, index: Index) -> Tensor:
        """An index (M,) int64 of the variables of that name.

        Raises:
            ValueError: no variables have the name, or not as many.
        """
        counts = {name: len(mask) for name, mask in self.fixed.items()}
        self._variable(name)
        return check_index(counts, name, index, self.values[name].device)

    def fixed_masks(self) -> tuple[Tensor, ...]:
        """Which variables are constant, (N, 1, ...) bool, kind by kind."""
        masks = []
        for name, free in self.ordering.free.items():
            mask = torch.ones_like(self.fixed[name]).index_fill(0, free, False)
            masks.append(mask.reshape(-1, *(1,) * self.variables[name].event_ndim))
        return tuple(masks)

    def _named(self, x: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return dict(zip(self.values, x, strict=True))

    def _present(self, x: tuple[Tensor, ...]) -> Iterator[tuple[Factor, list[Tensor]]]:
        """Each kind of factors that has any, with its variables' values (..., M, *event)."""
        for factor in self.factors:
            if len(factor):
                yield factor, self.values_of(factor, x)

    def _lead(self, x: tuple[Tensor, ...], errors: Sequence[Tensor] = ()) -> torch.Size:
        """The leading axes of the errors, or without any of the variables."""
        shapes = [error.shape for error in errors] or [
            value.shape[: value.ndim - 1 - self.variables[name].event_ndim] for name, value in self._named(x).items()
        ]
        return torch.broadcast_shapes(*shapes)

    def _variable(self, name: str) -> TensorVariable:
        if name not in self.variables:
            raise ValueError(f"expected one of the variables {', '.join(self.variables) or '(none)'}, got {name!r}")
        return self.variables[name]
