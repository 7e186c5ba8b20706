"""Bellman's equation on a grid, hard and soft: one sweep, solution by policy iteration, and its adjoint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gradslam_ng.planning.absorbing_chain import AbsorbingChain
from gradslam_ng.planning.moves import Lattice

BIG = 1e100  # of what is not to be had; finite, so that derivatives to the temperature are
TOLERANCE = 1e-12  # of the residual, relative to the largest value, or to 1
MAX_STEPS = 40  # of policy iteration
POWER_STEPS = 300


@dataclass(eq=False)
class Bellman:
    """V = min_a (c_a + discount V_a), or -temperature log sum_a exp(-(c_a + discount V_a) / temperature), of B maps."""

    successor: Tensor  # (B, N) on the shortest paths, -1 at the goal and without a way
    open: Tensor  # (B, A, N) bool, actions that walls allow, where the equation holds
    target: Tensor  # (A, N), the cells that they lead to
    lengths: Tensor  # (A,), of steps

    @staticmethod
    def of(lattice: Lattice, successor: Tensor, goals: Tensor) -> Bellman:
        """Of the steps of a lattice, shortest paths (B, N) and goals (B,) on it."""
        device, count = goals.device, successor.shape[1]
        at = torch.from_numpy(lattice.offsets)[:, None] + torch.arange(count)
        target = at.clamp(0, count - 1).to(device)
        inner = successor >= 0
        known = inner.scatter(1, goals[:, None], True)  # with the goal
        ways = torch.from_numpy(lattice.ways.swapaxes(0, 1)).to(device)
        lengths = torch.from_numpy(lattice.lengths).to(device)
        return Bellman(successor, ways & known[:, target] & inner[:, None], target, lengths)

    def __getitem__(self, k: int) -> Bellman:
        """Of the k-th map alone."""
        return Bellman(self.successor[k : k + 1], self.open[k : k + 1], self.target, self.lengths)

    @property
    def inner(self) -> Tensor:
        """(B, N) bool, for which the equation holds."""
        return self.successor >= 0

    def action_costs(
        self,
        values: Tensor,  # (B, N)
        cost: Tensor,  # (B, N), float64
        discount: Tensor,  # ()
    ) -> Tensor:
        """c_a + discount V_a (B, A, N), BIG where there is no way."""
        w = torch.where(cost.isfinite(), cost, 0.0)
        step = 0.5 * self.lengths[:, None] * (w[:, None] + w[:, self.target])
        return torch.where(self.open, step + discount * values[:, self.target], BIG)

    def sweep(self, values: Tensor, cost: Tensor, temperature: Tensor, discount: Tensor) -> Tensor:
        """The right-hand side (B, N); 0 where the equation does not hold. At temperature 0 actions are constants."""
        q = self.action_costs(values, cost, discount)
        if float(temperature.detach()) > 0:
            better = -temperature * torch.logsumexp(-q / temperature, 1)
        else:
            better = q.gather(1, q.detach().argmin(1, keepdim=True))[:, 0]
        return torch.where(self.inner, better, 0.0)

    def policy(self, action_costs: Tensor, temperature: Tensor) -> Tensor:
        """Probabilities (B, A, N) of actions that cost (B, A, N), 0 where the equation does not hold."""
        if float(temperature.detach()) > 0:
            p = torch.softmax(-action_costs / temperature, 1)
        else:
            p = torch.zeros_like(action_costs).scatter(1, action_costs.detach().argmin(1, keepdim=True), 1.0)
        return torch.where(self.open, p, 0.0)

    def residual(self, values: Tensor, cost: Tensor, temperature: Tensor, discount: Tensor) -> tuple[Tensor, Tensor]:
        """Right-hand side minus values (B, N), and whether it is small (B,)."""
        r = torch.where(self.inner, self.sweep(values, cost, temperature, discount) - values, 0.0)
        scale = values.abs().amax(1).clamp(min=1.0)
        return r, r.abs().amax(1) <= TOLERANCE * scale

    @cached_property
    def _transitions(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Action, cell and target (E,) of the open actions of each map."""
        found = []
        for ways in self.open:
            action, cell = ways.nonzero(as_tuple=True)
            found.append((action, cell, self.target[action, cell]))
        return found

    def chain(self, policy: Tensor, k: int, order: Tensor) -> AbsorbingChain:
        """discount times policy (A, N) of the k-th map as weights from cell to cell."""
        action, cell, to = self._transitions[k]
        return AbsorbingChain(policy[action, cell], rows=cell, cols=to, count=policy.shape[1], order=order)

    def solve(
        self, values: Tensor, cost: Tensor, temperature: Tensor, discount: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Policy iteration, Newton's method for this equation, from values (B, N) of a policy that leads to the goal.

        Returns:
            Values (B, N), which of them have converged (B,), and the steps that it took (B,).
        """
        found = [
            self[k]._solve_one(values[k : k + 1], cost[k : k + 1], temperature, discount) for k in range(len(values))
        ]
        v, done, steps = zip(*found, strict=True)
        return torch.cat(v), torch.cat(done), torch.tensor(steps, device=cost.device)

    def _solve_one(self, v: Tensor, cost: Tensor, temperature: Tensor, discount: Tensor) -> tuple[Tensor, Tensor, int]:
        for step in range(MAX_STEPS):
            r, done = self.residual(v, cost, temperature, discount)
            if bool(done):
                return v, done, step
            p = self.policy(self.action_costs(v, cost, discount), temperature)
            try:
                v = v + self.chain(discount * p[0], 0, v[0]).solve(r)
            except ValueError:  # ways that almost never end
                return v, done, step
        return v, self.residual(v, cost, temperature, discount)[1], MAX_STEPS

    def flow(
        self, g: Tensor, values: Tensor, cost: Tensor, temperature: Tensor, discount: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The gradient to action costs at fixed values (B, A, N), of that to the solution g (B, N); and action costs.

        P times l, l = g + discount P^T l, solved in the order of values: how often actions are taken.
        """
        q = self.action_costs(values, cost, discount)
        p = self.policy(q, temperature)
        g, order, weights = torch.where(self.inner, g, 0.0), values.detach(), discount * p
        adjoint = torch.stack([self.chain(weights[k], k, order[k]).solve_transposed(g[k]) for k in range(len(g))])
        return p * adjoint[:, None], q

    def to_cost(self, flow: Tensor) -> Tensor:
        """(B, N): half of a step's length to either end."""
        half = 0.5 * self.lengths[:, None] * flow
        return half.sum(1).index_add(1, self.target.flatten(), half.flatten(1))

    def to_temperature(self, flow: Tensor, q: Tensor, temperature: Tensor) -> Tensor:
        """(): minus the entropy of actions; 0 at temperature 0."""
        if float(temperature.detach()) == 0:
            return torch.zeros_like(temperature)
        return (flow * torch.where(self.open, torch.log_softmax(-q / temperature, 1), 0.0)).sum()

    def best(self, values: Tensor, cost: Tensor, temperature: Tensor, discount: Tensor) -> Tensor:
        """The cell (B, N) that the best action leads to, -1 at the goal and without a way."""
        if float(temperature) == 0 and float(discount) == 1:
            return self.successor
        action = self.action_costs(values, cost, discount).argmin(1)
        return torch.where(self.inner, self.target.T[torch.arange(action.shape[1], device=action.device), action], -1)

    def spectral_radius(self, cost: Tensor, temperature: Tensor) -> Tensor:
        """(B,) of exp(-c_a / temperature), what one more step weighs at discount 1, by power iteration; 0 where the
        sums of rows show that it is below 1."""
        q = self.action_costs(torch.zeros_like(cost), cost, torch.ones_like(temperature))
        weights = torch.where(self.inner[:, self.target], torch.exp(-q / temperature), 0.0)
        found = torch.zeros_like(cost[:, 0])
        for k in (weights.sum(1).amax(1) >= 1).nonzero()[:, 0].tolist():
            x = torch.ones_like(cost[k])
            for _ in range(POWER_STEPS):
                x = 0.5 * x + 0.5 * (weights[k] * x[self.target]).sum(0)  # halves: some chains oscillate
                found[k] = 2 * x.norm() - 1
                x = x / x.norm()
        return found
