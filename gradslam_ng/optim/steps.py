"""Step rules: Gauss-Newton, Levenberg-Marquardt, and Levenberg-Marquardt with soft decisions.

A rule proposes a step from the linearisation at hand and, once the problem has been linearised where that step leads,
judges it. So an iteration costs one linearisation. All state is per batch element and nothing is read back to the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gradslam_ng.optim.linear import factor
from gradslam_ng.optim.problem import Linearization


class Damping(NamedTuple):
    """What a rule remembers between iterations."""

    value: Tensor  # (...), relative to the diagonal of H
    growth: Tensor  # (...), by how much the next bad step multiplies it


class Step(NamedTuple):
    delta: Tensor  # (..., n)
    predicted: Tensor  # (...), decrease of the error that the quadratic model expects, >= 0


class StepStrategy(Protocol):
    def start(self, here: Linearization) -> Damping: ...

    def propose(self, here: Linearization, damping: Damping) -> Step: ...

    def judge(self, here: Linearization, there: Linearization, step: Step, damping: Damping) -> tuple[Tensor, Damping]:
        """How much of the step to take, and the next damping. A bool (...) takes it whole or not at all, a float (...)
        from 0 to 1 in part; a rule that does the latter says in `relinearize` how the solver goes on from there."""
        ...


@dataclass(frozen=True)
class GaussNewton:
    """Every step taken whole (Nocedal and Wright 2006, section 10.3)."""

    def start(self, here: Linearization) -> Damping:
        return Damping(torch.zeros_like(here.error), torch.ones_like(here.error))

    def propose(self, here: Linearization, damping: Damping) -> Step:
        delta = -factor(here.H).solve(here.g)
        return Step(delta, -0.5 * (here.g * delta).sum(-1))

    def judge(self, here: Linearization, there: Linearization, step: Step, damping: Damping) -> tuple[Tensor, Damping]:
        return torch.ones_like(here.error, dtype=torch.bool), damping


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Damping steered by the gain ratio, worse steps refused (Madsen, Nielsen and Tingleff 2004, algorithm 3.16).

    damping: at the start, relative to the diagonal of H. A tensor may require a gradient.
    slack: changes of the error below this share of it are noise (rounding, changing associations) and count as
        agreement with the model (Conn, Gould and Toint 2000, section 17.4.2).
    """

    damping: float | Tensor = 1e-3
    error_noise: float = 1e-6

    def start(self, here: Linearization) -> Damping:
        value = (torch.ones_like(here.error) * self.damping).to(here.error.dtype)  # as_tensor waits for a GPU
        return Damping(value, torch.full_like(here.error, 2.0))

    def propose(self, here: Linearization, damping: Damping) -> Step:
        solver = factor(here.H, damping.value)
        delta = -solver.solve(here.g)
        return Step(delta, 0.5 * (damping.value * solver.norm2(delta) - (here.g * delta).sum(-1)))

    def gain(self, here: Linearization, there: Linearization, step: Step) -> Tensor:
        """Actual over predicted decrease: free of the scale of the error, 1 where the model is right."""
        error_noise = self.error_noise * here.error.abs()
        predicted = step.predicted + error_noise
        moving = predicted > torch.finfo(predicted.dtype).tiny
        finite = torch.isfinite(there.error)
        actual = here.error - torch.where(finite, there.error, here.error) + error_noise
        ratio = torch.where(moving, actual, 1.0) / torch.where(moving, predicted, 1.0)
        return torch.where(finite, ratio.clamp(-1e3, 1e3), -1e3)

    def judge(self, here: Linearization, there: Linearization, step: Step, damping: Damping) -> tuple[Tensor, Damping]:
        gain = self.gain(here, there, step)
        return gain > 0, self.update(damping, gain, (gain > 0).to(gain.dtype))

    @staticmethod
    def update(damping: Damping, gain: Tensor, taken: Tensor) -> Damping:
        """Nielsen's update: down to a third after a good step, doubled, then doubled faster, after bad ones."""
        shrink = (1 - (2 * gain.clamp(0, 1) - 1) ** 3).clamp(min=1 / 3)
        value = damping.value * (taken * shrink + (1 - taken) * damping.growth)
        growth = taken * 2 + (1 - taken) * 2 * damping.growth
        return Damping(value.clamp(1e-9, 1e9), growth.clamp(max=1e9))


@dataclass(frozen=True)
class SoftLevenbergMarquardt(LevenbergMarquardt):
    """Levenberg-Marquardt with a logistic in place of its decision, so that the decision has a gradient.

    After Jatavallabhula et al. 2020, section IV, but with the gate the right way round (a worse step is taken less) and
    fed with the gain ratio, which has no unit, instead of a difference of errors. As the temperature goes to zero the
    iterates become those of `LevenbergMarquardt`.

    temperature: width of the decision in units of the gain ratio. A tensor may require a gradient.
    relinearize: where a step was taken in part, linearise again instead of interpolating between its ends, and refuse
        it if the error is worse there. Twice the price; worth it far from the optimum, where many steps are bad.
    """

    temperature: float | Tensor = 0.1
    relinearize: bool = False

    def judge(self, here: Linearization, there: Linearization, step: Step, damping: Damping) -> tuple[Tensor, Damping]:
        gain = self.gain(here, there, step)
        gate = torch.sigmoid(gain / self.temperature).to(gain.dtype)
        return gate, self.update(damping, gain, gate)
