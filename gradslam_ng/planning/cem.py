"""Top-k selection with a gradient, and the cross-entropy method differentiated through it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint as recompute

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.transforms import is_vmapped
from gradslam_ng.planning.checks import check_all, check_tensors

SATURATED = 40.0  # sigmoid(-40) = 4e-18 is nothing beside 1 in float64
NEWTON_STEPS = 64
LEAST_STD = 1e-6  # of the samples, relative to that of the start: the root of a variance has no derivative at zero


@mode_free
def soft_top_k(
    scores: Tensor,  # (..., n)
    k: int,
    temperature: float | Tensor = 1.0,  # or (..., 1)
) -> Tensor:
    """Weights y (..., n) from 0 to 1 that sum to k, large where scores are among the k largest.

    The limited multi-label projection (Amos, Koltun and Kolter 2019), the y that maximizes score . y + temperature *
    (sum of binary entropies of y) with sum y = k: y = sigmoid(score / temperature + nu), with one number nu found by
    Newton's method within brackets. As the temperature goes to zero it selects the k best; ties share. k = n gives
    ones.

    The gradient follows from the optimality conditions: with h = y (1 - y), a gradient g to y is h (g - h.g / sum h) to
    score / temperature; the search for nu is not recorded.

    Raises:
        TypeError: scores that are no tensor of floating-point numbers.
        ValueError: no scores; k not from 1 to n; a temperature that is not positive; scores that are not finite, or not
            once divided by the temperature.
    """
    check_tensors(scores=scores)
    n = scores.shape[-1] if scores.ndim else 0
    if not 1 <= k <= n:
        raise ValueError(f"k: expected from 1 to the number of scores, {n}, got {k}")
    _check_temperature(temperature)
    if k == n:
        return torch.ones_like(scores) + 0.0 * scores
    scaled = scores.double() / temperature
    check_all("scores / temperature", scaled.detach().isfinite(), "finite numbers")
    return _SoftTopK.apply(scaled, k).to(scores)


def _check_temperature(temperature: float | Tensor) -> None:
    if isinstance(temperature, Tensor):
        check_all("temperature", temperature.detach() > 0, "positive numbers")
    elif not temperature > 0:
        raise ValueError(f"temperature: expected a positive number, got {temperature}")


class _SoftTopK(Function):
    """x (..., n) float64 to sigmoid(x + nu) with the sum k < n."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, k: int) -> Tensor:
        return _project(x, k)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _tangent(ctx.saved_tensors[0], g), None

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor, _: None) -> Tensor:
        return _tangent(ctx.saved_tensors[0], x_t)  # the derivative is symmetric


def _tangent(y: Tensor, g: Tensor) -> Tensor:
    h = y * (1.0 - y)
    total = h.sum(-1, keepdim=True)
    mean = (h * g).sum(-1, keepdim=True) / torch.where(total > 0, total, 1.0)
    return h * (g - mean)


def _project(x: Tensor, k: int) -> Tensor:
    """Newton's method on the logit of the mean of y, close to linear in nu, bisecting where it leaves the bracket."""
    n = x.shape[-1]
    best = x.topk(k + 1, dim=-1).values
    inside, outside = best[..., k - 1 : k], best[..., k:]
    gap = (0.5 * inside - 0.5 * outside).clamp(max=SATURATED)
    x = (x - outside - (0.5 * inside - 0.5 * outside)).clamp(-3 * SATURATED, 3 * SATURATED)
    low, high = -gap - math.log(n - k), gap + math.log(k)
    nu = torch.zeros_like(gap)
    for _ in range(NEWTON_STEPS):
        y = torch.sigmoid(x + nu)
        total = y.sum(-1, keepdim=True)
        slope = total - y.square().sum(-1, keepdim=True)
        off = total - k
        if not is_vmapped(x) and bool((off.abs() <= (1e-7 * slope).clamp(min=1e-13 * k)).all()):
            break
        low, high = torch.where(off < 0, nu, low), torch.where(off > 0, nu, high)
        rest = n - total
        newton = nu - (total * (n - k) / (rest * k)).log() * total * rest / (n * slope)
        nu = torch.where((newton > low) & (newton < high), newton, 0.5 * (low + high))
    h = y * (1.0 - y)
    spread = h.sum(-1, keepdim=True)
    return (y - h * (off / torch.where(spread > 0, spread, 1.0))).clamp(0.0, 1.0)  # the last step, linear


class CEMResult(NamedTuple):
    """Where the distribution ended, and the best of all samples."""

    mean: Tensor  # (..., d), with gradient unless the temperature is None
    std: Tensor  # (..., d), at least 1e-6 of the start's
    best: Tensor  # (..., d), the sample of least cost, without gradient
    cost: Tensor  # (...), of it; infinite if none is finite


