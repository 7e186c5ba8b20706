"""The solver's loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.optim.problem import Linearization, Problem, expand_to, select
from gradslam_ng.optim.steps import Rule, Step


@dataclass(frozen=True)
class Solution:
    """Where the solver ended, and the normal equations there."""

    x: Tensor  # (..., *event)
    H: Tensor  # (..., n, n)
    g: Tensor  # (..., n)
    error: Tensor  # (...)


def solve(problem: Problem, x: Tensor, rule: Rule, iterations: int) -> Solution:
    """Minimise the error from x (..., *event) in a fixed number of steps, linearising once a step and once at x."""
    here = Linearization(*problem.linearize(x))
    damping = rule.start(here)
    for _ in range(iterations):
        step = rule.propose(here, damping)
        trial = problem.retract(x, step.delta)
        there = Linearization(*problem.linearize(trial))
        taken, damping = rule.judge(here, there, step, damping)
        if taken.dtype == torch.bool:
            x, here = torch.where(expand_to(taken, x), trial, x), select(taken, there, here)
        else:
            x, here = problem.retract(x, taken[..., None] * step.delta), interpolate(here, there, step, taken)
    return Solution(x, *here)


def interpolate(here: Linearization, there: Linearization, step: Step, taken: Tensor) -> Linearization:
    """The linearisation a part `taken` of the way along a step, from those at its two ends.

    H and g go linearly. The error follows the parabola through its two ends with the slope known here; it is never
    negative, as the model of a least-squares cost isn't. All exact for a quadratic cost.
    """
    finite = torch.isfinite(there.error) & torch.isfinite(there.g).all(-1)
    there = select(finite, there, here)
    slope = (here.g * step.delta).sum(-1)
    error = here.error + taken * slope + taken**2 * (there.error - here.error - slope)
    H = torch.lerp(here.H, there.H, taken[..., None, None])
    return Linearization(H, torch.lerp(here.g, there.g, taken[..., None]), error)
