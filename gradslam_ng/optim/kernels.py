"""Robust kernels (M-estimators): Huber, Cauchy, Geman-McClure, Tukey, Barron.

Each maps s (...), the squared norm of a whitened residual, to rho(s) and has the weight rho'(s), 1 at s = 0, that
iteratively reweighted least squares gives the residual (Zhang 1997; Barron 2019). `scale` is the residual at which a
kernel starts to matter, in units of the whitened residual; scale and shape may be tensors with a gradient. Kernels are
modules: a scale that is an `nn.Parameter` is in their `parameters()`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gradslam_ng.compute.configurable import ConfigurableDataclass, configurable


class Kernel(Protocol):
    def rho(self, s: Tensor) -> Tensor:
        """The cost of the squared residual s (...)."""
        ...

    def weight(self, s: Tensor) -> Tensor:
        """Its derivative."""
        ...


@configurable
class Huber(ConfigurableDataclass):
    """Quadratic up to the scale, linear beyond (Huber 1964)."""

    scale: float | Tensor

    def rho(self, s: Tensor) -> Tensor:
        inside = s <= self.scale**2
        root = torch.where(inside, 1.0, s).sqrt()  # where it is not used, s may be 0 and its root without a gradient
        return torch.where(inside, s, 2 * self.scale * root - self.scale**2)

    def weight(self, s: Tensor) -> Tensor:
        inside = s <= self.scale**2
        return torch.where(inside, 1.0, self.scale * torch.where(inside, 1.0, s).rsqrt())


@configurable
class Cauchy(ConfigurableDataclass):
    """Logarithmic: the likelihood of Cauchy's distribution."""

    scale: float | Tensor

    def rho(self, s: Tensor) -> Tensor:
        return self.scale**2 * torch.log1p(s / self.scale**2)

    def weight(self, s: Tensor) -> Tensor:
        return 1 / (1 + s / self.scale**2)


@configurable
class GemanMcClure(ConfigurableDataclass):
    """Levels off at scale^2 (Geman and McClure 1985); half its ceiling at the scale."""

    scale: float | Tensor

    def rho(self, s: Tensor) -> Tensor:
        return s / (1 + s / self.scale**2)

    def weight(self, s: Tensor) -> Tensor:
        return (1 + s / self.scale**2) ** -2


@configurable
class Tukey(ConfigurableDataclass):
    """Flat, with no weight at all, from the scale on (Beaton and Tukey 1974)."""

    scale: float | Tensor

    def _inlier(self, s: Tensor) -> Tensor:
        return (1 - s / self.scale**2).clamp(min=0.0)

    def rho(self, s: Tensor) -> Tensor:
        return self.scale**2 / 3 * (1 - self._inlier(s) ** 3)

    def weight(self, s: Tensor) -> Tensor:
        return self._inlier(s) ** 2


@configurable
class Barron(ConfigurableDataclass):
    """The general kernel with a shape (Barron 2019, equation 8): 2 quadratic, 1 Charbonnier, 0 Cauchy, -2
    Geman-McClure, towards minus infinity Welsch. Twice Barron's cost times scale^2, so that the weight at zero is 1.

    The derivative to the shape is logarithmically infinite at 2; within 1e-3 (float32) or 1e-6 (float64) of it the
    shape is held, without a gradient: start learning from below.
    """

    scale: float | Tensor
    shape: float | Tensor

    def _parts(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shape alpha, b = |alpha - 2|, and log(1 + s / (b scale^2)), for which (1 + ...)^p = exp(p log)."""
        alpha = (s.new_ones(()) * self.shape).to(s.dtype)
        near = 1e-3 if s.dtype == torch.float32 else 1e-6
        alpha = torch.where((alpha - 2).abs() < near, 2 - near, alpha)
        b = (alpha - 2).abs()
        return alpha, b, torch.log1p(s / (b * self.scale**2))

    def rho(self, s: Tensor) -> Tensor:
        alpha, b, log = self._parts(s)
        return self.scale**2 * b * log * _expm1_ratio(0.5 * alpha * log)

    def weight(self, s: Tensor) -> Tensor:
        alpha, _, log = self._parts(s)
        return torch.exp((0.5 * alpha - 1) * log)


def _expm1_ratio(x: Tensor) -> Tensor:
    """(exp(x) - 1) / x, by its series around zero."""
    small = x.abs() < 1e-2
    safe = torch.where(small, 1.0, x)
    series = 1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7)))))
    return torch.where(small, series, torch.expm1(safe) / safe)
