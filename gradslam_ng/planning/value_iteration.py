"""Value iteration on a cost map, hard and soft, differentiated implicitly, through all sweeps, or through the last."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.transforms import as_numpy, transforms_active
from gradslam_ng.planning.bellman import BIG, Bellman
from gradslam_ng.planning.moves import Cell, Lattice, check_goal, check_moves, check_start, follow, neighborhood
from gradslam_ng.planning.shortest_path import tree_cost

Backward = Literal["implicit", "unroll", "truncated"]


@dataclass(eq=False)
class Values:
    """Costs to go of a batch of maps, and the policy that has them."""

    cost_to_go: Tensor  # (..., *shape), +inf where there is no way; carries the gradient
    converged: Tensor  # (...) bool
    iterations: Tensor  # (...) int64, sweeps, or steps of policy iteration
    _flat: tuple[Bellman, Tensor, Tensor, Tensor, Tensor]  # equations, values and cost (B, N), temperature, discount

    @property
    def reachable(self) -> Tensor:
        """(..., *shape) bool, from where there is a way to the goal."""
        return self.cost_to_go.isfinite()

    def action_costs(self) -> Tensor:
        """c_a + discount V_a (..., A, *shape), +inf where walls or the border do not allow an action, and at the goal;
        with gradient."""
        equations, values, cost, _, discount = self._flat
        q = torch.where(equations.open, equations.action_costs(values, cost, discount), torch.inf)
        return self._as_maps(q)

    def policy(self) -> Tensor:
        """Probabilities of actions (..., A, *shape), with gradient where the temperature is positive. They sum to 1 but
        where there is no way, and at the goal, where all are 0."""
        equations, values, cost, temperature, discount = self._flat
        return self._as_maps(equations.policy(equations.action_costs(values, cost, discount), temperature))

    def _as_maps(self, x: Tensor) -> Tensor:
        lead, shape = self.converged.shape, self.cost_to_go.shape[self.converged.ndim :]
        return x.to(self.cost_to_go.dtype).reshape(*lead, x.shape[1], *shape)

    def path(self, start: Cell, index: int = 0) -> Tensor:
        """Cells (K, d) from a start to the goal along the best actions, in the map of that (flat) index.

        Raises:
            ValueError: a start outside the grid, in a wall or without a way; values that lead in a circle, as those
                that have not converged may, and soft ones at a high temperature.
        """
        equations, values, *problem = (self._flat[0], *(x.detach() for x in self._flat[1:]))
        shape = self.cost_to_go.shape[self.converged.ndim :]
        cell = check_start(start, self.cost_to_go.reshape(-1, *shape)[index])
        return follow(as_numpy(equations.best(values, *problem)[index]), cell, shape)


class ValueIteration(nn.Module):
    """The cost to go to a goal over any set of actions, V = min_a (c_a + discount V_a), or softly with entropy,
    V = -temperature log sum_a exp(-(c_a + discount V_a) / temperature).

    As `shortest_path`: an action costs the mean of both ends' cost times its length, and must have a way through free
    cells, step by step along the axes. Values of the goal are 0. Solved in float64 from above, from the shortest paths:
    from there every policy on the way leads to the goal. At temperature 0 and discount 1 these are the solution;
    otherwise policy iteration (Newton's method) takes a few steps.

    Args:
        actions: moves (A, d) in whole cells, or a connectivity: 4, 8, 6, 18 or 26.
        temperature: in units of cost, from 0, the hard minimum, on. May be an `nn.Parameter`. Soft values lie below
            hard ones, and at discount 1 they exist as long as wandering costs more than its entropy is worth.
        discount: in (0, 1]. Below 1 far goals do not matter, with gradients that fall as discount^steps.
        backward: "implicit": one solution of the absorbing chain in the order of V, at a cost that does not depend on
            iterations; derivatives of any order. "unroll": through `iterations` recorded sweeps from above,
            which find ways of at most so many steps. "truncated": through `backward_iterations` sweeps from the
            solution, the first terms of the implicit gradient's series.
        iterations: so many sweeps instead of policy iteration; for comparison, and needed to unroll.
        backward_iterations: of "truncated".
        cell: size of a cell.

    Raises:
        ValueError: settings that are none of these.
    """

    def __init__(
        self,
        actions: int | Tensor | Sequence[Sequence[int]] = 8,
        *,
        temperature: float | Tensor = 0.0,
        discount: float | Tensor = 1.0,
        backward: Backward = "implicit",
        iterations: int | None = None,
        backward_iterations: int = 10,
        cell: float = 1.0,
    ) -> None:
        super().__init__()
        self.moves = neighborhood(actions) if isinstance(actions, int) else check_moves(actions)
        if backward not in ("implicit", "unroll", "truncated"):
            raise ValueError(f"backward: expected implicit, unroll or truncated, got {backward!r}")
        if iterations is None and backward == "unroll":
            raise ValueError("iterations: expected a number of sweeps to unroll")
        if min(backward_iterations, 1 if iterations is None else iterations) < 1:
            raise ValueError(f"iterations, backward_iterations: expected 1 or more, got {iterations}")
        self.temperature, self.discount, self.cell = temperature, discount, cell
        self.backward, self.iterations, self.backward_iterations = backward, iterations, backward_iterations

    @mode_free
    def forward(
        self,
        cost: Tensor,  # (..., *shape)
        goal: Cell,  # (d,), or one for each map (..., d)
    ) -> Values:
        """Values of all cells.

        An element that has not converged, which `iterations` alone can bring about, has no implicit gradient, and there
        is a warning.

        Raises:
            TypeError: cost is no tensor of floating-point numbers.
            ValueError: NaN or negative cost, a goal outside the grid or in a wall, actions of another number of axes;
                temperature or discount out of range; soft values that do not exist.
        """
        d, goals = check_goal(goal, cost)
        if self.moves.shape[1] != d:
            raise ValueError(f"actions: expected moves along {d} axes, as the goal has, got {self.moves.shape[1]}")
        temperature, discount = self._settings(cost)
        lattice = Lattice(cost, moves=self.moves, cell=self.cell)
        found = [lattice.tree(k, int(at)) for k, at in enumerate(goals)]
        successor, action = (torch.from_numpy(np.stack(x)).to(cost.device) for x in zip(*found, strict=True))
        ends = torch.from_numpy(goals).to(cost.device)
        equations = Bellman.of(lattice, successor, ends)
        flat = cost.reshape(len(goals), -1).double()
        shortest = tree_cost(flat, ends, successor, equations.lengths[action])
        known = shortest.isfinite()
        problem = flat, temperature, discount
        if self.backward == "unroll":
            values, sweeps = torch.zeros_like(flat).masked_fill(equations.inner, BIG), self.iterations or 0
            for _ in range(sweeps):
                values = equations.sweep(values, *problem)
            steps = torch.full((len(goals),), sweeps, device=cost.device)
            converged = equations.residual(values.detach(), *(x.detach() for x in problem))[1]
            known = known & (values < 0.5 * BIG)
        else:
            start = torch.where(known, shortest, 0.0)
            values, converged, steps = self._solve(equations, start.detach(), *(x.detach() for x in problem))
            values = self._attach(equations, values, converged, start, problem)
        to_go = torch.where(known, values, torch.inf).to(cost.dtype).view(cost.shape)
        lead = cost.shape[: cost.ndim - d]
        return Values(to_go, converged.view(lead), steps.view(lead), (equations, values, *problem))

    def _settings(self, cost: Tensor) -> tuple[Tensor, Tensor]:
        pair = []
        for name, value in (("temperature", self.temperature), ("discount", self.discount)):
            x = torch.as_tensor(value, dtype=torch.float64, device=cost.device)
            ok = x.ndim == 0 and (
                0 <= float(x.detach()) < np.inf if name == "temperature" else 0 < float(x.detach()) <= 1
            )
            if not ok:
                raise ValueError(f"{name}: expected one number, temperature from 0 on, discount in (0, 1], got {value}")
            pair.append(x)
        return pair[0], pair[1]

    @torch.no_grad()
    def _solve(
        self, equations: Bellman, start: Tensor, cost: Tensor, temperature: Tensor, discount: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values (B, N), which have converged, and in how many steps."""
        undiscounted = float(discount) == 1
        if float(temperature) > 0 and undiscounted:
            radius = float(equations.spectral_radius(cost, temperature).max())
            if radius >= 1:
                raise ValueError(
                    f"temperature: soft values do not exist: expected a spectral radius of exp(-cost / temperature) "
                    f"below 1, got {radius:.3f}; wandering costs less than its entropy is worth: lower the "
                    "temperature, raise the cost, or discount"
                )
        if self.iterations is None and float(temperature) == 0 and undiscounted:
            return start, start.new_ones(len(start), dtype=torch.bool), start.new_zeros(len(start), dtype=torch.int64)
        if self.iterations is None:
            values, converged, steps = equations.solve(start, cost, temperature, discount)
        else:
            values, steps = start, torch.full((len(start),), self.iterations, device=start.device)
            for _ in range(self.iterations):
                values = equations.sweep(values, cost, temperature, discount)
            converged = equations.residual(values, cost, temperature, discount)[1]
        return values, converged, steps

    def _attach(
        self, equations: Bellman, values: Tensor, converged: Tensor, shortest: Tensor, problem: tuple[Tensor, ...]
    ) -> Tensor:
        """Values (B, N) with their gradient to the problem."""
        if not (transforms_active() or (torch.is_grad_enabled() and any(x.requires_grad for x in problem))):
            return values
        if self.backward == "truncated":
            for _ in range(self.backward_iterations):
                values = equations.sweep(values, *problem)
            return values
        if not bool(converged.all()):
            count = int((~converged).sum())
            warnings.warn(
                f"value iteration: {count} of {len(converged)} have not converged and have no implicit gradient; leave "
                "iterations out, or take more",
                stacklevel=3,
            )
        _, temperature, discount = problem
        if float(temperature.detach()) == 0 and float(discount.detach()) == 1 and not discount.requires_grad:
            found = values + (shortest - shortest.detach())
        else:
            found = _FixedPoint.apply(*problem, values, equations)
        return torch.where(converged[:, None], found, values)


class _FixedPoint(Function):
    """Values (B, N) of cost (B, N), temperature and discount."""

    @staticmethod
    def forward(cost: Tensor, temperature: Tensor, discount: Tensor, values: Tensor, equations: Bellman) -> Tensor:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        *problem, _, ctx.equations = inputs
        ctx.save_for_backward(*problem, output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        *problem, values = ctx.saved_tensors
        flow, q = ctx.equations.flow(g, values, *problem)
        to_temperature, to_discount = None, None
        if ctx.needs_input_grad[1]:
            to_temperature = ctx.equations.to_temperature(flow, q, problem[1])
        if ctx.needs_input_grad[2]:
            to_discount = (flow * values[:, ctx.equations.target]).sum()
        return ctx.equations.to_cost(flow), to_temperature, to_discount, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        raise RuntimeError("backward='implicit' has no forward-mode derivative: use backward='unroll' or 'truncated'")
