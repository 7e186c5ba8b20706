"""Graduated non-convexity (GNC): robust kernels approached from a convex problem, so that no good start is needed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.graph.factor import Factor
from gradslam_ng.graph.factor_graph import FactorGraph

SHRINK = 1.4  # of the squared scale, at each stage


def graduated_non_convexity(
    graph: FactorGraph, iterations: int = 2, strategy: optim.StepStrategy | None = None
) -> FactorGraph:
    """The graph started close to the optimum of its Geman-McClure factors, whatever the outliers in them.

    Yang, Antonante, Tzoumas and Carlone 2020: with the squared scale 2 max r^2, all residuals lie where the kernel is
    convex; it is then brought down to the kernel's own, by 1.4 a stage, `iterations` steps each. Optimize what this
    returns to have the solution and its gradient.

    Raises:
        ValueError: no factor of the graph has a `GemanMcClure` kernel.
    """
    kernels = {k: f.kernel for k, f in enumerate(graph.factors) if isinstance(f.kernel, optim.GemanMcClure)}
    if not kernels:
        raise ValueError("graduated: no factor has a Geman-McClure kernel")
    strategy = optim.LevenbergMarquardt(damping=1e-9) if strategy is None else strategy
    return graph.started_at(_approach(graph, kernels, iterations, strategy))


@torch.no_grad()
def _approach(
    graph: FactorGraph, kernels: dict[int, optim.GemanMcClure], iterations: int, strategy: optim.StepStrategy
) -> tuple[Tensor, ...]:
    """Where the stages lead; `kernels` by the numbers of their factors."""
    plain = {k: replace(graph.factors[k], kernel=None) for k in kernels}
    graph = graph.with_values(graph.with_factors(plain).optimize(strategy, iterations, tolerance=None).x)
    worst = torch.stack([_worst(graph, graph.factors[k], kernel) for k, kernel in kernels.items()]).amax()
    stage = float(2 * worst.clamp(min=1.0))
    while stage > 1.0:
        softer = {
            k: replace(graph.factors[k], kernel=optim.GemanMcClure(stage**0.5 * kernel.scale))
            for k, kernel in kernels.items()
        }
        graph = graph.with_values(graph.with_factors(softer).optimize(strategy, iterations, tolerance=None).x)
        stage /= SHRINK
    return graph.initial


def _worst(graph: FactorGraph, factor: Factor, kernel: optim.GemanMcClure) -> Tensor:
    """The largest squared residual () of a kind of factors, in units of its kernel's scale."""
    s = factor.squared(*graph.values_of(factor, graph.initial)) / torch.as_tensor(kernel.scale) ** 2
    return s.amax() if s.numel() else s.new_zeros(())
