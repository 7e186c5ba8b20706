"""Axial noise of structured-light depth cameras, and the precision of depth relative to that at one meter."""

from __future__ import annotations

import torch
from torch import Tensor


def axial_sigma(z: Tensor) -> Tensor:
    """Standard deviation along the ray, meters, of a structured-light camera at depth z, meters.

    Nguyen, Izadi and Lovell 2012, equation 2, held at its least value for depths nearer than 0.4 m.
    """
    return 0.0012 + 0.0019 * (z - 0.4).clamp(min=0.0) ** 2


def relative_precision(sigma: Tensor) -> Tensor:
    """Precision of depth whose standard deviation is sigma, meters: 1 up to what it is at one meter,
    beyond that the ratio of the two."""
    return (axial_sigma(torch.ones_like(sigma)) / sigma).clamp(max=1.0)
