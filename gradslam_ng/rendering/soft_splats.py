"""Surfels splatted with soft visibility: images that are continuous in the points, the pose and the camera.

A z-buffer shows the nearest surfel, and of two measurements of one wall another is nearest as soon as depth changes by
its noise. Here every surfel adds to the 3 x 3 pixels around its center (a quadratic B-spline, as in elliptical weighted
averages, Zwicker et al. 2001), as far as what lies clearly nearer lets it through (transmittance, as in volume
rendering, Max 1995).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.safe import divide, rsqrt
from gradslam_ng.compute.soft import smoothstep, spline_footprint
from gradslam_ng.geometry import camera, se3
from gradslam_ng.structures import SurfelMap

LAYER = 0.04  # relative depth from one layer to the next: a surface hides what lies one to two layers behind it
NEAREST, FARTHEST = 0.2, 20.0  # meters, depths between which layers are told apart
ABSORPTION = 6.0  # of a surface with one surfel a pixel: what shines through is exp(-6)
FAINT = 0.05  # confidence of a surfel that hides half of what a certain one does


class Splats(NamedTuple):
    """Surfels and the pixels that they reach; N surfels, S = 9 pixels each."""

    n_c: Tensor  # (B, N, 3)
    pixel: Tensor  # (B, N, S) int64, among those of the whole batch
    footprint: Tensor  # (B, N, S), 0 outside the image
    depth: Tensor  # (B, N, S), meters, of its plane along the pixel's ray
    transmittance: Tensor  # (B, N, S), of what lies before it


def splat_pixels(
    map_: SurfelMap,
    T_cw: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float,  # meters
) -> Splats:
    """Which pixels surfels reach, how far, and how much of them is seen."""
    height, width = size
    p_c = se3.transform(T_cw, map_.points)
    x, y, z = p_c.unbind(-1)
    u, v, in_front = camera.project_soa((x, y, z), K, near)
    present = map_.mask & (map_.confidences.detach() > 0)
    pixel, footprint = spline_footprint(u, v, in_front & present, size)
    pixel = pixel + torch.arange(len(z), device=z.device)[:, None, None] * (height * width)
    confidence = map_.confidences.clamp(min=0)
    opacity = footprint * (confidence / (confidence + FAINT))[..., None]
    n_c = se3.rotate(T_cw, map_.normals)
    depth = plane_depth(p_c, n_c, pixel, K, size)
    passed = transmittance(pixel, opacity, depth, len(z) * height * width)
    return Splats(n_c, pixel, footprint, depth, passed)


def transmittance(
    pixel: Tensor,  # (B, N, S) int64
    opacity: Tensor,  # (B, N, S)
    z: Tensor,  # (B, N, S), meters
    pixels: int,
) -> Tensor:
    """What (B, N, S) the surfels clearly before each let through, by layers of depth."""
    layers = math.ceil(math.log(FARTHEST / NEAREST) / LAYER) + 3
    layer = (z.clamp(NEAREST, FARTHEST) / NEAREST).log() / LAYER + 2
    whole = layer.detach().floor()
    part = layer - whole
    cell = pixel * layers + whole.long()
    before = torch.zeros(pixels * layers, dtype=z.dtype, device=z.device)
    before = before.index_add(0, cell.flatten(), (opacity * (1 - part)).flatten())
    before = before.index_add(0, (cell + 1).flatten(), (opacity * part).flatten())
    before = before.unflatten(0, (pixels, layers)).cumsum(1).flatten()
    hidden = torch.lerp(before[cell - 2], before[cell - 1], part)
    return torch.exp(-ABSORPTION * hidden)


def blend(
    splats: Splats,
    weight: Tensor,  # (B, N)
    values: list[Tensor],  # (B, N) or (B, N, S) each
    size: tuple[int, int],
) -> tuple[Tensor, list[Tensor]]:
    """The sum (B, H, W) of the weights of what each pixel sees, and the weighted means (B, H, W) of the values."""
    seen = weight[..., None] * splats.footprint * splats.transmittance
    columns = [seen] + [seen * (value if value.ndim == 3 else value[..., None]) for value in values]
    table = torch.stack(columns, -1).flatten(0, 2)
    batch = len(weight)
    sums = torch.zeros(batch * size[0] * size[1], table.shape[1], dtype=table.dtype, device=table.device)
    total, *parts = sums.index_add(0, splats.pixel.flatten(), table).unflatten(0, (batch, *size)).unbind(-1)
    there = total.detach() > 1e-12
    return total, [divide(part, total, there) for part in parts]


def plane_depth(
    p_c: Tensor,  # (B, N, 3), meters
    n_c: Tensor,  # (B, N, 3)
    pixel: Tensor,  # (B, N, S) int64
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
) -> Tensor:
    """Depth (B, N, S), meters, at which a pixel's ray meets a surfel's plane; the center's where it grazes that."""
    ones = K.new_ones(len(K), *size, 1)
    rx, ry, _ = camera.unproject(ones, K).flatten(0, 2)[pixel].unbind(-1)
    (x, y, z), (nx, ny, nz) = (value[..., None, :].unbind(-1) for value in (p_c, n_c))
    facing = nx * rx + ny * ry + nz
    meets = facing.detach().abs() > 0.1
    trust = smoothstep((facing.abs() - 0.1) / 0.2)
    return torch.lerp(z.expand_as(rx), divide(nx * x + ny * y + nz * z, facing, meets), trust)


def unit(
    normal: list[Tensor],  # x, y and z (B, H, W)
) -> Tensor:
    """Means of normals at unit length (B, H, W, 3), zero where they cancel."""
    stacked = torch.stack(normal, -1)
    square = stacked.square().sum(-1, keepdim=True)
    return stacked * rsqrt(square, square.detach() > 1e-12)
