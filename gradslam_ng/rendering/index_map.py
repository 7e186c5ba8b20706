"""Which surfel a pixel sees: point splatting with a z-buffer."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.geometry import camera, se3

EMPTY = torch.iinfo(torch.int64).max


def visible_pixels(
    points: Tensor, mask: Tensor, T_cw: Tensor, K: Tensor, size: tuple[int, int], near: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points of a map as a camera sees them.

    points (B, N, 3) world, mask (B, N), T_cw (B, 4, 4), K (B, 3, 3). Returns, each (B, N), u and v in pixels, z in
    metres, and inside, 1 or 0: in the mask, beyond `near` and within the image.
    """
    p_c = se3.transform_soa(T_cw, points.unbind(-1))
    u, v, in_front = camera.project_soa(p_c, K, near)
    height, width = size
    inside = mask & in_front & (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
    return u, v, p_c[2], inside.to(u.dtype)  # compiled, planes of bool are written byte by byte


def pixel_index(u: Tensor, v: Tensor, inside: Tensor, width: int) -> Tensor:
    """Row-major index of the pixel nearest to u, v (B, N); 0 where inside (B, N) is."""
    column, row = (u.detach() + 0.5).floor(), (v.detach() + 0.5).floor()
    return torch.where(inside > 0, row * width + column, 0.0).long()


def nearest_per_pixel(pixel: Tensor, rank: Tensor, candidate: Tensor, pixels: int) -> Tensor:
    """The candidate of least rank for each pixel.

    pixel (B, N) int64, rank (B, N) not negative, candidate (B, N) bool. Returns (B, pixels) int64, an index into N, -1
    where there is none. Rank and index share one 64-bit key, so that one scatter decides, ties included: the bits of a
    float that is not negative order like the float.
    """
    order = torch.arange(rank.shape[-1], device=rank.device)
    bits = rank.detach().to(torch.float32).contiguous().view(torch.int32).long()
    key = torch.where(candidate, (bits << 32) | order, EMPTY)
    best = torch.full((*rank.shape[:-1], pixels), EMPTY, dtype=torch.int64, device=rank.device)
    best = best.scatter_reduce(-1, pixel, key, "amin")
    return torch.where(best == EMPTY, -1, best & 0xFFFFFFFF)


def nearest_centres(
    points: Tensor, mask: Tensor, T_cw: Tensor, K: Tensor, size: tuple[int, int], near: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where surfels appear, u and v in pixels and z in metres (B, N), and the nearest in each pixel (B, H * W), -1 for
    none: what every picture of a map begins with."""
    u, v, z, inside = visible_pixels(points, mask, T_cw, K, size, near)
    pixel = pixel_index(u, v, inside, size[1])
    return u, v, z, nearest_per_pixel(pixel, z.clamp(min=0), inside > 0, size[0] * size[1])


@discrete
@compiled
def index_map(
    points: Tensor, mask: Tensor, T_wc: Tensor, K: Tensor, size: tuple[int, int], near: float = 0.05
) -> Tensor:
    """Index of the nearest surfel whose centre falls into each pixel, -1 where none does (Keller et al. 2013, sec. 4).

    points (B, N, 3) world, metres; mask (B, N) bool; T_wc (B, 4, 4); K (B, 3, 3). Returns (B, H, W) int64. A discrete
    choice: no gradient.
    """
    with torch.no_grad():
        return nearest_centres(points, mask, se3.inverse(T_wc), K, size, near)[-1].unflatten(-1, size)
