"""Nonlinear least squares by iterated linearization, and the ways to differentiate the solution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.safe import expand_mask
from gradslam_ng.compute.transforms import functorch_active, is_vmapped, refuse_second_derivatives
from gradslam_ng.compute.tree import tree_map, tree_where
from gradslam_ng.optim import implicit
from gradslam_ng.optim.compose import Sum
from gradslam_ng.optim.problem import Linearization, Point, Problem, detach
from gradslam_ng.optim.sparse import BlockSparse
from gradslam_ng.optim.steps import (
    Damping,
    SoftLevenbergMarquardt,
    Step,
    StepStrategy,
    error_rounding,
    point_rounding,
)

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


@mode_free
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
    less than rounding, of the first error or of the unknowns); it stays where it is, and the loop ends when all have.

    `backward` chooses how the solution is differentiated with respect to all that the problem depends on:

    - "unroll": through all iterations, and to the starting x. With a tolerance, elements that converge sooner are
      differentiated through `backward_iterations` steps all the same, the last of them of length zero: so a search that
      starts at its optimum has the gradient of the optimum, and nearly none to where it started.
    - "truncated": through the last `backward_iterations` (Shaban et al. 2019), and of first order only. The start gets
      no gradient, here and below.
    - "implicit": by the implicit function theorem at the optimum, with the exact Hessian. Right only where the solver
      has converged; memory and time do not depend on the number of iterations, here and below.
    - "implicit-gn": the same with the Gauss-Newton Hessian, cheaper, and biased by the residuals at the optimum.
    - "direct": by direct loss, two optima of the problem perturbed by the loss.
    - "detach": not at all.

    In the last four H and g hold no gradient, and neither does the error in "detach".

    Raises:
        ValueError: an unknown `backward`, or a number of iterations that is negative or less than
            `backward_iterations`.
        RuntimeError: within `torch.vmap`, with a tolerance.
    """
    if backward not in BACKWARD:
        raise ValueError(f"backward: expected one of {', '.join(BACKWARD)}, got {backward!r}")
    if iterations < 0:
        raise ValueError(f"iterations: expected at least 0, got {iterations}")
    if backward == "unroll" or not torch.is_grad_enabled():
        begun = _begin(problem, x, strategy, tolerance)
        return _iterate(problem, begun, strategy, iterations, tolerance, backward_iterations).solution
    if backward == "truncated":
        if not 0 < backward_iterations <= iterations:
            raise ValueError(f"backward_iterations: expected 1 to iterations = {iterations}, got {backward_iterations}")
        with torch.no_grad():
            begun = _begin(problem, x, strategy, tolerance)
            before = _iterate(problem, begun, strategy, iterations - backward_iterations, tolerance)
        begun = before._replace(current=_linearize(problem, detach(before.current.x)))
        found = _iterate(problem, begun, strategy, backward_iterations, tolerance, backward_iterations).solution
        return _first_order(found)
    with torch.no_grad():
        found = _iterate(problem, _begin(problem, x, strategy, tolerance), strategy, iterations, tolerance).solution
    if backward == "detach":
        return replace(found, x=detach(found.x), H=tree_map(Tensor.detach, found.H))  # forward mode heeds no no_grad
    if functorch_active():
        raise RuntimeError(f"backward={backward!r} is not for transforms of torch.func: use 'unroll' or 'truncated'")
    attach = {"implicit": implicit.exact, "implicit-gn": implicit.gauss_newton, "direct": implicit.direct_loss}
    known_H = found.H if isinstance(found.H, BlockSparse) else None  # its factor may be at hand
    delta, error = attach[backward](problem, found.x, torch.zeros_like(found.g), known_H)
    return replace(found, x=problem.retract(found.x, delta), error=error)


def _first_order(found: Solution) -> Solution:
    """The solution, whose second derivatives are refused: they would see the last steps move and not their start."""
    message = "backward='truncated' has no second derivatives: use 'unroll' or 'implicit'"
    x, H, g, error = tree_map(
        lambda value: refuse_second_derivatives(message, value), (found.x, found.H, found.g, found.error)
    )
    return replace(found, x=x, H=H, g=g, error=error)


class Progress(NamedTuple):
    """Where the iterations stand."""

    current: Iterate
    damping: Damping
    converged: Tensor | None  # (...) bool; None without a tolerance
    rounding: Tensor  # (...), a decrease of the error that means nothing

    @property
    def solution(self) -> Solution:
        return Solution(self.current.x, *self.current.linearization, converged=self.converged)


