"""Step strategies: Gauss-Newton, Levenberg-Marquardt, and Levenberg-Marquardt with soft decisions.

A strategy proposes a step from the linearization at hand and, once the problem has been linearized where that step
leads, accepts it or not. So an iteration costs one linearization. All state is per batch element and nothing is read
back to the host.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gradslam_ng.compute.configurable import ConfigurableDataclass, configurable
from gradslam_ng.compute.safe import divide
from gradslam_ng.optim.linear import factor, trace
from gradslam_ng.optim.problem import Linearization


class Damping(NamedTuple):
    """What a strategy remembers between iterations."""

    value: Tensor  # (...), relative to the diagonal of H
    growth: Tensor  # (...), by how much the next bad step multiplies it


class Step(NamedTuple):
    delta: Tensor  # (..., n)
    predicted: Tensor  # (...), decrease of the error that the quadratic model expects, >= 0


ROUNDING = 0.875  # exponent: eps^(7/8) leaves a margin above the rounding unit eps itself


def point_rounding(current: Linearization) -> Tensor:
    """By how much rounding of the unknowns may change the error (...), a constant of the gradient.

    That of a step by eps^(7/8) in every one (radian, meter). Where all residuals vanish the error is nothing but that,
    and no share of it says so; poses far from the origin round more, and so do their lever arms make H larger.
    """
    share = torch.finfo(current.error.dtype).eps ** ROUNDING
    return 0.5 * share**2 * trace(current.H).detach()


def error_rounding(current: Linearization) -> Tensor:
    """By how much rounding, of the unknowns and of the error itself, may change the error (...), a constant."""
    error = current.error.detach().abs()
    return point_rounding(current) + torch.finfo(error.dtype).eps ** ROUNDING * error


class StepStrategy(Protocol):
    def start(self, current: Linearization, /) -> Damping:
        """The damping of the first step."""
        ...

    def propose(self, current: Linearization, damping: Damping, /) -> Step:
        """The step to try."""
        ...

    def accept(
        self, current: Linearization, candidate: Linearization, step: Step, damping: Damping, /
    ) -> tuple[Tensor, Damping]:
        """How much of the step from `current` to `candidate` to take, and the next damping.

        A bool (...) takes it whole or not at all, a float (...) from 0 to 1 in part: the solver then goes on with the
        linearization interpolated between the two.
        """
        ...


@configurable
class GaussNewton(ConfigurableDataclass):
    """Every step taken whole (Nocedal and Wright 2006, section 10.3)."""

    def start(self, current: Linearization) -> Damping:
        return Damping(torch.zeros_like(current.error), torch.ones_like(current.error))

    def propose(self, current: Linearization, damping: Damping) -> Step:
        delta = -factor(current.H).solve(current.g)
        return Step(delta, -0.5 * (current.g * delta).sum(-1))

    def accept(
        self, current: Linearization, candidate: Linearization, step: Step, damping: Damping
    ) -> tuple[Tensor, Damping]:
        return torch.ones_like(current.error, dtype=torch.bool), damping


@configurable
class LevenbergMarquardt(ConfigurableDataclass):
    """Damping steered by the gain ratio, worse steps refused (Madsen, Nielsen and Tingleff 2004, algorithm 3.16).

    damping: at the start, relative to the diagonal of H. A tensor may require a gradient.
    error_noise: changes of the error below this share of it are noise (rounding, changing associations) and count as
        agreement with the model (Conn, Gould and Toint 2000, section 17.4.2).
    """

    damping: float | Tensor = 1e-3
    error_noise: float | Tensor = 1e-6

    def start(self, current: Linearization) -> Damping:
        value = (torch.ones_like(current.error) * self.damping).to(current.error.dtype)  # as_tensor waits for a GPU
        return Damping(value, torch.full_like(current.error, 2.0))

    def propose(self, current: Linearization, damping: Damping) -> Step:
        solver = factor(current.H, damping.value)
        delta = -solver.solve(current.g)
        return Step(delta, 0.5 * (damping.value * solver.norm2(delta) - (current.g * delta).sum(-1)))

    def gain(self, current: Linearization, candidate: Linearization, step: Step) -> Tensor:
        """Actual over predicted decrease (...): free of the scale of the error, 1 where the model is right.

        Also 1, without gradient, where both are nothing but rounding and `error_noise` does not hide it.
        """
        error_noise = self.error_noise * current.error.abs()
        predicted = step.predicted + error_noise
        finite = torch.isfinite(candidate.error)
        actual = current.error - torch.where(finite, candidate.error, current.error)
        rounding = error_rounding(current)
        moving = (step.predicted > rounding) | (actual.abs() > rounding) | (error_noise > rounding)
        moving = moving & (predicted > torch.finfo(predicted.dtype).tiny)
        ratio = divide(actual + error_noise, predicted, moving, otherwise=1.0)
        return torch.where(finite, ratio.clamp(-1e3, 1e3), -1e3)

    def accept(
        self, current: Linearization, candidate: Linearization, step: Step, damping: Damping
    ) -> tuple[Tensor, Damping]:
        gain = self.gain(current, candidate, step)
        return gain > 0, self.update(damping, gain, (gain > 0).to(gain.dtype))

    @staticmethod
    def update(damping: Damping, gain: Tensor, taken: Tensor) -> Damping:
        """Nielsen's update: down to a third after a good step, doubled, then doubled faster, after bad ones."""
        shrink = (1 - (2 * gain.clamp(0, 1) - 1) ** 3).clamp(min=1 / 3)
        value = damping.value * (taken * shrink + (1 - taken) * damping.growth)
        growth = taken * 2 + (1 - taken) * 2 * damping.growth
        return Damping(value.clamp(1e-9, 1e9), growth.clamp(max=1e9))


@configurable
class SoftLevenbergMarquardt(LevenbergMarquardt):
    """Levenberg-Marquardt with a logistic in place of its decision, so that the decision has a gradient.

    After Jatavallabhula et al. 2020, section IV, but with the gate the right way round (a worse step is taken less) and
    fed with the gain ratio, which has no unit, instead of a difference of errors. As the temperature goes to zero the
    iterates become those of `LevenbergMarquardt`.

    temperature: width of the decision in units of the gain ratio. A tensor may require a gradient.
    relinearize: where a step was taken in part, linearize again instead of interpolating between its ends, and refuse
        it if the error is worse there. Twice the price; worth it far from the optimum, where many steps are bad.
    """

    temperature: float | Tensor = 0.1
    relinearize: bool = False

    def accept(
        self, current: Linearization, candidate: Linearization, step: Step, damping: Damping
    ) -> tuple[Tensor, Damping]:
        gain = self.gain(current, candidate, step)
        gate = torch.sigmoid(gain / self.temperature).to(gain.dtype)
        return gate, self.update(damping, gain, gate)
