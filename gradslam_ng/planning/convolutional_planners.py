"""Planners that learn their iteration, as convolutions: value iteration networks and gated path planning networks, with
algorithmic or implicit differentiation (IDPlan)."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from gradslam_ng.optim.implicit import TangentFunction, differentiate_root


class ConvolutionalPlan(NamedTuple):
    """What a planner says of each cell, and how far to trust it."""

    logits: Tensor  # (B, A, X, Y), of actions
    converged: Tensor  # (B,) bool, whether the iteration came to a fixed point
    iterations: Tensor  # (B,) int64


class ConvolutionalPlanner(nn.Module, ABC):
    """An iteration on a state of each cell, whose result is read as actions.

    Each element of a batch stops by itself, at a relative change below `tolerance`. With backward="unroll" exactly
    `iterations` steps are taken and recorded (algorithmic differentiation). With "implicit" at most so many are taken,
    without record, and the gradient goes through the fixed point; the adjoint equation l = g + J^T l is iterated. An
    element whose state has not come to a fixed point is a constant of the gradient there, with a warning: the
    derivative at any other point is that of nothing.
    """

    def __init__(self, iterations: int, *, backward: Literal["implicit", "unroll"], tolerance: float) -> None:
        super().__init__()
        if iterations < 1 or not tolerance > 0:
            raise ValueError(f"expected 1 or more iterations and a positive tolerance, got {iterations}, {tolerance}")
        if backward not in ("implicit", "unroll"):
            raise ValueError(f"backward: expected implicit or unroll, got {backward!r}")
        self.iterations, self.backward, self.tolerance = iterations, backward, tolerance

    @abstractmethod
    def encode(self, maps: Tensor) -> Tensor:
        """What the iteration is given of maps (B, C, X, Y)."""

    @abstractmethod
    def start(self, features: Tensor) -> Tensor:
        """The first state (B, S, X, Y)."""

    @abstractmethod
    def step(self, state: Tensor, features: Tensor) -> Tensor:
        """The next state."""

    @abstractmethod
    def read(self, state: Tensor, features: Tensor) -> Tensor:
        """Logits (B, A, X, Y)."""

    def forward(
        self,
        maps: Tensor,  # (B, C, X, Y)
    ) -> ConvolutionalPlan:
        """Logits of actions of maps, for example of walls and of the goal as two channels.

        Raises:
            ValueError: another number of axes, or no cell.
        """
        if maps.ndim != 4 or not maps.numel():
            raise ValueError(f"maps: expected (B, C, X, Y) with one cell at least, got {tuple(maps.shape)}")
        features = self.encode(maps)
        if self.backward == "unroll":
            before = state = self.start(features)
            for _ in range(self.iterations):
                before, state = state, self.step(state, features)
            converged = _change(state, before) <= self.tolerance
            counts = torch.full((len(maps),), self.iterations, device=maps.device)
        else:
            state, converged, counts = self._find(features.detach())
            if torch.is_grad_enabled():
                state = self._attach(state, converged, features)
        return ConvolutionalPlan(self.read(state, features), converged, counts)

    @torch.no_grad()
    def _find(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The fixed point, where there is one, and the number of iterations."""
        state = self.start(features)
        done = torch.zeros(len(state), dtype=torch.bool, device=state.device)
        counts = torch.zeros(len(state), dtype=torch.int64, device=state.device)
        for _ in range(self.iterations):
            after = self.step(state, features)
            counts += ~done
            close = _change(after, state) <= self.tolerance
            state = torch.where(done[:, None, None, None], state, after)
            done = done | close
            if bool(done.all()):
                break
        return state, done & state.flatten(1).isfinite().all(1), counts

    def _attach(self, state: Tensor, converged: Tensor, features: Tensor) -> Tensor:
        """The fixed point with its gradient to features and weights."""
        if not bool(converged.all()):
            _warn("state", ~converged)
        kept = torch.where(converged[:, None, None, None], state, self.start(features).detach())

        def residual(delta: Tensor) -> Tensor:
            here = kept + delta.view_as(kept)
            return (here - self.step(here, features)).flatten(1)

        delta = differentiate_root(residual, torch.zeros_like(kept.flatten(1)), self._adjoint)
        return torch.where(converged[:, None, None, None], kept + delta.view_as(kept), state)

    def _adjoint(self, transposed: TangentFunction, v: Tensor) -> Tensor:
        """l (B, n) of l - J^T l = v; zero for elements for which iterating does not find it."""
        u, done = v, torch.zeros(len(v), dtype=torch.bool, device=v.device)
        for _ in range(4 * self.iterations):
            after = torch.where(done[:, None], u, v + u - transposed(u))
            done = done | (_change(after, u) <= self.tolerance)
            u = after
            if bool(done.all()):
                return u
        done = done & u.isfinite().all(1)
        _warn("adjoint", ~done)
        return torch.where(done[:, None], u, 0.0)


