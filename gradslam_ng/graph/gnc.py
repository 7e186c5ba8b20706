"""Graduated non-convexity: robust kernels approached from a convex problem, so that no good start is needed."""

from __future__ import annotations

from dataclasses import replace

import torch

from gradslam_ng import optim
from gradslam_ng.graph.factor_graph import FactorGraph

SHRINK = 1.4  # of the squared scale, at each stage


@torch.no_grad()
def graduated_non_convexity(
    graph: FactorGraph, iterations: int = 2, strategy: optim.StepStrategy | None = None
) -> FactorGraph:
    """The graph started close to the optimum of its Geman-McClure factors, whatever the outliers in them.

    Yang, Antonante, Tzoumas and Carlone 2020: with the squared scale 2 max r^2, all residuals lie where the kernel is
    convex; it is then brought down to the kernel's own, by 1.4 a stage, `iterations` steps each. Optimise what this
    returns to have the solution and its gradient.

    Raises:
        ValueError: no factor of the graph has a `GemanMcClure` kernel.
    """
    robust = [k for k, factor in enumerate(graph.factors) if isinstance(factor.kernel, optim.GemanMcClure)]
    if not robust:
        raise ValueError("graduated: no factor has a Geman-McClure kernel")
    strategy = optim.LevenbergMarquardt(damping=1e-9) if strategy is None else strategy
    plain = {k: replace(graph.factors[k], kernel=None) for k in robust}
    graph = graph.started(graph.with_factors(plain).optimize(strategy, iterations, tolerance=None).solution.x)
    worst = torch.stack([_worst(graph, k) for k in robust]).amax()
    stage = float(2 * worst.clamp(min=1.0))
    while stage > 1.0:
        kernels = {k: graph.factors[k].kernel for k in robust}
        softer = {
            k: replace(graph.factors[k], kernel=optim.GemanMcClure(stage**0.5 * kernel.scale))
            for k, kernel in kernels.items()
        }
        solved = graph.with_factors(softer).optimize(strategy, iterations, tolerance=None)
        graph = graph.started(solved.solution.x)
        stage /= SHRINK
    return graph


def _worst(graph: FactorGraph, k: int) -> torch.Tensor:
    """The largest squared residual of a kind of factors, in units of its kernel's scale."""
    factor = graph.factors[k]
    s = factor.squared(*graph._at(graph.x)[k]) / torch.as_tensor(factor.kernel.scale) ** 2
    return s.amax() if s.numel() else s.new_zeros(())
