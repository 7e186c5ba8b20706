"""Path smoothing as a factor graph: a constant-velocity Gaussian process, kept clear of obstacles by hinge factors.

GPMP2 (Mukadam, Dong, Yan, Dellaert and Boots 2018): acceleration is white noise, so positions and velocities at evenly
spaced times are a Markov chain (Barfoot, Tong and Sarkka 2014), and between them the most likely path is a cubic.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.graph import FactorGraph
from gradslam_ng.graph.residuals import Residual
from gradslam_ng.optim.costs import IsotropicWeight
from gradslam_ng.planning.checks import check_tensors

Distance = Callable[[Tensor], Tensor]  # (..., d) -> (...), meters
END_SIGMA = 1e-4  # meters: how far the path may end from where it should


class SmoothPath(NamedTuple):
    """A path in time."""

    position: Tensor  # (..., N, d), meters
    velocity: Tensor  # (..., N, d), m/s
    clearance: Tensor  # (...), least distance less the radius along the path, at states and between, meters
    converged: Tensor  # (...) bool


@mode_free
def smooth(
    path: Tensor,  # (..., N, d)
    distance: Distance,
    *,
    radius: float | Tensor,
    safety_distance: float | Tensor = 0.1,
    dt: float = 0.2,
    acceleration: float | Tensor = 0.5,
    sigma: float | Tensor = 0.02,
    between: int = 4,
    iterations: int = 100,
    tolerance: float = 1e-10,
    backward: str = "implicit",
    backward_iterations: int = 5,
) -> SmoothPath:
    """The most likely path near one that is given, from its first point to its last, at rest there.

    Minimizes half the sum of squares of the Gaussian process's errors and of hinges max(0, radius + safety_distance -
    distance) / sigma, by Levenberg-Marquardt. It descends to the nearest minimum: the path must already pass obstacles
    on the right side.

    Args:
        path: where to start, N >= 2 points dt seconds apart, in the plane or in space, meters.
        distance: signed distance to obstacles at points (..., d), such as a `DistanceField`; whatever it depends on has
            a gradient, and so have the ends of the path and all of the following that are tensors.
        radius: of what moves, meters.
        safety_distance: from which on obstacles push, meters.
        dt: seconds from point to point.
        acceleration: root of the power spectral density of acceleration, m/s^2 per root Hz: less is smoother.
        sigma: of the hinge, meters: less keeps clearer.
        between: hinges for each piece of the path.
        iterations, tolerance, backward, backward_iterations: see `optim.solve`. By "implicit" and "implicit-gn" a path
            that has not converged gets no gradient, with a warning.

    Raises:
        TypeError: what is no tensor of floating-point numbers.
        ValueError: shapes that do not fit, numbers that are not finite or not positive.
    """
    check_tensors(path=path)
    if path.ndim < 2 or path.shape[-2] < 2 or path.shape[-1] not in (2, 3):
        raise ValueError(f"path: expected (..., N, 2) or (..., N, 3) with at least two points, got {tuple(path.shape)}")
    positive = {"dt": dt, "acceleration": acceleration, "sigma": sigma, "between": between}
    for name, value in positive.items():
        if not bool(torch.as_tensor(value).detach().gt(0).all()):
            raise ValueError(f"{name}: expected a positive number, got {value}")
    graph = FactorGraph()
    N, d = path.shape[-2:]
    graph.add_variables("position", optim.Euclidean(), path.detach())
    graph.add_variables("velocity", optim.Euclidean(), _differences(path.detach(), dt))
    ends = torch.tensor([0, N - 1], device=path.device)
    strong = IsotropicWeight(path.new_full((2,), 1 / END_SIGMA))
    graph.add_prior("position", ends, path[..., [0, -1], :], weight=strong)
    graph.add_prior("velocity", ends, path.new_zeros(*path.shape[:-2], 2, d), weight=strong)
    first, second = torch.arange(N - 1, device=path.device), torch.arange(1, N, device=path.device)
    piece = (("position", first), ("velocity", first), ("position", second), ("velocity", second))
    graph.add_factor(ConstantVelocityPrior(dt, acceleration), *piece)
    graph.add_factor(Hinge(distance, radius + safety_distance, sigma, dt, between), *piece)
    found = graph.optimize(
        iterations=iterations, tolerance=tolerance, backward=backward, backward_iterations=backward_iterations
    )
    converged = found.solution.converged
    assert converged is not None
    position, velocity = found["position"], found["velocity"]
    if backward.startswith("implicit") and torch.is_grad_enabled() and not bool(converged.all()):
        count = int((~converged).sum())
        warnings.warn(
            f"smooth: {count} of {converged.numel()} paths have not converged and have no gradient; see `converged`",
            RuntimeWarning,
            stacklevel=3,
        )
        keep = converged[..., None, None]
        position, velocity = (torch.where(keep, x, x.detach()) for x in (position, velocity))
    pieces = position[..., :-1, :], velocity[..., :-1, :], position[..., 1:, :], velocity[..., 1:, :]
    points = between_states(pieces, cubic(path, dt, between))
    clearance = (distance(points) - radius).flatten(-2).amin(-1)
    return SmoothPath(position, velocity, clearance, converged)


def _differences(path: Tensor, dt: float) -> Tensor:
    """Velocities (..., N, d) by central differences, zero at the ends."""
    inner = (path[..., 2:, :] - path[..., :-2, :]) / (2 * dt)
    return torch.nn.functional.pad(inner, (0, 0, 1, 1))


@dataclass(frozen=True, eq=False)
class ConstantVelocityPrior(Residual):
    """Whitened errors (..., M, 2 d) of the process from (p, v) to (q, w), dt seconds later.

    The covariance of (q - p - dt v, w - v) is acceleration^2 [[dt^3/3, dt^2/2], [dt^2/2, dt]]; what it is multiplied by
    is the inverse of its Cholesky factor.
    """

    dt: float
    acceleration: float | Tensor
    anchors = True  # the ends have priors

    def __call__(self, *x: Tensor) -> Tensor:
        p, v, q, w = x
        moved, changed = q - p - self.dt * v, w - v
        whitened = (3 / self.dt**3) ** 0.5 * moved, (4 / self.dt) ** 0.5 * (changed - 1.5 / self.dt * moved)
        return torch.cat(whitened, -1) / self.acceleration

    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        r, dt = self(*x), self.dt
        eye = torch.eye(x[0].shape[-1], dtype=r.dtype, device=r.device).expand(*r.shape[:-1], -1, -1)
        first, second = (3 / dt**3) ** 0.5, (4 / dt) ** 0.5
        columns = ((-1, 1.5 / dt), (-dt, 0.5), (1, -1.5 / dt), (0, 1))
        return r, [torch.cat([first * a * eye, second * b * eye], -2) / self.acceleration for a, b in columns]


@dataclass(frozen=True, eq=False)
class Hinge(Residual):
    """max(0, reach - distance) / sigma (..., M, between) along the cubics from (p, v) to (q, w)."""

    distance: Distance
    reach: float | Tensor
    sigma: float | Tensor
    dt: float
    between: int
    anchors = True

    def __call__(self, *x: Tensor) -> Tensor:
        points = between_states(x, cubic(x[0], self.dt, self.between))
        return (self.reach - self.distance(points)).clamp(min=0) / self.sigma

    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        record, weights = torch.is_grad_enabled(), cubic(x[0], self.dt, self.between)
        points = between_states(x, weights)
        points = points if record and points.requires_grad else points.detach().requires_grad_()
        with torch.enable_grad():
            distance = self.distance(points)
            slope = torch.zeros_like(points)
            if distance.requires_grad:
                (slope,) = torch.autograd.grad(distance.sum(), points, create_graph=record, materialize_grads=True)
        distance = distance if record else distance.detach()
        near = self.reach - distance
        pushed = torch.where(near[..., None] > 0, -slope, 0.0) / self.sigma
        return near.clamp(min=0) / self.sigma, [weight * pushed for weight in weights]


def cubic(like: Tensor, dt: float, count: int) -> list[Tensor]:
    """Weights (count, 1) of p, v, q, w at `count` times from one state to the next, which is left out."""
    s = torch.arange(count, dtype=like.dtype, device=like.device)[:, None] / count
    s2, s3 = s.square(), s**3
    return [2 * s3 - 3 * s2 + 1, dt * (s3 - 2 * s2 + s), 3 * s2 - 2 * s3, dt * (s3 - s2)]


def between_states(
    states: Sequence[Tensor],  # (..., M, d) each: p, v, q, w
    weights: Sequence[Tensor],  # (count, 1) each
) -> Tensor:
    """Points (..., M, count, d) on the cubics."""
    p, v, q, w = (weight * x[..., None, :] for weight, x in zip(weights, states, strict=True))
    return p + v + q + w
