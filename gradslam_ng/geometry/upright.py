"""Which way is up, by the level surfaces of a scene."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

SNAP = math.cos(math.radians(2))  # an upward direction nearer than this to an axis of the world is that axis


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


def estimate_upright(
    normals: Tensor,  # (N, 3), unit
    T_wc: Tensor,  # (L, 4, 4)
) -> Tensor:
    """The upward direction (3,) float64 of the world, by level surfaces near which the cameras' is on the mean; an axis
    of the world where it is within 2 degrees.

    Raises:
        ValueError: no pose that is known.
    """
    known = T_wc[T_wc.isfinite().flatten(1).all(-1)].double().cpu()
    if not len(known):
        raise ValueError("T_wc: expected a known pose at least, from which to tell what is up")
    guess = normalize(-known[:, :3, 1].mean(0), dim=0)
    up = upright(normals.detach().double().cpu(), guess) if len(normals) else guess
    axis = torch.zeros_like(up)
    axis[up.abs().argmax()] = up[up.abs().argmax()].sign()
    return axis if float(up @ axis) > SNAP else up
