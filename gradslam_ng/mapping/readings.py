"""A frame's pixels as candidate surfels, in the world and each with its weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.geometry import camera, depth_noise, se3
from gradslam_ng.structures import LiveFrame


@dataclass(frozen=True)
class Readings:
    """P = H W candidate surfels per batch element, row-major."""

    points: Tensor  # (B, P, 3), world, metres
    normals: Tensor  # (B, P, 3), world
    colors: Tensor  # (B, P, 3)
    radii: Tensor  # (B, P), metres
    weights: Tensor  # (B, P), how much confidence a reading adds
    z: Tensor  # (B, P), metres, depth in the camera
    sigma: Tensor  # (B, P), metres, its standard deviation
    valid: Tensor  # (B, P) bool

    def values(self, frame: int) -> dict[str, Tensor]:
        """The attributes of the surfels that these readings would found."""
        number = torch.full(self.valid.shape, frame, device=self.valid.device)
        return {
            "points": self.points, "normals": self.normals, "colors": self.colors, "radii": self.radii,
            "confidences": self.weights, "created": number, "updated": number,
        }  # fmt: skip


def readings(live: LiveFrame, T_wc: Tensor, sigma: float | Tensor = 0.6) -> Readings:
    """Every pixel of a frame placed in the world (Keller et al. 2013, section 4).

    The weight falls with the distance from the image's centre, as in the paper (`sigma`, relative to the half diagonal),
    and beyond one metre with the depth noise. The radius is that of a disc that covers the
    pixel, at most doubled where the surface is seen at a grazing angle.

    T_wc (B, 4, 4).
    """
    surface = live.surface
    height, width = surface.size
    z, sigma_z = surface.vertices[..., 2].flatten(1), live.sigma.flatten(1)
    offset = camera.pixel_grid(height, width, z.device, z.dtype) - surface.K[:, None, None, :2, 2]
    half_diagonal = 0.5 * (height**2 + width**2) ** 0.5
    centrality = torch.exp(-0.5 * offset.square().sum(-1).flatten(1) / (half_diagonal * sigma) ** 2)
    focal = (0.5 * (surface.K[:, 0, 0] + surface.K[:, 1, 1]))[:, None]
    slant = surface.normals[..., 2].flatten(1).abs().clamp(min=0.5)
    weights = surface.weights.flatten(1)
    return Readings(
        points=se3.transform(T_wc, surface.vertices.flatten(1, 2)),
        normals=se3.rotate(T_wc, surface.normals.flatten(1, 2)),
        colors=live.color.flatten(1, 2),
        radii=0.5**0.5 * z / (focal * slant),
        weights=weights * centrality * (depth_noise.axial_sigma(torch.ones_like(z)) / sigma_z).clamp(max=1.0),
        z=z,
        sigma=sigma_z,
        valid=weights > 0,
    )
