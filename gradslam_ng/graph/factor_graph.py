"""Factor graphs: unknowns of several kinds, factors between them, and their sparse normal equations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.graph import residuals
from gradslam_ng.graph.factor import Factor, Weight
from gradslam_ng.graph.ordering import Layout
from gradslam_ng.graph.residuals import Residual
from gradslam_ng.optim.costs import IsotropicWeight
from gradslam_ng.optim.kernels import Kernel
from gradslam_ng.optim.variables import Variable

DENSE_UP_TO = 96  # tangent dimensions


class FactorGraph:
    """Unknowns (poses, rotations, vectors) and what is known about them; a `Problem` for `optim.solve`.

    Unknowns of one kind lie in one tensor (..., N, *event) under one name, factors of one kind in one `Factor`, so that
    a thousand edges are a handful of tensor operations. Leading axes hold graphs of the same structure. Tangents are
    ordered [translation, rotation], updates are from the left, x <- exp(delta) x.

        graph = gs.FactorGraph()
        graph.add_variables("pose", optim.SE3(), T_wc)                       # (N, 4, 4)
        graph.add_between("pose", i, j, T_ij, weight=optim.Full(W))          # (M,), (M,), (M, 4, 4), (M, 6, 6)
        solution = graph.optimize(backward="implicit-gn")
        solution["pose"]                                                     # (N, 4, 4)

    A connected part of the graph that nothing ties to the world is held at its first unknown; without that its
    position would be arbitrary. A graph without factors is its own solution.
    """

    def __init__(self) -> None:
        self.variables: dict[str, Variable] = {}
        self.values: dict[str, Tensor] = {}
        self.held: dict[str, Tensor] = {}
        self.factors: list[Factor] = []

    def add_variables(self, name: str, variable: Variable, x: Tensor) -> None:
        """N unknowns, x (..., N, *event) where they start.

        Raises:
            ValueError: the name is taken, x is no batch of elements of the variable, or has NaN or infinite entries.
        """
        if name in self.values:
            raise ValueError(f"variables {name!r}: the name is taken")
        event = {optim.SE3: (4, 4), optim.SE2: (3, 3), optim.SO3: (3, 3)}.get(type(variable), x.shape[-1:])
        if x.ndim <= len(event) or x.shape[-len(event) :] != event:
            raise ValueError(f"variables {name!r}: expected (..., N, {', '.join(map(str, event))}), got {_shape(x)}")
        _check_finite(f"variables {name!r}", x)
        self.variables[name], self.values[name] = variable, x
        self.held[name] = torch.zeros(x.shape[-1 - len(event)], dtype=torch.bool, device=x.device)
        self._forget()

    def hold(self, name: str, index: Tensor | list[int]) -> None:
        """Keep some unknowns where they are: they are no unknowns any more."""
        index = self._index(name, index)
        self.held[name] = self.held[name].index_fill(0, index, True)
        self._forget()

    def add_factor(
        self,
        residual: Residual,
        *on: tuple[str, Tensor | list[int]],
        weight: Weight | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        """M factors of one kind, each on one or more unknowns: (name, which of them (M,)).

        residual: a function of the unknowns' values (..., M, *event) to (..., M, d), which treats the M apart; see
        `residuals`.

        Raises:
            ValueError: an unknown name or index, indices of different lengths, an unknown that meets itself, a weight
                or a residual that is not finite or has no batch of M.
        """
        on = tuple((name, self._index(name, index)) for name, index in on)
        lengths = {len(index) for _, index in on}
        if len(lengths) != 1:
            raise ValueError(f"factor: expected one index of the same length for each unknown, got {sorted(lengths)}")
        for k, (name, index) in enumerate(on):
            for other, there in on[:k]:
                if name == other and bool((index == there).any()):
                    at = int(index[index == there][0])
                    raise ValueError(f"factor: {name!r} {at} meets itself; a factor's unknowns must differ")
        factor = Factor(residual, on, weight, kernel)
        with torch.no_grad():
            if lengths != {0}:
                self._check(factor, lengths.pop())
        self.factors.append(factor)
        self._forget()

    def add_prior(self, name: str, index: Tensor | list[int], z: Tensor, **how) -> None:
        """Unknowns known to be z (..., M, *event), up to noise in the frame of the world: log(x z^-1)."""
        group = getattr(self._variable(name), "group", None)
        self.add_factor(residuals.VectorPrior(z) if group is None else residuals.Prior(group, z), (name, index), **how)

    def add_between(self, name: str, i: Tensor | list[int], j: Tensor | list[int], z: Tensor, **how) -> None:
        """The motion from i to j known to be z (..., M, *event), noise in the frame of j: log(z^-1 x_i^-1 x_j)."""
        group = getattr(self._variable(name), "group", None)
        residual = residuals.VectorBetween(z) if group is None else residuals.Between(group, z)
        self.add_factor(residual, (name, i), (name, j), **how)

    def add_switched(
        self, residual: Residual, *on: tuple[str, Tensor | list[int]], weight: Weight | None = None, cost: float = 1.0
    ) -> str:
        """As `add_factor`, each factor with a switch of its own, which starts at 1, on.

        Turning one off altogether costs cost^2 / 2, so about the factors' greatest plausible error. Returns the name of
        the switches (..., M, 1) among the unknowns.
        """
        name, count = f"switch {len(self.factors)}", len(on[0][1])
        like = self.values[on[0][0]]
        ones = like.new_ones(*like.shape[: like.ndim - 1 - len(self._event(on[0][0]))], count, 1)
        self.add_variables(name, optim.Euclidean(), ones)
        each = torch.arange(count, device=like.device)
        self.add_factor(residuals.Switched(residual), *on, (name, each), weight=weight)
        self.add_prior(name, each, torch.ones_like(ones), weight=IsotropicWeight(cost * torch.ones_like(ones[..., 0])))
        return name

    def started(self, x: tuple[Tensor, ...]) -> FactorGraph:
        """The same graph with its unknowns at x."""
        other = self.with_factors({})
        other.values = dict(zip(self.values, x, strict=True))
        return other

    def with_factors(self, factors: dict[int, Factor]) -> FactorGraph:
        """The same graph, some kinds of factors, by their number, with another weight or kernel."""
        other = FactorGraph()
        other.variables, other.values, other.held = dict(self.variables), dict(self.values), dict(self.held)
        other.factors = [factors.get(k, factor) for k, factor in enumerate(self.factors)]
        other.__dict__["layout"] = self.layout
        return other

    @property
    def x(self) -> tuple[Tensor, ...]:
        """Where the unknowns start, kind by kind."""
        return tuple(self.values.values())

    def optimize(
        self,
        strategy: optim.StepStrategy | None = None,
        iterations: int = 50,
        tolerance: float | None = 1e-10,
        backward: str = "unroll",
        last: int = 5,
    ) -> GraphSolution:
        """The most likely values of all unknowns, by Levenberg-Marquardt or another rule; see `optim.solve`."""
        strategy = optim.LevenbergMarquardt(damping=1e-9) if strategy is None else strategy
        if not self.layout.n:
            return GraphSolution(self, optim.Solution(self.x, *self.linearize(self.x), converged=None))
        with compilation(False):  # the layout's fixed indices and the factorisation are nothing to compile
            solution = optim.solve(
                self, self.x, strategy, iterations, tolerance=tolerance, backward=backward, last=last
            )
        return GraphSolution(self, solution)

    def linearize(self, x: tuple[Tensor, ...]) -> tuple[optim.BlockSparse | Tensor, Tensor, Tensor]:
        """H (..., n, n), g (..., n) and the error (...) at x."""
        blocks, gradients, errors = [], [], []
        for factor, variables, at in self._present(x):
            J, r, w, error = factor.linearize(variables, *at)
            if factor.kernel is None:
                weighted = J
            else:
                weighted, r = [w[..., None, None] * A for A in J], w[..., None] * r
            errors.append(error)
            lead = r.shape[:-2]
            g = [(A.mT @ r[..., None])[..., 0] for A in J]
            if _relative(factor):
                N = (J[0].mT @ weighted[0]).reshape(*lead, -1)
                blocks += [N, -N, N]
                g = [-g[0], g[0]]
            else:
                blocks += [(J[k].mT @ weighted[m]).reshape(*lead, -1) for k in range(len(J)) for m in range(k, len(J))]
            gradients += [part.reshape(*lead, -1) for part in g]
        lead = torch.broadcast_shapes(*(e.shape for e in errors)) if errors else self._lead(x)
        layout = self.layout
        H = layout.gather(blocks, layout.block_places, layout.pattern.nnz, lead, x[0])
        g = layout.gather(gradients, layout.gradient_places, layout.n, lead, x[0])
        H = optim.BlockSparse(H, layout.pattern)
        return (H.dense() if layout.n <= DENSE_UP_TO else H), g, sum(errors, x[0].new_zeros(lead))

    def gradient(self, x: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """g (..., n) and the error (...) at x, at a fraction of what `linearize` takes, there and to differentiate."""
        gradients, errors = [], []
        for factor, variables, at in self._present(x):
            g, error = factor.gradient(variables, *at)
            errors.append(error)
            gradients += [part.flatten(-2) for part in ([-g[0], g[0]] if _relative(factor) else g)]
        lead = torch.broadcast_shapes(*(e.shape for e in errors)) if errors else self._lead(x)
        g = self.layout.gather(gradients, self.layout.gradient_places, self.layout.n, lead, x[0])
        return g, sum(errors, x[0].new_zeros(lead))

    def error(self, x: tuple[Tensor, ...]) -> Tensor:
        errors = [factor.error(*at) for factor, at in zip(self.factors, self._at(x), strict=True)]
        return sum(errors, x[0].new_zeros(self._lead(x)))

    def retract(self, x: tuple[Tensor, ...], delta: Tensor) -> tuple[Tensor, ...]:
        """All unknowns moved by delta (..., n), which counts those that are not held only."""
        return self.layout.retract(x, delta)

    @cached_property
    def layout(self) -> Layout:
        """Which unknown's tangent is where, made once the graph is complete."""
        if not self.values:
            raise ValueError("factor graph: it has no unknowns")
        return Layout(self)

    def _forget(self) -> None:
        self.__dict__.pop("layout", None)

    def _at(self, x: tuple[Tensor, ...]) -> list[list[Tensor]]:
        """The values (..., M, *event) of the unknowns that each kind of factor meets."""
        named = dict(zip(self.values, x, strict=True))
        return [self._met(factor, named) for factor in self.factors]

    def _present(self, x: tuple[Tensor, ...]) -> Iterator[tuple[Factor, list[Variable], list[Tensor]]]:
        """Each kind of factors that has any, with its variables and their values (..., M, *event)."""
        for factor, at in zip(self.factors, self._at(x), strict=True):
            if len(factor.on[0][1]):
                yield factor, [self.variables[name] for name, _ in factor.on], at

    def _met(self, factor: Factor, values: dict[str, Tensor]) -> list[Tensor]:
        return [values[name].index_select(-1 - len(self._event(name)), index) for name, index in factor.on]

    def _event(self, name: str) -> tuple[int, ...]:
        return (0, 0) if hasattr(self.variables[name], "group") else (0,)

    def _lead(self, x: tuple[Tensor, ...]) -> torch.Size:
        shapes = (v.shape[: v.ndim - 1 - len(self._event(name))] for name, v in zip(self.values, x, strict=True))
        return torch.broadcast_shapes(*shapes)

    def _variable(self, name: str) -> Variable:
        if name not in self.variables:
            raise ValueError(f"expected one of the variables {', '.join(self.variables) or '(none)'}, got {name!r}")
        return self.variables[name]

    def _index(self, name: str, index: Tensor | list[int]) -> Tensor:
        self._variable(name)
        count = len(self.held[name])
        index = torch.as_tensor(index, dtype=torch.int64, device=self.values[name].device).reshape(-1)
        wrong = (index < 0) | (index >= count)
        if bool(wrong.any()):
            raise ValueError(f"index: {name!r} has {count} unknowns, got {int(index[wrong][0])}")
        return index

    def _check(self, factor: Factor, count: int) -> None:
        r = factor.residual(*self._met(factor, self.values))
        if r.ndim < 2 or r.shape[-2] != count:
            raise ValueError(f"factor: expected a residual (..., {count}, d), one for each factor, got {_shape(r)}")
        _check_finite("factor: residual at the start", r)
        if factor.weight is not None and isinstance(factor.weight.value, Tensor):
            _check_finite("factor: weight", factor.weight.value)
        whitened = factor._whiten(r[..., None])
        if whitened.shape[-3:-2] != r.shape[-2:-1]:
            raise ValueError(f"factor: expected weights for {count} factors, got {_shape(factor.weight.value)}")


