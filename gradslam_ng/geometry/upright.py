"""Which way is up, by the level surfaces of a scene."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize


def upright(
    normals: Tensor,  # (N, 3), unit
    up: Tensor,  # (3,), unit
) -> Tensor:
    """The upward direction (3,) of floors, tables and ceilings, given one that may lean, as cameras look up or down."""
    for degrees in (40, 25, 15):
        along = normals @ up
        level = torch.where(along.abs() > math.cos(math.radians(degrees)), along.sign(), 0.0)
        if level.abs().sum() > 0.02 * len(normals):
            up = normalize(level @ normals, dim=0)
    return up
