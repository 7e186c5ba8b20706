"""Surfels from a frame: a depth image's pixels in the world, each with its radius and confidence."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.geometry import camera, depth_noise, se3
from gradslam_ng.structures import LiveFrame


def surfels_from_frame(
    live: LiveFrame,
    T_wc: Tensor,  # (B, 4, 4)
    sigma: float | Tensor = 0.6,  # relative to the half diagonal of the image
) -> dict[str, Tensor]:
    """The surfels that the pixels of a frame would make, row by row: their float attributes, each (B, H W, ...).

    The confidence of one measurement falls with the distance from the image's center (Keller et al. 2013, section 4),
    and beyond one meter with the depth noise; it is zero for a hole. The radius is that of a disc that covers the
    pixel, at most doubled where the surface is seen at a grazing angle.
    """
    surface = live.surface
    height, width = surface.size
    z = surface.vertices[..., 2].flatten(1)
    offset = camera.pixel_grid(height, width, z.device, z.dtype) - surface.K[:, None, None, :2, 2]
    half_diagonal = 0.5 * (height**2 + width**2) ** 0.5
    centrality = torch.exp(-0.5 * offset.square().sum(-1).flatten(1) / (half_diagonal * sigma) ** 2)
    focal = (0.5 * (surface.K[:, 0, 0] + surface.K[:, 1, 1]))[:, None]
    slant = surface.normals[..., 2].flatten(1).abs().clamp(min=0.5)
    return {
        "points": se3.transform(T_wc, surface.vertices.flatten(1, 2)),
        "normals": se3.rotate(T_wc, surface.normals.flatten(1, 2)),
        "colors": live.color.flatten(1, 2),
        "radii": 0.5**0.5 * z / (focal * slant),
        "confidences": surface.weights.flatten(1) * centrality * depth_noise.relative_precision(live.sigma.flatten(1)),
    }
