"""What depth images say of voxels: the signed distance to the tangent plane that is measured where they are seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import TIE, discrete, steady_floor
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

    packed: Tensor  # (B, H W, 16), columns as in `PlaneSample`, then how the color changes along the row and the column
    K: Tensor  # (B, 3, 3)
    size: tuple[int, int]  # H, W

    def gather(self, pixel: Tensor) -> PlaneSample:  # pixel (...) int64, among those of the whole batch
        """The planes of pixels."""
        table = self.packed.flatten(0, 1)
        return PlaneSample(*(table[pixel, i] for i in range(len(PlaneSample._fields))))

    def color(
        self,
        pixel: Tensor,  # (...) int64, among those of the whole batch
        plane: PlaneSample,  # of those pixels
        side: Tensor,  # (...), pixels from their centers, along the row
        down: Tensor,  # (...), along the column
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Red, green and blue (...) between the pixels, in [0, 1] where they are."""
        table, first = self.packed.flatten(0, 1), len(PlaneSample._fields)
        slopes = [(table[pixel, first + i], table[pixel, first + 3 + i]) for i in range(3)]
        center = (plane.red, plane.green, plane.blue)
        red, green, blue = (c + side * u + down * v for c, (u, v) in zip(center, slopes, strict=True))
        return red, green, blue

    def images(self) -> PlaneSample:
        """Each column as images (B, H, W)."""
        columns = self.packed.unflatten(1, self.size).unbind(-1)
        return PlaneSample(*columns[: len(PlaneSample._fields)])


def limited_slopes(
    image: Tensor,  # (B, H, W, ...)
    dim: int,
) -> Tensor:
    """How an image changes a pixel along an axis, (B, H, W, ...): central differences, no steeper than what half a
    pixel on reaches the nearer neighbor, so that nothing in between is brighter or darker than both (van Leer 1977)."""
    steps = image.narrow(dim, 1, image.shape[dim] - 1) - image.narrow(dim, 0, image.shape[dim] - 1)
    none = torch.zeros_like(image.narrow(dim, 0, 1))
    before, after = torch.cat([none, steps], dim), torch.cat([steps, none], dim)
    a, b = slope_shares(before, after)
    return a * before + b * after


def color_slopes(
    color: Tensor,  # (B, H, W, ...)
) -> tuple[Tensor, Tensor]:
    """How colors change a pixel along the row and along the column, (B, H, W, ...) each; within half a pixel both at
    once lead neither below 0 nor above 1."""
    side, down = limited_slopes(color, 2), limited_slopes(color, 1)
    share = slope_room(color, side, down)
    return share * side, share * down


@discrete
def slope_room(
    color: Tensor,  # (...)
    side: Tensor,  # (...)
    down: Tensor,  # (...)
) -> Tensor:
    """How much of its slopes there is room for around a color, (...), 1 for all: a discrete choice."""
    reach = (0.5 + TIE) * (side.detach().abs() + down.detach().abs())
    room = torch.minimum(color.detach(), 1 - color.detach())
    return divide(room, reach, (room >= 0) & (reach > room), otherwise=1.0)


@discrete
def slope_shares(
    before: Tensor,  # (...)
    after: Tensor,  # (...)
) -> tuple[Tensor, Tensor]:
    """How much the steps to both neighbors count in a slope: half each, or twice the lesser alone, or none where they
    are opposite. (...) each; a discrete choice."""
    before, after = before.detach(), after.detach()
    near, far = before.abs(), after.abs()
    central = (3 * near > far) & (3 * far > near)
    agree = (before * after > 0).to(before.dtype)
    lesser = (near < far).to(before.dtype)
    return agree * torch.where(central, 0.5, 2 * lesser), agree * torch.where(central, 0.5, 2 - 2 * lesser)


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
    """What the pixels in which voxels fall say of them; the color is that between pixels.

    That of the pixel itself would be off by up to half of one, and to one side where voxels and pixels are aligned.
    """
    x, y, z = p_c
    u, v, in_front = camera.project_soa(p_c, K, near=1e-3)
    column, row, pixel, inside = nearest_pixel(u, v, in_front, batch_index, planes.size)
    plane = planes.gather(pixel)
    truncation_m = plane.truncation_m
    distance = plane.nx * x + plane.ny * y + plane.nz * z - plane.offset
    seen = inside & (distance > -truncation_m) & (z - plane.depth < 2 * truncation_m)
    # whatever the noise, the camera saw through here
    margin = (FREE_SPACE_MARGIN - TIE) * truncation_m  # a wall may be whole voxels away
    is_free = (plane.depth - z > margin) & (distance > 0.5 * truncation_m) & (plane.depth > 0)
    free = depth_noise.relative_precision(depth_noise.axial_sigma(z)).square()
    new = torch.where(is_free, free, plane.weight * (2 + 2 * distance / truncation_m).clamp(0, 1))
    new = torch.where(seen, new, 0.0)
    color_weight = torch.where(distance.abs() < (COLOR_BAND + TIE) * voxel_size, new, 0.0)
    color = planes.color(pixel, plane, u - column, v - row)
    return Measurement(distance.clamp(max=truncation), new, color, color_weight)


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
    column, row = steady_floor(u), steady_floor(v)
    across, down = ((1 - x, x) for x in (u - column, v - row))
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
        share = across[j] * down[i] * fade(0.25 * behind)
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
    u: Tensor,  # (n, 512), pixels
    v: Tensor,  # (n, 512)
    in_front: Tensor,  # (n, 512) bool
    batch_index: Tensor,  # (n,)
    size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pixel in which voxels of blocks fall: its column and row, (n, 512), where it lies among those of the whole
    batch, int64, and whether it is in sight. A discrete choice."""
    height, width = size
    column, row = steady_floor(u + 0.5), steady_floor(v + 0.5)
    inside = in_front & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = torch.where(inside, row * width + column, 0.0).long()
    return column, row, pixel + batch_index[:, None] * (height * width), inside
