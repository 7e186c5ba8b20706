"""Distortion of depth: an error of inverse depth, as of disparity, that is even or grows with the square of the angle.

Herrera, Kannala and Heikkila 2012 model a structured-light camera's error so, in its disparity, with a value for each
pixel; two numbers hold what most such cameras have in common: an offset, and one that grows away from the axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.masks import valid_depth
from gradslam_ng.compute.safe import denominator


def correct_depth(
    z: Tensor,  # (...), meters
    r2: Tensor,  # (...)
    coefficients: Tensor,  # (..., 2), 1/m
) -> Tensor:
    """Depth z' (...) with 1/z' = 1/z + c0 + c1 r2, where r2 is the squared tangent of the angle off the axis.

    Holes stay 0; so does what would be beyond infinity.
    """
    z = valid_depth(z)
    c0, c1 = coefficients.unbind(-1)
    ratio = 1.0 + z * (c0 + c1 * r2)
    possible = ratio > 0
    return torch.where(possible, z / denominator(ratio, possible), 0.0)


def undistort_depth(
    depth: Tensor,  # (..., H, W, 1), meters, 0 = no depth
    K: Tensor,  # (..., 3, 3), pixels
    coefficients: Tensor,  # (..., 2), 1/m
) -> Tensor:
    """A depth image (..., H, W, 1) corrected by `correct_depth`. Differentiable in all three."""
    height, width = depth.shape[-3:-1]
    u = torch.arange(width, device=depth.device, dtype=depth.dtype)
    v = torch.arange(height, device=depth.device, dtype=depth.dtype)[:, None]
    y = (v - K[..., 1, 2, None, None]) / K[..., 1, 1, None, None]
    x = (u - K[..., 0, 2, None, None]) / K[..., 0, 0, None, None]
    coefficients = coefficients.to(depth)[..., None, None, :]
    return correct_depth(depth[..., 0], x * x + y * y, coefficients)[..., None]
