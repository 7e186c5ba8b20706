"""Factor graphs: variables of several kinds, factors between them, and their sparse normal equations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.graph import residuals
from gradslam_ng.graph.centering import Centered, Centers, check_lever, find_centers, translation
from gradslam_ng.graph.checks import check_alike, check_elements, check_finite
from gradslam_ng.graph.factor import Factor, Weight
from gradslam_ng.graph.fixed import WithFixedValues, with_fixed
from gradslam_ng.graph.ordering import Ordering, check_index, gather
from gradslam_ng.graph.residuals import DifferentiatedResidual, Residual, ResidualFunction
from gradslam_ng.graph.solution import GraphSolution
from gradslam_ng.optim.costs import IsotropicWeight, evaluate
from gradslam_ng.optim.kernels import Kernel
from gradslam_ng.optim.variables import TensorVariable

DENSE_UP_TO = 96  # tangent dimensions

Index = Tensor | Sequence[int]  # (M,)


class FactorGraph:
    """Variables (poses, rotations, vectors) and what is known about them; a `Problem` for `optim.solve`.

    Variables of one kind lie in one tensor (..., N, *event) under one name, factors of one kind in one `Factor`, so
    that a thousand edges are a handful of tensor operations. Leading axes hold graphs of the same structure. Tangents
    are ordered [translation, rotation], updates are from the left, x <- exp(delta) x.

        graph = gs.FactorGraph()
        graph.add_variables("pose", optim.SE3(), T_wc)                       # (N, 4, 4)
        graph.add_between("pose", i, j, T_ij, weight=optim.FullWeight(W))    # (M,), (M,), (M, 4, 4), (M, 6, 6)
        solution = graph.optimize(backward="implicit-gn")
        solution["pose"]                                                     # (N, 4, 4)

    Poses far from the origin, as at the coordinates of a map projection, are solved for relative to the first.

    A connected part of the graph without an anchor in the world has its first variable fixed; without that its position
    would be arbitrary. A graph without factors is its own solution.
    """

    def __init__(self) -> None:
        self.variables: dict[str, TensorVariable] = {}
        self.values: dict[str, Tensor] = {}
        self.fixed: dict[str, Tensor] = {}
        self.factors: list[Factor] = []
        self._ordering: Ordering | None = None  # made when it is asked for, and again once the structure has changed

    def add_variables(
        self,
        name: str,
        variable: TensorVariable,
        x: Tensor,  # (..., N, *event)
    ) -> None:
        """N variables, x where they start.

        Raises:
            ValueError: the name is taken, x is no batch of finite elements of the variable, or of another precision or
                device than the other variables.
        """
        if name in self.values:
            raise ValueError(f"variables {name!r}: the name is taken")
        event = variable.event_shape(x)
        if x.ndim <= len(event) or x.shape[-len(event) :] != event:
            raise ValueError(f"variables {name!r}: expected (..., N, {', '.join(map(str, event))}), got {_shape(x)}")
        if self.values:
            check_alike(f"variables {name!r}", x, next(iter(self.values.values())))
        check_elements(f"variables {name!r}", variable, x)
        self.variables[name], self.values[name] = variable, x
        self.fixed[name] = torch.zeros(x.shape[-1 - len(event)], dtype=torch.bool, device=x.device)
        self._ordering = None

    def fix(self, name: str, index: Index) -> None:
        """Make some variables constants, where they are: the solution has a gradient to that, but by "detach"."""
        chosen = self.index_of(name, index)
        self.fixed[name] = self.fixed[name].index_fill(0, chosen, True)
        self._ordering = None

    def add_factor(
        self,
        residual: Residual | ResidualFunction,
        *keys: tuple[str, Index],
        weight: Weight | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        """M factors of one kind, each on one or more variables: (name, which of them (M,)).

        residual: a function of the variables' values (..., M, *event) to (..., M, d), which treats the M apart; see
        `residuals`.

        Raises:
            ValueError: an unknown name or index, indices of different lengths, a variable that meets itself, a weight
                or a residual that is not finite or has no batch of M.
        """
        checked = tuple((name, self.index_of(name, index)) for name, index in keys)
        lengths = {len(index) for _, index in checked}
        if len(lengths) != 1:
            raise ValueError(f"factor: expected one index of the same length for each variable, got {sorted(lengths)}")
        for k, (name, index) in enumerate(checked):
            for _, other in (key for key in checked[:k] if key[0] == name):
                if bool(torch.any(index == other)):
                    own = int(index[index.eq(other)][0])
                    raise ValueError(f"factor: {name!r} {own} meets itself; a factor's variables must differ")
        if not isinstance(residual, Residual):
            residual = DifferentiatedResidual(residual, tuple(self.variables[name] for name, _ in checked))
        factor = Factor(residual, checked, weight, kernel)
        if len(factor):
            self._check(factor)
        self.factors.append(factor)
        self._ordering = None

    def add_prior(
        self,
        name: str,
        index: Index,
        z: Tensor,  # (..., M, *event)
        weight: Weight | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        """Variables known to be z, up to noise in the frame of the world: log(x z^-1).

        A rotation in it turns about the world's origin, however far. So poses far from there are refused: subtract an
        offset from all of them, or give a function of x to `add_factor`.

        Raises:
            ValueError: a pose more than `centering.MAX_LEVER` from the origin; see also `add_factor`.
        """
        self._check_measurement(name, z)
        check_lever(name, self._variable(name), z)
        group = self._variable(name).group
        residual = residuals.VectorPrior(z) if group is None else residuals.Prior(group, z)
        self.add_factor(residual, (name, index), weight=weight, kernel=kernel)

    def add_between(
        self,
        name: str,
        i: Index,
        j: Index,
        z: Tensor,  # (..., M, *event)
        weight: Weight | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        """The motion from i to j known to be z, noise in the frame of j: log(z^-1 x_i^-1 x_j)."""
        self._check_measurement(name, z)
        group = self._variable(name).group
        residual = residuals.VectorBetween(z) if group is None else residuals.Between(group, z)
        self.add_factor(residual, (name, i), (name, j), weight=weight, kernel=kernel)

    def add_switched(
        self,
        residual: Residual | ResidualFunction,
        *keys: tuple[str, Index],
        weight: Weight | None = None,
        cost: float = 1.0,
    ) -> str:
        """As `add_factor`, each factor with a switch of its own, which starts at 1, on.

        Turning one off altogether costs cost^2 / 2, so about the factors' greatest plausible error. Returns the name of
        the switches (..., M, 1) among the variables.
        """
        name, count = f"switch {len(self.factors)}", len(keys[0][1])
        like = self.values[keys[0][0]]
        ones = like.new_ones(*like.shape[: like.ndim - 1 - self._variable(keys[0][0]).event_ndim], count, 1)
        self.add_variables(name, optim.Euclidean(), ones)
        each = torch.arange(count, device=like.device)
        self.add_factor(residuals.Switched(residual), *keys, (name, each), weight=weight)
        self.add_prior(name, each, torch.ones_like(ones), weight=IsotropicWeight(cost * torch.ones_like(ones[..., 0])))
        return name

    def with_values(
        self,
        x: tuple[Tensor, ...],  # (..., N, *event) each
    ) -> FactorGraph:
        """The same graph with its variables starting at x."""
        other = self.with_factors({})
        other.values = dict(zip(self.values, x, strict=True))
        return other

    def started_at(
        self,
        x: tuple[Tensor, ...],  # (..., N, *event) each
    ) -> FactorGraph:
        """The same graph with its variables starting at x, but for those that are fixed."""
        return self.with_values(with_fixed(x, self.initial, self._fixed_masks()))

    def with_factors(self, factors: dict[int, Factor]) -> FactorGraph:
        """The same graph, some kinds of factors, by their number, with another weight or kernel."""
        other = FactorGraph()
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
    def optimize(
        self,
        strategy: optim.StepStrategy | None = None,
        iterations: int = 50,
        tolerance: float | None = 1e-10,
        backward: str = "unroll",
        backward_iterations: int = 5,
    ) -> GraphSolution:
        """The most likely values of all variables, by Levenberg-Marquardt or another strategy; see `optim.solve`."""
        if isinstance(strategy, (str, type)):
            raise TypeError(f"strategy: expected an object such as optim.GaussNewton(), got {strategy!r}")
        strategy = optim.LevenbergMarquardt(damping=1e-9) if strategy is None else strategy
        if not self.ordering.n:
            return self.solution_at(self.initial)
        # Steps of a graph are a few large operations and a sparse factorization by SciPy or CHOLMOD, which the compiler
        # cannot see into: a loop closed within a compiled run would only wait for it.
        graph, centers = self._centered()
        problem = graph if backward == "unroll" else WithFixedValues(graph, graph.initial, graph._fixed_masks())
        with compilation(False):
            solution = optim.solve(
                problem, graph.initial, strategy, iterations, tolerance=tolerance, backward=backward,
                backward_iterations=backward_iterations,
            )  # fmt: skip
        return self._solution(solution, graph, centers)

    @mode_free
    def solution_at(
        self,
        x: tuple[Tensor, ...],  # (..., N, *event) each
    ) -> GraphSolution:
        """The variables at x as they are, with the normal equations there."""
        graph, centers = self.with_values(x)._centered()
        return self._solution(
            optim.Solution(graph.initial, *graph.linearize(graph.initial), converged=None), graph, centers
        )

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

    def _fixed_masks(self) -> tuple[Tensor, ...]:
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

    def _check_measurement(self, name: str, z: Tensor) -> None:
        check_alike(f"measurement of {name!r}", z, self.values[name] if name in self.values else z)
        check_elements(f"measurement of {name!r}", self._variable(name), z)

    def _centered(self) -> tuple[FactorGraph, Centers]:
        """The graph with poses relative to centers near the first, and these, see `centering`; else itself and none."""
        centers = find_centers(self.variables, self.values)
        if not centers:
            return self, centers
        factors = {
            k: replace(factor, residual=Centered(factor.residual, tuple(centers.get(name) for name, _ in factor.keys)))
            for k, factor in enumerate(self.factors)
            if not factor.residual.relative
        }
        near = (x - translation(centers[name]) if name in centers else x for name, x in self.values.items())
        return self.with_factors(factors).with_values(tuple(near)), centers

    def _solution(self, solution: optim.Solution, graph: FactorGraph, centers: Centers) -> GraphSolution:
        x = cast("tuple[Tensor, ...]", solution.x)  # a solution is over what the problem is over
        named = self._named(x)
        world = {
            name: value + translation(centers[name]) if name in centers else value for name, value in named.items()
        }
        return GraphSolution(self.ordering, values=world, solution=solution, problem=graph, centers=centers)

    @torch.no_grad()
    def _check(self, factor: Factor) -> None:
        r = factor.residual(*self.values_of(factor, self.initial))
        count = len(factor)
        if r.ndim < 2 or r.shape[-2] != count:
            raise ValueError(f"factor: expected a residual (..., {count}, d), one for each factor, got {_shape(r)}")
        check_finite("factor: residual at the start", r)
        if factor.weight is None:
            return
        if isinstance(factor.weight.value, Tensor):
            check_alike("factor: weight", factor.weight.value, r)
            check_finite("factor: weight", factor.weight.value)
        try:
            whitened = factor.whiten(r[..., None])
        except RuntimeError:  # of shapes that do not fit
            whitened = r.new_empty(0, 0, 0)
        if whitened.shape[-3:-2] != r.shape[-2:-1]:
            raise ValueError(
                f"factor: expected weights for {count} factors of {r.shape[-1]} numbers each, got "
                f"{_shape(evaluate(factor.weight.value))}"
            )


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))
