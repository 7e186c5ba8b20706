"""Nonlinear least squares by iterated linearization, and the ways to differentiate the solution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.safe import expand_mask
from gradslam_ng.compute.tree import tree_map, tree_where
from gradslam_ng.optim import implicit
from gradslam_ng.optim.problem import Linearization, Point, Problem, detach
from gradslam_ng.optim.sparse import BlockSparse
from gradslam_ng.optim.steps import Damping, SoftLevenbergMarquardt, Step, StepStrategy

BACKWARD = ("unroll", "truncated", "implicit", "implicit-gn", "direct", "detach")


@dataclass(frozen=True)
class Solution:
    """Where the solver ended, and the normal equations there."""

    x: Point  # (..., *event)
    H: Tensor | BlockSparse  # (..., n, n)
    g: Tensor  # (..., n)
    error: Tensor  # (...)
    converged: Tensor | None  # (...) bool; None without a tolerance


class Iterate(NamedTuple):
    """A point and the normal equations there."""

    x: Point  # (..., *event)
    linearization: Linearization


def solve(
    problem: Problem,
    x: Point,  # (..., *event)
    strategy: StepStrategy,
    iterations: int,
    *,
    tolerance: float | None = None,
    backward: str = "unroll",
    backward_iterations: int = 5,
) -> Solution:
    """Minimize `problem.error` from x, linearizing once a step and once at the start.

    Without a tolerance every element of the batch takes that number of steps and the host never looks at a value. With
    one, an element has converged once its next step promises to lower the error by less than that share of it (or by
    less than rounding, of the first error); it stays where it is, and the loop ends when all have.

    `backward` chooses how the solution is differentiated with respect to all that the problem depends on:

    - "unroll": through all iterations, and to the starting x.
    - "truncated": through the last `backward_iterations` (Shaban et al. 2019). The start gets no gradient, here and
      below.
    - "implicit": by the implicit function theorem at the optimum, with the exact Hessian. Right only where the solver
      has converged; memory and time do not depend on the number of iterations, here and below.
    - "implicit-gn": the same with the Gauss-Newton Hessian, cheaper, and biased by the residuals at the optimum.
    - "direct": by direct loss, two optima of the problem perturbed by the loss.
    - "detach": not at all.

    In the last four H and g hold no gradient, and neither does the error in "detach".

    Raises:
        ValueError: an unknown `backward`, or a number of iterations that is negative or less than
            `backward_iterations`.
    """
    if backward not in BACKWARD:
        raise ValueError(f"backward: expected one of {', '.join(BACKWARD)}, got {backward!r}")
    if iterations < 0:
        raise ValueError(f"iterations: expected at least 0, got {iterations}")
    if backward == "unroll" or not torch.is_grad_enabled():
        return _iterate(problem, x, strategy, iterations, tolerance)[0]
    if backward == "truncated":
        if not 0 < backward_iterations <= iterations:
            raise ValueError(f"backward_iterations: expected 1 to iterations = {iterations}, got {backward_iterations}")
        with torch.no_grad():
            before, damping = _iterate(problem, x, strategy, iterations - backward_iterations, tolerance)
        solution = _iterate(problem, detach(before.x), strategy, backward_iterations, None, damping)[0]
        return replace(solution, converged=before.converged)
    with torch.no_grad():
        found, _ = _iterate(problem, x, strategy, iterations, tolerance)
    if backward == "detach":
        return found
    attach = {"implicit": implicit.exact, "implicit-gn": implicit.gauss_newton, "direct": implicit.direct_loss}
    known_H = found.H if isinstance(found.H, BlockSparse) else None  # its factor may be at hand
    delta, error = attach[backward](problem, found.x, torch.zeros_like(found.g), known_H)
    return replace(found, x=problem.retract(found.x, delta), error=error)


def _iterate(
    problem: Problem,
    x: Point,  # (..., *event)
    strategy: StepStrategy,
    iterations: int,
    tolerance: float | None,
    damping: Damping | None = None,
) -> tuple[Solution, Damping]:
    current = Iterate(x, Linearization(*problem.linearize(x)))
    error = current.linearization.error
    damping = strategy.start(current.linearization) if damping is None else damping
    converged = None if tolerance is None else torch.zeros_like(error, dtype=torch.bool)
    rounding = torch.finfo(error.dtype).eps * error.detach()
    propose, accept = (_propose, _accept) if tolerance is None else (_propose.plain, _accept.plain)
    for _ in range(iterations):
        step, x = propose(problem, strategy, current, damping)
        if tolerance is not None and converged is not None:
            goal = torch.maximum(tolerance * current.linearization.error.detach(), rounding)
            converged = converged | (step.predicted.detach() <= goal)
            if bool(converged.all()):
                break
        candidate = Iterate(x, Linearization(*problem.linearize(x)))
        current, damping = accept(problem, strategy, current, candidate, step, damping, converged)
    return Solution(current.x, *current.linearization, converged=converged), damping


@compiled(dynamic=())
def _propose(problem: Problem, strategy: StepStrategy, current: Iterate, damping: Damping) -> tuple[Step, Point]:
    """The step to try, and where it leads."""
    step = strategy.propose(current.linearization, damping)
    return step, problem.retract(current.x, step.delta)


@compiled(dynamic=())
def _accept(
    problem: Problem,
    strategy: StepStrategy,
    current: Iterate,
    candidate: Iterate,
    step: Step,
    damping: Damping,
    converged: Tensor | None,  # (...) bool: these stay where they are
) -> tuple[Iterate, Damping]:
    """Where the step to the candidate leads, as far as it is taken."""
    taken, damping = strategy.accept(current.linearization, candidate.linearization, step, damping)
    if converged is not None:
        taken = torch.where(converged, torch.zeros_like(taken), taken)
    if taken.dtype == torch.bool:
        return tree_where(taken, candidate, current), damping
    x = problem.retract(current.x, taken[..., None] * step.delta)
    if not (isinstance(strategy, SoftLevenbergMarquardt) and strategy.relinearize):
        return Iterate(x, _interpolate(taken, current.linearization, candidate.linearization)), damping
    partial = Iterate(x, Linearization(*problem.linearize(x)))
    highest = current.linearization.error * (1 + strategy.error_noise)
    no_worse = _finite(partial.linearization) & (partial.linearization.error <= highest)
    return tree_where(no_worse, partial, current), damping


def _finite(linearization: Linearization) -> Tensor:
    """(...) bool."""
    H, g, error = linearization
    finite = torch.isfinite(error) & torch.isfinite(g).all(-1)
    return finite & (H.isfinite() if isinstance(H, BlockSparse) else torch.isfinite(H).flatten(-2).all(-1))


def _interpolate(taken: Tensor, current: Linearization, candidate: Linearization) -> Linearization:
    """The linearization a part `taken` (...) of the way from one to the other, each of the three in proportion."""
    candidate = tree_where(_finite(candidate), candidate, current)
    return tree_map(lambda a, b: torch.lerp(a, b, expand_mask(taken, a)), current, candidate)