def _change(after: Tensor, before: Tensor) -> Tensor:
    """(B,), relative."""
    after, before = after.detach().flatten(1), before.detach().flatten(1)
    return (after - before).norm(dim=1) / after.norm(dim=1).clamp(min=torch.finfo(after.dtype).tiny)


def _warn(what: str, lost: Tensor) -> None:
    warnings.warn(
        f"convolutional planner: the {what} of {int(lost.sum())} of {len(lost)} has not converged and has no implicit "
        "gradient; take more iterations, or weights that contract",
        stacklevel=4,
    )


class VIN(ConvolutionalPlanner):
    """A value iteration network (Tamar et al. 2016): reward r from the maps, q = conv([r, v]), v <- max over q.

    Nothing makes this contract where the weights of v are free; as in Bellman's equation with a discount, it does, with
    one fixed point, where those of each q have absolute sums below 1, to which `contraction` scales larger ones.

    Args:
        inputs: channels of the maps.
        actions: channels of the logits.
        hidden: channels before the reward.
        latent_actions: channels of q.
        kernel: of q, odd.
        contraction: the largest sum, in (0, 1); None leaves weights free.
    """

    def __init__(
        self,
        inputs: int = 2,
        *,
        actions: int = 4,
        hidden: int = 150,
        latent_actions: int = 40,
        kernel: int = 3,
        contraction: float | None = None,
        iterations: int = 30,
        backward: Literal["implicit", "unroll"] = "implicit",
        tolerance: float = 1e-4,
    ) -> None:
        super().__init__(iterations, backward=backward, tolerance=tolerance)
        if contraction is not None and not 0 < contraction < 1:
            raise ValueError(f"contraction: expected a number between 0 and 1, got {contraction}")
        _check_kernel(kernel)
        self.contraction = contraction
        reward = nn.Conv2d(hidden, 1, 1, bias=False)
        self.reward = nn.Sequential(nn.Conv2d(inputs, hidden, 3, padding=1), nn.ReLU(), reward)
        self.from_reward = nn.Conv2d(1, latent_actions, kernel, padding=kernel // 2, bias=False)
        self.from_value = nn.Conv2d(1, latent_actions, kernel, padding=kernel // 2, bias=False)
        self.logits = nn.Conv2d(latent_actions, actions, 1, bias=False)

    def encode(self, maps: Tensor) -> Tensor:
        return self.from_reward(self.reward(maps))

    def start(self, features: Tensor) -> Tensor:
        return features.amax(1, keepdim=True)

    def _q(self, state: Tensor, features: Tensor) -> Tensor:
        weight = self.from_value.weight
        if self.contraction is not None:
            total = weight.abs().sum((1, 2, 3), keepdim=True)
            weight = weight * (self.contraction / total.clamp(min=self.contraction))
        return features + nn.functional.conv2d(state, weight, padding=self.from_value.padding)

    def step(self, state: Tensor, features: Tensor) -> Tensor:
        return self._q(state, features).amax(1, keepdim=True)

    def read(self, state: Tensor, features: Tensor) -> Tensor:
        return self.logits(self._q(state, features))


class ConvGPPN(ConvolutionalPlanner):
    """A gated path planning network (Lee et al. 2018) whose recurrent cell is a convolutional GRU, as in SymPlan.

    Its state is bounded, but whether it comes to a fixed point is up to the weights.

    Args:
        inputs: channels of the maps.
        actions: channels of the logits.
        hidden: channels of the state.
        kernel: of gates and candidates, odd.
    """

    def __init__(
        self,
        inputs: int = 2,
        *,
        actions: int = 4,
        hidden: int = 150,
        kernel: int = 3,
        iterations: int = 30,
        backward: Literal["implicit", "unroll"] = "implicit",
        tolerance: float = 1e-4,
    ) -> None:
        super().__init__(iterations, backward=backward, tolerance=tolerance)
        _check_kernel(kernel)
        self.features = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.gates = nn.Conv2d(2 * hidden, 2 * hidden, kernel, padding=kernel // 2)
        self.candidate = nn.Conv2d(2 * hidden, hidden, kernel, padding=kernel // 2)
        self.logits = nn.Conv2d(hidden, actions, 1)

    def encode(self, maps: Tensor) -> Tensor:
        return self.features(maps).relu()

    def start(self, features: Tensor) -> Tensor:
        return torch.zeros_like(features)

    def step(self, state: Tensor, features: Tensor) -> Tensor:
        reset, update = self.gates(torch.cat([state, features], 1)).sigmoid().chunk(2, 1)
        candidate = self.candidate(torch.cat([reset * state, features], 1)).tanh()
        return state + update * (candidate - state)

    def read(self, state: Tensor, features: Tensor) -> Tensor:
        return self.logits(state)


def _check_kernel(kernel: int) -> None:
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel: expected an odd number of cells, got {kernel}")
