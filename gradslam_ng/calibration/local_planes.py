"""Depth of noisy cameras, smoothed where that does not bend surfaces: planes fitted around each pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import discrete

RADIUS = 2  # pixels
MAX_JUMP = 0.06  # of inverse depth, between a pixel and its neighbors
MIN_SPREAD = 0.1  # of the variance of pixels along a row or column of a whole window


@discrete
def fit_depth(depth: Tensor) -> Tensor:
    """Depth (N, h, w) of planes fitted to that of neighbors (N, h, w), 0 where these tell none.

    Least squares in inverse depth, which is linear in the pixel on a plane, and in which a structured-light camera's
    noise is even: depth itself would come out too long.
    """
    inverse = torch.where(depth > 0, 1 / depth.clamp(min=1e-6), 0.0)
    shift = torch.arange(-RADIUS, RADIUS + 1).to(depth)
    h, w = depth.shape[-2:]
    padded = torch.nn.functional.pad(inverse, (RADIUS,) * 4)
    sums = [torch.zeros_like(depth) for _ in range(9)]
    for v in range(len(shift)):
        for u in range(len(shift)):
            near = padded[:, v : v + h, u : u + w]
            du, dv, change = shift[u], shift[v], near - inverse
            on = ((near > 0) & (depth > 0) & (change.abs() < MAX_JUMP * inverse)).to(depth)
            moments = on, on * du, on * dv, on * du * du, on * du * dv, on * dv * dv
            for total, part in zip(sums, (*moments, on * change, on * change * du, on * change * dv), strict=True):
                total += part
    n, u1, v1, uu, uv, vv, d, du_d, dv_d = (total / sums[0].clamp(min=1) for total in sums)
    uu, uv, vv, du_d, dv_d = uu - u1 * u1, uv - u1 * v1, vv - v1 * v1, du_d - u1 * d, dv_d - v1 * d
    determinant, whole = uu * vv - uv * uv, float(shift.square().mean())
    known = (n > 0) & (determinant > (MIN_SPREAD * whole) ** 2)
    determinant = torch.where(known, determinant, 1.0)
    along_u, along_v = (vv * du_d - uv * dv_d) / determinant, (uu * dv_d - uv * du_d) / determinant
    fitted = inverse + d - along_u * u1 - along_v * v1
    return torch.where(known & (fitted > 0), 1 / fitted.clamp(min=1e-6), 0.0)
