"""What depth images say of voxels: the signed distance to the tangent plane that is measured where they are seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import discrete
from gradslam_ng.compute.safe import divide
from gradslam_ng.compute.soft import fade, smoothstep
from gradslam_ng.geometry import camera, depth_noise

COLOR_BAND = 2.0  # voxels from the surface within which color is gathered
FREE_SPACE_MARGIN = 3.0  # truncations before a measurement from which on space is free beyond doubt


class PlaneSample(NamedTuple):
    """What a pixel says: its tangent plane, n p = offset in the camera frame, and how far it reaches. All (...)."""

    nx: Tensor
    ny: Tensor
    nz: Tensor
    offset: Tensor  # meters
    depth: Tensor  # meters, 0 for a hole
    weight: Tensor
    red: Tensor
    green: Tensor
    blue: Tensor
    truncation_m: Tensor  # meters


@dataclass(frozen=True, eq=False)
class TangentPlanes:
    """The tangent plane of every pixel: one row a pixel, which a voxel reads from one place in memory."""

    packed: Tensor  # (B, H W, 10), columns as in `PlaneSample`
    K: Tensor  # (B, 3, 3)
    size: tuple[int, int]  # H, W

    def gather(self, pixel: Tensor) -> PlaneSample:  # pixel (...) int64, among those of the whole batch
        """The planes of pixels."""
        table = self.packed.flatten(0, 1)
        return PlaneSample(*(table[pixel, i] for i in range(len(PlaneSample._fields))))

    def images(self) -> PlaneSample:
        """Each column as images (B, H, W)."""
        return PlaneSample(*self.packed.unflatten(1, self.size).unbind(-1))


class Measurement(NamedTuple):
    """What a frame says of voxels."""

    distance: Tensor  # (n, 512), meters
    weight: Tensor  # (n, 512)
    color: tuple[Tensor, Tensor, Tensor]  # (n, 512) each
    color_weight: Tensor  # (n, 512)


def measurement(
    p_c: tuple[Tensor, Tensor, Tensor],  # (n, 512) each, camera, meters
    batch_index: Tensor,  # (n,)
    K: Tensor,  # (n, 3, 3)
    planes: TangentPlanes,
    voxel_size: float,
    truncation: float | Tensor,
) -> Measurement:
    """What the pixels in which voxels fall say of them."""
    x, y, z = p_c
    pixel, inside = nearest_pixel(p_c, batch_index, K, planes.size)
    plane = planes.gather(pixel)
    truncation_m = plane.truncation_m
    distance = plane.nx * x + plane.ny * y + plane.nz * z - plane.offset
    seen = inside & (distance > -truncation_m) & (z - plane.depth < 2 * truncation_m)
    # whatever the noise, the camera saw through here
    is_free = (plane.depth - z > FREE_SPACE_MARGIN * truncation_m) & (distance > 0.5 * truncation_m) & (plane.depth > 0)
    free = depth_noise.relative_precision(depth_noise.axial_sigma(z)).square()
    new = torch.where(is_free, free, plane.weight * (2 + 2 * distance / truncation_m).clamp(0, 1))
    new = torch.where(seen, new, 0.0)
    color_weight = torch.where(distance.abs() < COLOR_BAND * voxel_size, new, 0.0)
    return Measurement(distance.clamp(max=truncation), new, (plane.red, plane.green, plane.blue), color_weight)


def soft_measurement(
    p_c: tuple[Tensor, Tensor, Tensor],  # (n, 512) each, camera, meters
    batch_index: Tensor,  # (n,)
    K: Tensor,  # (n, 3, 3)
    planes: TangentPlanes,
    voxel_size: float,
    truncation: float | Tensor,
) -> Measurement:
    """`measurement` without jumps: the mean of what the four pixels around each voxel say, by bilinear weights, each as
    much as it fades between what `measurement` takes in full and what it leaves out."""
    x, y, z = p_c
    height, width = planes.size
    u, v, in_front = camera.project_soa(p_c, K, near=1e-3)
    column, row = (c.detach().floor() for c in (u, v))
    free = depth_noise.relative_precision(depth_noise.axial_sigma(z)).square()
    weight = color_weight = distances = torch.zeros_like(z)
    colors = [weight] * 3
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        c, r = column + j, row + i
        inside = in_front & (c >= 0) & (c < width) & (r >= 0) & (r < height)
        pixel = torch.where(inside, r * width + c, 0.0).long() + batch_index[:, None] * (height * width)
        plane = planes.gather(pixel)
        tau = plane.truncation_m
        distance = plane.nx * x + plane.ny * y + plane.nz * z - plane.offset
        behind = torch.where(plane.depth.detach() > 0, (z - plane.depth) / tau, 4.0)
        is_free = smoothstep(-behind - FREE_SPACE_MARGIN) * smoothstep(2 * distance / tau - 1)
        new = torch.lerp(plane.weight * (2 + 2 * distance / tau).clamp(0, 1), free, is_free)
        share = (1 - (u - c).abs()).clamp(min=0) * (1 - (v - r).abs()).clamp(min=0) * fade(0.25 * behind)
        new = torch.where(inside, share * new, 0.0)
        near = new * fade(0.5 * distance.abs() / (COLOR_BAND * voxel_size))
        weight, distances = weight + new, distances + new * distance.clamp(max=truncation)
        color_weight = color_weight + near
        colors = [
            total + near * value for total, value in zip(colors, (plane.red, plane.green, plane.blue), strict=True)
        ]
    red, green, blue = (divide(total, color_weight, color_weight.detach() > 1e-12) for total in colors)
    distance = divide(distances, weight, weight.detach() > 1e-12)
    return Measurement(distance, weight, (red, green, blue), color_weight)


@discrete
def nearest_pixel(
    p_c: tuple[Tensor, Tensor, Tensor],  # (n, 512) each, camera, meters
    batch_index: Tensor,  # (n,)
    K: Tensor,  # (n, 3, 3)
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The pixel, among those of the whole batch, in which voxels of blocks fall, (n, 512) int64; and whether they are
    in sight. A discrete choice."""
    height, width = size
    x, y, z = (c.detach() for c in p_c)
    u, v, in_front = camera.project_soa((x, y, z), K.detach(), near=1e-3)
    u, v = (u + 0.5).floor(), (v + 0.5).floor()
    inside = in_front & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    return torch.where(inside, v * width + u, 0.0).long() + batch_index[:, None] * (height * width), inside