@mode_free
def cem(
    cost: Callable[[Tensor], Tensor],  # (..., samples, d) -> (..., samples)
    mean: Tensor,  # (..., d)
    std: Tensor,  # (..., d)
    *,
    samples: int = 100,
    elites: int = 10,
    iterations: int = 10,
    temperature: float | Tensor | None = 1.0,
    limits: tuple[Tensor | float, Tensor | float] | None = None,
    checkpoint: bool = False,
    generator: torch.Generator | None = None,
) -> CEMResult:
    """Minimize a cost by the cross-entropy method, differentiably (Amos and Yarats 2020).

    Each iteration draws samples x = mean + std * noise, and takes mean and standard deviation of those of low cost
    anew, each sample weighted by `soft_top_k` of its standardized cost; with temperature None the best are taken,
    without gradient to the cost. The gradient goes through all iterations, to mean, std, limits, temperature and
    whatever the cost depends on. Every element of a batch sees the same noise, so it does not depend on the others.

    Args:
        limits: lowest and highest values, broadcast to (..., d); samples are clipped.
        checkpoint: keep only mean and std of each iteration for the backward pass, which computes samples and costs
            again: memory of one iteration.
        generator: of the noise; default: torch's own.

    A cost that is infinite or no number is that of a sample that must not be: it gets no weight and no gradient.

    Raises:
        TypeError: mean or std that are no tensors of floating-point numbers.
        ValueError: std not positive, limits crossed, elites not from 1 to the number of samples, a temperature that is
            not positive, costs of another shape, or fewer finite costs than elites.
    """
    check_tensors(mean=mean, std=std)
    check_all("std", std.detach() > 0, "positive numbers")
    if not 1 <= elites <= samples or iterations < 1:
        raise ValueError(
            f"elites, iterations: expected 1 <= elites <= samples and one iteration at least, got {elites} elites of "
            f"{samples} samples, {iterations} iterations"
        )
    if temperature is not None:
        _check_temperature(temperature)
    mean, std = torch.broadcast_tensors(mean, std)
    bounds = None if limits is None else _limits(limits, mean)
    floor = LEAST_STD * std.detach()
    noise = torch.randn(iterations, samples, mean.shape[-1], generator=generator, dtype=mean.dtype, device=mean.device)
    best, least = mean.detach(), torch.full_like(mean[..., 0].detach(), torch.inf)

    def iterate(mean: Tensor, std: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = mean[..., None, :] + std[..., None, :] * z
        x = x if bounds is None else torch.minimum(torch.maximum(x, bounds[0][..., None, :]), bounds[1][..., None, :])
        costs = cost(x)
        if costs.shape != x.shape[:-1]:
            raise ValueError(f"cost: expected one number a sample, {tuple(x.shape[:-1])}, got {tuple(costs.shape)}")
        weights = _weights(costs, elites, temperature)[..., None] / elites
        mean = (weights * x).sum(-2)
        variance = (weights * (x - mean[..., None, :]).square()).sum(-2)
        lowest = costs.detach().nan_to_num(nan=torch.inf).min(-1)
        at = lowest.indices[..., None, None].expand(*lowest.indices.shape, 1, x.shape[-1])
        return mean, (variance + floor.square()).sqrt(), x.detach().gather(-2, at)[..., 0, :], lowest.values

    for z in noise:
        if checkpoint:
            mean, std, x, value = recompute(iterate, mean, std, z, use_reentrant=False)
        else:
            mean, std, x, value = iterate(mean, std, z)
        better = value < least
        best, least = torch.where(better[..., None], x, best), torch.where(better, value, least)
    return CEMResult(mean, std, best, least)


def _limits(limits: tuple[Tensor | float, Tensor | float], mean: Tensor) -> tuple[Tensor, Tensor]:
    """Both as tensors (..., d)."""
    low, high = (torch.as_tensor(x, dtype=mean.dtype, device=mean.device).expand_as(mean) for x in limits)
    check_all("limits", low.detach() <= high.detach(), "the lower at most the upper")
    return low, high


def _weights(costs: Tensor, elites: int, temperature: float | Tensor | None) -> Tensor:
    """(..., samples), summing to the number of elites."""
    finite = costs.detach().isfinite()
    check_all("cost", finite.sum(-1) >= elites, f"finite costs of {elites} samples at least, as many as elites")
    count = finite.sum(-1, keepdim=True)
    known = torch.where(finite, costs, 0.0)
    if temperature is None:
        order = torch.where(finite, costs.detach(), torch.inf).topk(elites, largest=False).indices
        return torch.zeros_like(known).scatter(-1, order, 1.0)
    scale = known.detach().abs().amax(-1, keepdim=True).clamp(min=torch.finfo(costs.dtype).tiny)
    known = known / scale  # standardized below: no square over- or underflows
    mean = known.sum(-1, keepdim=True) / count
    variance = torch.where(finite, (known - mean).square(), 0.0).sum(-1, keepdim=True) / count
    even = variance <= torch.finfo(costs.dtype).eps ** 2  # all cost the same
    standard = (known - mean) / torch.where(even, 1.0, variance).sqrt()
    scores = -torch.where(even, 0.0, standard)
    lowest = torch.where(finite, scores.detach(), torch.inf).amin(-1, keepdim=True)
    return soft_top_k(torch.where(finite, scores, lowest - 2 * SATURATED * temperature), elites, temperature)
