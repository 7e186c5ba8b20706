"""How far a depth reading is to be trusted."""

from __future__ import annotations

import torch
from torch import Tensor


def axial_sigma(z: Tensor) -> Tensor:
    """Standard deviation along the ray, metres, of a structured-light camera's reading at depth z, metres.

    Nguyen, Izadi and Lovell 2012, equation 2, held at its least value for readings nearer than 0.4 m.
    """
    return 0.0012 + 0.0019 * (z - 0.4).clamp(min=0.0) ** 2


def relative_precision(sigma: Tensor) -> Tensor:
    """How steady readings are whose depth has the standard deviation sigma, metres: 1 up to what it is at one metre,
    beyond that the ratio of the two."""
    return (axial_sigma(torch.ones_like(sigma)) / sigma).clamp(max=1.0)