class GraphSolution:
    """Where the unknowns of a graph ended."""

    def __init__(self, graph: FactorGraph, solution: optim.Solution) -> None:
        self.graph, self.solution = graph, solution
        self.values = dict(zip(graph.values, solution.x, strict=True))

    def __getitem__(self, name: str) -> Tensor:
        """The unknowns (..., N, *event) of that name."""
        return self.values[name]

    @property
    def error(self) -> Tensor:
        """Half the sum of robust squared residuals (...)."""
        return self.solution.error

    def covariance(self, name: str, index: Tensor | list[int]) -> Tensor:
        """Marginal covariances (..., K, n, n) of K unknowns, in their tangents; zero of one that is held.

        The inverse of the Gauss-Newton H, solved for a column at a time; differentiable where the solution is unrolled.
        """
        graph, H = self.graph, self.solution.H
        index = graph._index(name, index)
        places = graph.layout.places(name, index)  # (K, d), n where held
        rows = torch.arange(places.numel(), device=places.device)
        columns = self.solution.g.new_zeros(graph.layout.n + 1, places.numel())
        columns[places.flatten(), rows] = 1.0
        columns = columns[:-1].expand(*self.solution.g.shape[:-1], -1, -1)
        solved = torch.linalg.solve(H, columns) if isinstance(H, Tensor) else H.factor().solve_columns(columns)
        solved = torch.nn.functional.pad(solved, (0, 0, 0, 1)).unflatten(-1, tuple(places.shape))  # (..., n + 1, K, d)
        return solved[..., places[:, :, None], torch.arange(len(index), device=places.device)[:, None, None],
                      torch.arange(places.shape[1], device=places.device)]  # fmt: skip


def _relative(factor: Factor) -> bool:
    return getattr(factor.residual, "relative", False)


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))


def _check_finite(what: str, x: Tensor) -> None:
    finite = x.detach().isfinite()
    if not bool(finite.all()):
        raise ValueError(f"{what}: expected finite numbers, {int((~finite).sum())} of {x.numel()} are not")
