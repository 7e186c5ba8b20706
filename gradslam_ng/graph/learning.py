"""Learning what a graph depends on (noise models above all) through its solution."""

from __future__ import annotations

from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.optim.costs import evaluate


def surrogate_loss(
    graph: FactorGraph, ground_truth: dict[str, Tensor], steps: int = 5, strategy: optim.StepStrategy | None = None
) -> Tensor:
    """How far `steps` steps lead away from the truth: mean squared tangent distance (...) of the unknowns named.

    The surrogate of Yi et al. 2021, "Differentiable Factor Graph Optimization for Learning Smoothers", section IV:
    start where the solution should be, unroll a few Gauss-Newton steps, and ask that they stay. It has the same optimum
    as an error after full optimisation, but no local minima of the start's making and only a short way back.

    Use float64: in float32 the floor under the eigenvalues of the normal equations is high enough to be taken for
    knowledge of the start, and trusting no measurement at all then looks perfect.

    ground_truth: (..., N, *event) by name, of those unknowns that are known; others start where the graph has them.

    Raises:
        ValueError: a name that is none of the graph's, or not even one step.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    if unknown := ground_truth.keys() - graph.values.keys():
        raise ValueError(f"ground_truth: expected some of {', '.join(graph.values)}, got {sorted(unknown)[0]!r}")
    started = graph.started(tuple(ground_truth.get(name, x) for name, x in graph.values.items()))
    solution = started.optimize(strategy or optim.GaussNewton(), steps, tolerance=None)
    squares = [
        graph.variables[name].local(truth, solution[name]).square().mean((-2, -1))
        for name, truth in ground_truth.items()
    ]
    return sum(squares) / len(squares)


def negative_log_likelihood(graph: FactorGraph, ground_truth: dict[str, Tensor]) -> Tensor:
    """Of all factors at the truth, per factor (...): what noise models are fitted by without any solver.

    Gaussian factors with an `IsotropicWeight` or `DiagonalWeight`; half of the squared whitened residuals less the log
    of the weights.
    """
    x = tuple(ground_truth.get(name, value) for name, value in graph.values.items())
    total, count = graph.error(x), 0
    for factor, at in zip(graph.factors, graph._at(x), strict=True):
        value = evaluate(factor.weight.value)
        d = factor.residual(*at).shape[-1]
        logarithm = value.log()
        total = total - (d * logarithm if isinstance(factor.weight, optim.IsotropicWeight) else logarithm.sum(-1)).sum(
            -1
        )
        count += value.shape[-1 if isinstance(factor.weight, optim.IsotropicWeight) else -2]
    return total / count
