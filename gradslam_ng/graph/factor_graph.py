"""Factor graphs: built of variables and factors, and solved."""

from __future__ import annotations

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
from gradslam_ng.graph.fixed import WithFixedValues
from gradslam_ng.graph.graph_problem import GraphProblem, Index
from gradslam_ng.graph.residuals import DifferentiatedResidual, Residual, ResidualFunction
from gradslam_ng.graph.solution import GraphSolution
from gradslam_ng.optim.costs import IsotropicWeight, evaluate
from gradslam_ng.optim.kernels import Kernel
from gradslam_ng.optim.variables import TensorVariable


class FactorGraph(GraphProblem):
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
        problem = graph if backward == "unroll" else WithFixedValues(graph, graph.initial, graph.fixed_masks())
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
