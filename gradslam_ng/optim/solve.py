"""The solver: one loop, and the ways to differentiate it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.safe import expand_mask
from gradslam_ng.compute.tree import tree_map, tree_where
from gradslam_ng.optim import implicit
from gradslam_ng.optim.problem import Linearization, Point, Problem, detach
from gradslam_ng.optim.sparse import BlockSparse
from gradslam_ng.optim.steps import Damping, Step, StepStrategy

BACKWARD = ("unroll", "truncated", "implicit", "implicit-gn", "direct", "detach")


@dataclass(frozen=True)
class Solution:
    """Where the solver ended, and the normal equations there."""

    x: Point  # (..., *event)
    H: Tensor | BlockSparse  # (..., n, n)
    g: Tensor  # (..., n)
    error: Tensor  # (...)
    converged: Tensor | None  # (...) bool; None without a tolerance


def solve(
    problem: Problem,
    x: Point,
    strategy: StepStrategy,
    iterations: int,
    *,
    tolerance: float | None = None,
    backward: str = "unroll",
    last: int = 5,
) -> Solution:
    """Minimise `problem.error` from x (..., *event), linearising once a step and once at the start.

    Without a tolerance every element of the batch takes that number of steps and the host never looks at a value. With
    one, an element rests once its next step promises to lower the error by less than that share of it (or by less than
    rounding, of the first error), and the loop ends when all rest.

    `backward` chooses how the solution is differentiated with respect to all that the problem depends on:

    - "unroll": through all iterations, and to the starting x.
    - "truncated": through the `last` ones (Shaban et al. 2019). The start gets no gradient, here and below.
    - "implicit": by the implicit function theorem at the optimum, with the exact Hessian. Right only where the solver
      has converged; memory and time do not depend on the number of iterations, here and below.
    - "implicit-gn": the same with the Gauss-Newton Hessian, cheaper, and biased by the residuals at the optimum.
    - "direct": by direct loss, two optima of the problem perturbed by the loss.
    - "detach": not at all.

    In the last four H and g hold no gradient, and neither does the error in "detach".

    Raises:
        ValueError: an unknown `backward`, or a number of iterations that is negative or less than `last`.
    """
    if backward not in BACKWARD:
        raise ValueError(f"backward: expected one of {', '.join(BACKWARD)}, got {backward!r}")
    if iterations < 0:
        raise ValueError(f"iterations: expected at least 0, got {iterations}")
    if backward == "unroll" or not torch.is_grad_enabled():
        return _iterate(problem, x, strategy, iterations, tolerance)[0]
    if backward == "truncated":
        if not 0 < last <= iterations:
            raise ValueError(f"last: expected 1 to iterations = {iterations}, got {last}")
        with torch.no_grad():
            before, damping = _iterate(problem, x, strategy, iterations - last, tolerance)
        solution = _iterate(problem, detach(before.x), strategy, last, None, damping)[0]
        return replace(solution, converged=before.converged)
    with torch.no_grad():
        found, _ = _iterate(problem, x, strategy, iterations, tolerance)
    if backward == "detach":
        return found
    attach = {"implicit": implicit.exact, "implicit-gn": implicit.gauss_newton, "direct": implicit.direct_loss}
    known = found.H if isinstance(found.H, BlockSparse) else None  # its factor may be at hand
    delta, error = attach[backward](problem, found.x, torch.zeros_like(found.g), known)
    return replace(found, x=problem.retract(found.x, delta), error=error)


def _iterate(
    problem: Problem,
    x: Point,
    strategy: StepStrategy,
    iterations: int,
    tolerance: float | None,
    damping: Damping | None = None,
) -> tuple[Solution, Damping]:
    here = Linearization(*problem.linearize(x))
    damping = strategy.start(here) if damping is None else damping
    resting = None if tolerance is None else torch.zeros_like(here.error, dtype=torch.bool)
    rounding = torch.finfo(here.error.dtype).eps * here.error.detach()
    propose, judge = (_proposed, _judged) if tolerance is None else (_proposed.plain, _judged.plain)
    for _ in range(iterations):
        step, trial = propose(problem, strategy, x, here, damping)
        if tolerance is not None:
            goal = torch.maximum(tolerance * here.error.detach(), rounding)
            resting = resting | (step.predicted.detach() <= goal)
            if bool(resting.all()):
                break
        there = Linearization(*problem.linearize(trial))
        x, here, damping = judge(problem, strategy, x, here, trial, there, step, damping, resting)
    return Solution(x, *here, converged=resting), damping


@compiled(dynamic=())
def _proposed(
    problem: Problem, strategy: StepStrategy, x: Point, here: Linearization, damping: Damping
) -> tuple[Step, Point]:
    """The step to try from x, and where it leads."""
    step = strategy.propose(here, damping)
    return step, problem.retract(x, step.delta)


@compiled(dynamic=())
def _judged(
    problem: Problem,
    strategy: StepStrategy,
    x: Point,
    here: Linearization,
    trial: Point,
    there: Linearization,
    step: Step,
    damping: Damping,
    resting: Tensor | None,
) -> tuple[Point, Linearization, Damping]:
    """Where the step tried from x leaves it; x stays where `resting` (...) holds."""
    taken, damping = strategy.judge(here, there, step, damping)
    if resting is not None:
        taken = torch.where(resting, torch.zeros_like(taken), taken)
    if taken.dtype == torch.bool:
        x, here = tree_where(taken, (trial, there), (x, here))
        return x, here, damping
    between = problem.retract(x, taken[..., None] * step.delta)
    if not strategy.relinearize:
        return between, _blend(taken, there, here), damping
    there = Linearization(*problem.linearize(between))
    no_worse = _finite(there) & (there.error <= here.error * (1 + strategy.error_noise))
    x, here = tree_where(no_worse, (between, there), (x, here))
    return x, here, damping


def _finite(there: Linearization) -> Tensor:
    finite = torch.isfinite(there.error) & torch.isfinite(there.g).all(-1)
    H = there.H
    return finite & (H.isfinite() if isinstance(H, BlockSparse) else torch.isfinite(H).flatten(-2).all(-1))


def _blend(taken: Tensor, there: Linearization, here: Linearization) -> Linearization:
    """The linearisation a part `taken` of the way from here to there, each of the three in proportion."""
    there = tree_where(_finite(there), there, here)

    def mix(a: Tensor, b: Tensor) -> Tensor:
        return torch.lerp(a, b, expand_mask(taken, a))

    return tree_map(mix, here, there)
