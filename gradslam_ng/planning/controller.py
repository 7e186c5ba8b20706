"""Controllers that follow a potential, and what they make of a robot: where it ends, and how far it travels."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import SuperLU, splu
from torch import Tensor
from torch.autograd import Function

from gradslam_ng.compute.transforms import as_numpy
from gradslam_ng.planning.batches import as_batch
from gradslam_ng.planning.checks import check_shape, check_tensors
from gradslam_ng.planning.harmonic import Potential


class Controller:
    """Goes from each cell along the slope of a potential: on each axis to the better neighbor, if it is better at all,
    in proportion to how much better. No cell but the goal is without such a neighbor where the potential is harmonic,
    and walls never have one, so it neither stops early nor collides, whatever the conductances.
    """

    def __init__(self, potential: Potential) -> None:
        self.potential, self.grid = potential, potential.grid
        gains = potential.gains().unflatten(-1, (-1, 2))  # (..., N, dim, 2)
        moving = (potential.reachable & ~potential.goal).to(gains.device)
        best, side = gains.max(-1)
        self.slope = torch.where(moving[:, None], best.clamp(min=0.0), 0.0)  # (..., N, dim)
        self.side = side  # (..., N, dim): 0 for the neighbor before, 1 for the one after
        self._moving = moving

    def least_gain(self) -> Tensor:
        """(...): the gain to the best neighbor, least of all cells that have a way to the goal. Positive: no local
        minimum."""
        return torch.where(self._moving, self.slope.amax(-1), torch.inf).amin(-1)

    def targets(self) -> Tensor:
        """(..., N, dim): the neighbor on each axis that it may go to, -1 for a wall."""
        at = self.grid.neighbors.to(self.side.device).unflatten(-1, (-1, 2))
        return at.expand(*self.side.shape, 2).gather(-1, self.side[..., None])[..., 0]

    def direction(self) -> Tensor:
        """(..., N, dim): the unit vector along which it goes; 0 at the goal and where there is no way to it."""
        signed = torch.where(self.side == 1, self.slope, -self.slope)
        norm = signed.norm(dim=-1, keepdim=True)
        return signed / torch.where(norm > 0, norm, 1.0)

    def led_home(self) -> Tensor:
        """(..., N) bool: whether going to the best neighbor again and again ends at the goal."""
        steepest = self.targets().gather(-1, self.slope.argmax(-1, keepdim=True))[..., 0]
        own = torch.arange(len(self.grid.cells), device=steepest.device)
        after = torch.where(self.slope.amax(-1) > 0, steepest, own)
        for _ in range(int(np.ceil(np.log2(len(own)))) + 1):
            after = after.gather(-1, after)  # twice as many steps
        return self.potential.goal.to(after.device)[after]

    @cached_property
    def _shares(self) -> tuple[Tensor, Tensor]:
        """Of which axis how much (..., N, dim), and the length of a step (..., N)."""
        total = self.slope.sum(-1, keepdim=True)
        total = torch.where(total > 0, total, 1.0)
        squared = self.slope.square().sum(-1, keepdim=True)
        length = torch.where(squared > 0, torch.where(squared > 0, squared, 1.0).sqrt(), 0.0)
        return self.slope / total, (length / total)[..., 0]

    def travel(self, step_cost: Tensor | None = None) -> Tensor:
        """How far it goes from each cell (..., N), in cells; infinite without a way to the goal.

        step_cost: (..., N), of a unit of length in each cell, if not 1; it has a gradient too.

        t = length + P t over the shares P of neighbors, the upwind form of following a field of directions; one
        triangular solve in the order of the potential. The gradient, through the potential to conductances, is another.

        Raises:
            TypeError: step_cost is no tensor of floating-point numbers.
            ValueError: it has another shape, or is not finite.
        """
        shares, length = self._shares
        if step_cost is not None:
            check_tensors(step_cost=step_cost)
            check_shape("step_cost", step_cost, (len(self.grid.cells),), "one for each of grid.cells")
            length = length * step_cost.to(length)
        value = self.potential.value.detach()
        order = (value if self.potential.kind == "time" else -value).argsort(-1)
        lead = length.shape[:-1]
        flat = zip(
            as_batch(shares, lead, 2), length.reshape(-1, length.shape[-1]), as_batch(order, lead, 1),
            as_batch(self.targets(), lead, 2), strict=True,
        )  # fmt: skip
        far = torch.stack([_Travel.apply(w, s, _Chain(w, order=o, targets=t)) for w, s, o, t in flat])
        far = far.reshape(length.shape)
        far = torch.where(self.potential.reachable.to(far.device), far, torch.inf)
        return far.to(self.potential.value)


class _Chain:
    """The factors of I - P, with cells in order, so that they are P itself."""

    def __init__(self, shares: Tensor, *, order: Tensor, targets: Tensor) -> None:
        self.shape = shares.shape  # (N, dim)
        weights, count = as_numpy(shares), len(shares)
        self.order = as_numpy(order)
        place = np.empty(count, np.int64)
        place[self.order] = np.arange(count)
        used = weights > 0
        self.row, self.axis = np.nonzero(used)
        self.col = as_numpy(targets)[used]
        diagonal = np.arange(count)
        entries = np.concatenate([np.ones(count), -weights[used]])
        places = np.concatenate([diagonal, place[self.row]]), np.concatenate([diagonal, place[self.col]])
        matrix = csc_matrix((entries, places), shape=(count, count))
        self.factors: SuperLU = splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0)

    def solve(self, b: Tensor, transposed: bool) -> Tensor:
        x = np.empty(len(b))
        x[self.order] = self.factors.solve(as_numpy(b).astype(np.float64)[self.order], "T" if transposed else "N")
        return torch.from_numpy(x).to(b)


class _Travel(Function):
    """t of t = length + P t, for shares (N, dim) and length (N,)."""

    @staticmethod
    def forward(shares: Tensor, length: Tensor, chain: _Chain) -> Tensor:
        return chain.solve(length, transposed=False)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.chain = inputs[2]
        ctx.save_for_backward(output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        (t,) = ctx.saved_tensors
        chain = ctx.chain
        adjoint = chain.solve(g, transposed=True)
        row, axis, col = (torch.from_numpy(x).to(g.device) for x in (chain.row, chain.axis, chain.col))
        to_shares = g.new_zeros(chain.shape).index_put((row, axis), adjoint[row] * t[col])
        return to_shares, adjoint, None