def _linearize(problem: Problem, x: Point) -> Iterate:
    return Iterate(x, Linearization(*problem.linearize(x)))


def _begin(problem: Problem, x: Point, strategy: StepStrategy, tolerance: float | None) -> Progress:
    current = _linearize(problem, x)
    error = current.linearization.error.detach()
    if tolerance is not None and is_vmapped(error):
        raise RuntimeError("vmap: whether all have converged is asked after each step; use tolerance=None")
    converged = None if tolerance is None else torch.zeros_like(error, dtype=torch.bool)
    rounding = torch.finfo(error.dtype).eps * error
    return Progress(current, strategy.start(current.linearization), converged, rounding)


def _iterate(
    problem: Problem,
    progress: Progress,
    strategy: StepStrategy,
    iterations: int,
    tolerance: float | None,
    recorded: int = 0,  # fewest steps through which an element is differentiated, if at all
) -> Progress:
    current, damping, converged, rounding = progress
    steps = _moved_by(problem, strategy)
    propose, accept = (_propose, _accept) if tolerance is None else (_propose.plain, _accept.plain)
    for number in range(iterations):
        step, x = propose(steps, strategy, current, damping)
        if tolerance is not None and converged is not None:
            converged = converged | (step.predicted.detach() <= _goal(current.linearization, tolerance, rounding))
            if bool(converged.all()) and not (number < recorded and step.delta.requires_grad):
                break
            step, x = _hold(problem, current, step, converged)
        candidate = _linearize(problem, x)
        left = current.linearization.H
        current, damping = accept(steps, strategy, current, candidate, step, damping, converged)
        if isinstance(left, BlockSparse):
            left.drop_factor()  # the caller may hold the first of all until the last is found
    return Progress(current, damping, converged, rounding)


def _moved_by(problem: Problem, strategy: StepStrategy) -> Problem:
    """What steps are taken in: of a sum its variable alone, unless it is to be linearized again where a step leads. So
    there is one compiled version for all sums over it, and none of their images is handed on."""
    relinearized = isinstance(strategy, SoftLevenbergMarquardt) and strategy.relinearize
    return cast(Problem, problem.variable) if isinstance(problem, Sum) and not relinearized else problem


def _goal(current: Linearization, tolerance: float, rounding: Tensor) -> Tensor:
    """A decrease of the error (...) with whose promise an element has converged."""
    goal = torch.maximum(tolerance * current.error.detach(), rounding)
    return torch.maximum(goal, point_rounding(current))


def _hold(problem: Problem, current: Iterate, step: Step, converged: Tensor) -> tuple[Step, Point]:
    """The step, of length zero where an element has converged, and where it leads.

    Zero with the gradient of the step: by the implicit function theorem an optimum moves as the Newton step from it
    does, and each such step brings the gradient nearer to that of the optimum.
    """
    delta = torch.where(converged[..., None], step.delta - step.delta.detach(), step.delta)
    return step._replace(delta=delta), problem.retract(current.x, delta)


@compiled(dynamic=("problem",))
def _propose(problem: Problem, strategy: StepStrategy, current: Iterate, damping: Damping) -> tuple[Step, Point]:
    """The step to try, and where it leads."""
    step = strategy.propose(current.linearization, damping)
    return step, problem.retract(current.x, step.delta)


@compiled(dynamic=("problem",))
def _accept(
    problem: Problem,
    strategy: StepStrategy,
    current: Iterate,
    candidate: Iterate,
    step: Step,
    damping: Damping,
    converged: Tensor | None,  # (...) bool: these take a step of length zero, undamped
) -> tuple[Iterate, Damping]:
    """Where the step to the candidate leads, as far as it is taken."""
    taken, damping = strategy.accept(current.linearization, candidate.linearization, step, damping)
    if converged is not None:
        taken = torch.where(converged, torch.ones_like(taken), taken)
        damping = damping._replace(value=torch.where(converged, 0.0, damping.value))
    if taken.dtype == torch.bool:
        return tree_where(taken, candidate, current), damping
    x = problem.retract(current.x, taken[..., None] * step.delta)
    if not (isinstance(strategy, SoftLevenbergMarquardt) and strategy.relinearize):
        return Iterate(x, _interpolate(taken, current.linearization, candidate.linearization)), damping
    partial = Iterate(x, Linearization(*problem.linearize(x)))
    before = current.linearization
    highest = before.error * (1 + strategy.error_noise) + error_rounding(before)
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
