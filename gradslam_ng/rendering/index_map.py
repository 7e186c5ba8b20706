"""Index maps: which surfel a pixel sees, by point splatting with a z-buffer (Keller et al. 2013, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import TIE, discrete, steady_floor
from gradslam_ng.compute.safe import expand_mask
from gradslam_ng.geometry import camera, se3

MAX_PIXELS = 1 << 24  # of an image: up to there float32, in which indices of pixels are computed, tells them apart
EMPTY = torch.iinfo(torch.int64).max


def visible_pixels(
    points: Tensor,  # (B, N, 3), world, meters
    mask: Tensor,  # (B, N) bool
    T_cw: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float,  # meters
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points of a map as a camera sees them.

    Returns, each (B, N), u and v in pixels, z in meters, and inside, 1 or 0: in the mask, beyond `near` and within the
    image.
    """
    x, y, z = points.unbind(-1)
    p_c = se3.transform_soa(T_cw, (x, y, z))
    u, v, in_front = camera.project_soa(p_c, K, near)
    height, width = size
    column, row = u + TIE, v + TIE
    inside = mask & in_front & (column >= -0.5) & (column < width - 0.5) & (row >= -0.5) & (row < height - 0.5)
    return u, v, p_c[2], inside.to(u.dtype)  # compiled, images of bool are written byte by byte


def pixel_index(
    u: Tensor,  # (B, N), pixels
    v: Tensor,  # (B, N)
    inside: Tensor,  # (B, N), 1 or 0
    width: int,
) -> Tensor:
    """Row-major index (B, N) int64 of the pixel nearest to u, v; 0 where inside is."""
    column, row = steady_floor(u + 0.5), steady_floor(v + 0.5)
    return torch.where(inside > 0, row * width + column, 0.0).long()


def nearest_per_pixel(
    pixel: Tensor,  # (B, N) int64
    rank: Tensor,  # (B, N), not negative
    candidate: Tensor,  # (B, N) bool
    pixels: int,
) -> Tensor:
    """The candidate of least rank for each pixel: (B, pixels) int64, an index into N, -1 where there is none.

    Rank and index share one 64-bit key, so that one scatter decides, ties included: the bits of a float that is not
    negative order like the float.
    """
    order = torch.arange(rank.shape[-1], device=rank.device)
    bits = rank.detach().to(torch.float32).contiguous().view(torch.int32).long()
    key = torch.where(candidate, (bits << 32) | order, EMPTY)
    best = torch.full((*rank.shape[:-1], pixels), EMPTY, dtype=torch.int64, device=rank.device)
    best = best.scatter_reduce(-1, pixel, key, "amin")
    return torch.where(best == EMPTY, -1, best & 0xFFFFFFFF)


def nearest_centers(
    points: Tensor,  # (B, N, 3), world, meters
    mask: Tensor,  # (B, N) bool
    T_cw: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float,  # meters
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where surfels appear, u and v in pixels and z in meters (B, N), and the nearest in each pixel (B, H * W), -1 for
    none: what every image of a map begins with.

    Raises:
        ValueError: an image of more than `MAX_PIXELS`.
    """
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"size: expected at most {MAX_PIXELS} pixels, got {size[1]}x{size[0]}")
    u, v, z, inside = visible_pixels(points, mask, T_cw, K, size, near)
    pixel = pixel_index(u, v, inside, size[1])
    return u, v, z, nearest_per_pixel(pixel, z.clamp(min=0), inside > 0, size[0] * size[1])


@discrete
@compiled(batched=True)
def index_map(
    points: Tensor,  # (B, N, 3), world, meters
    mask: Tensor,  # (B, N) bool
    T_wc: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float = 0.05,  # meters
) -> Tensor:
    """Index (B, H, W) int64 of the nearest surfel whose center falls into each pixel, -1 where none does.

    A discrete choice: no gradient.
    """
    with torch.no_grad():
        return nearest_centers(points, mask, se3.inverse(T_wc), K, size, near)[-1].unflatten(-1, size)


def gather_pixels(
    values: Tensor,  # (B, N, ...)
    index: Tensor,  # (B, H, W) int64
) -> Tensor:
    """Rows of values at the index of each pixel, zero where that is negative: (B, H, W, ...)."""
    hit = index >= 0
    rows = torch.arange(index.shape[0], device=index.device)[:, None, None]
    picked = values[rows, index.clamp(min=0)]
    return torch.where(expand_mask(hit, picked), picked, 0.0)
