"""Learning what a graph depends on (noise models above all) through its solution."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.optim.costs import evaluate


@mode_free
def surrogate_loss(
    graph: FactorGraph, ground_truth: dict[str, Tensor], steps: int = 5, strategy: optim.StepStrategy | None = None
) -> Tensor:
    """How far `steps` steps lead away from the truth: mean squared tangent distance (...) of the variables named.

    The surrogate of Yi et al. 2021, "Differentiable Factor Graph Optimization for Learning Smoothers", section IV:
    start where the solution should be, unroll a few Gauss-Newton steps, and ask that they stay. It has the same optimum
    as an error after full optimization, but no local minima of the start's making and only a short way back.

    Use float64: in float32 the floor under the eigenvalues of the normal equations is high enough to be taken for
    knowledge of the start, and trusting no measurement at all then looks perfect.

    ground_truth: (..., N, *event) by name, of those variables that are known; others start where the graph has them.

    Raises:
        ValueError: a name that is none of the graph's, or not even one step.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    if unknown := ground_truth.keys() - graph.values.keys():
        raise ValueError(f"ground_truth: expected some of {', '.join(graph.values)}, got {sorted(unknown)[0]!r}")
    start = graph.with_values(tuple(ground_truth.get(name, x) for name, x in graph.values.items()))
    solution = start.optimize(strategy or optim.GaussNewton(), steps, tolerance=None)
    squares = [
        graph.variables[name].local(truth, solution[name]).square().mean((-2, -1))
        for name, truth in ground_truth.items()
    ]
    return reduce(torch.add, squares) / len(squares)


def negative_log_likelihood(graph: FactorGraph, ground_truth: dict[str, Tensor]) -> Tensor:
    """Of all factors at the truth, per factor (...): what noise models are fitted by without any solver.

    Gaussian factors with an `IsotropicWeight` or `DiagonalWeight`; half of the squared whitened residuals less the log
    of the weights.

    Raises:
        ValueError: a factor without a weight.
    """
    x = tuple(ground_truth.get(name, value) for name, value in graph.values.items())
    total, count = graph.error(x), 0
    for factor in graph.factors:
        if factor.weight is None:
            raise ValueError("negative_log_likelihood: expected a weight on every factor")
        value = evaluate(factor.weight.value)  # (..., M) or (..., M, d)
        isotropic = isinstance(factor.weight, optim.IsotropicWeight)
        d = factor.residual(*graph.values_of(factor, x)).shape[-1]
        logarithm = value.log()
        total = total - (d * logarithm if isotropic else logarithm.sum(-1)).sum(-1)
        count += value.shape[-1 if isotropic else -2]
    return total / count
