"""Surfel maps rendered: what a map predicts that a camera sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.geometry import camera, images, se3
from gradslam_ng.hot import hot
from gradslam_ng.rendering.index_map import index_map, nearest_per_pixel, visible_pixels
from gradslam_ng.structures import Surface, SurfelMap


@dataclass(frozen=True, eq=False)
class Rendering:
    """Images of a map, zero where it shows nothing."""

    color: Tensor  # (B, H, W, 3)
    depth: Tensor  # (B, H, W, 1), metres
    normal: Tensor  # (B, H, W, 3), camera frame, unit
    alpha: Tensor  # (B, H, W, 1), 1 where a surfel is seen
    index: Tensor  # (B, H, W) int64, the surfel seen, -1 for none


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Rows of values (B, N, ...) at index (B, H, W), zero where the index is negative. Returns (B, H, W, ...)."""
    hit = index >= 0
    rows = torch.arange(len(index), device=index.device)[:, None, None]
    picked = values[rows, index.clamp(min=0)]
    return torch.where(hit.reshape(hit.shape + (1,) * (picked.ndim - 3)), picked, 0.0)


def predict(map_: SurfelMap, T_wm: Tensor, K: Tensor, size: tuple[int, int], stable: float) -> Surface:
    """The surface that tracking expects to see from T_wm (B, 4, 4): the surfels' own centres and normals, unblended.

    A surfel weighs c / (c + stable), c its confidence. K (B, 3, 3); size (H, W).
    """
    n = map_.occupied
    known = (map_.points[:, :n], map_.normals[:, :n], map_.colors[:, :n], map_.confidences[:, :n], map_.mask[:, :n])
    vertices, normals, weights, intensity = splat(*known, T_wm, K, size, stable)
    return Surface(vertices, normals, weights, K, intensity)


@hot
def splat(
    points: Tensor,
    normals: Tensor,
    colors: Tensor,
    confidences: Tensor,
    mask: Tensor,
    T_wm: Tensor,
    K: Tensor,
    size: tuple[int, int],
    stable: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vertices and normals (B, H, W, 3), camera m, weights and intensity (B, H, W) of surfels (B, N, ...); see
    `predict`."""
    index = index_map(points, mask, T_wm, K, size)
    T_mw = se3.inverse(T_wm)
    hit = (index >= 0)[..., None]
    vertices = se3.transform(T_mw, gather(points, index).flatten(1, 2)).unflatten(1, size)
    turned = se3.rotate(T_mw, gather(normals, index).flatten(1, 2)).unflatten(1, size)
    c = gather(confidences, index)
    seen = images.intensity(gather(colors, index))[..., 0]
    return torch.where(hit, vertices, 0.0), turned, c / (c + stable), seen


def render(
    map_: SurfelMap, T_wc: Tensor, K: Tensor, size: tuple[int, int], near: float = 0.05, reach: int = 2
) -> Rendering:
    """Surfels drawn as opaque discs (Botsch and Kobbelt 2003), the nearest in each pixel.

    Depth is where the pixel's ray meets the disc's plane; colour, normal and depth have gradients to the map, T_wc and
    K; which disc is seen is a constant of the gradient.

    T_wc (B, 4, 4), K (B, 3, 3), size (H, W); near: metres, nothing closer is drawn; reach: pixels, the greatest radius
    of a disc in the image.

    Raises:
        ValueError: T_wc or K of another shape.
    """
    for name, value, tail in (("T_wc", T_wc, (4, 4)), ("K", K, (3, 3))):
        if value.shape != (map_.batch, *tail):
            raise ValueError(f"{name}: expected shape {(map_.batch, *tail)}, one per map, got {tuple(value.shape)}")
    n = map_.occupied
    T_cw = se3.inverse(T_wc)
    index = disc_map(map_, T_cw, K, size, near, reach)
    hit = (index >= 0)[..., None]
    p_c = se3.transform(T_cw, gather(map_.points[:, :n], index).flatten(1, 2)).unflatten(1, size)
    normal = se3.rotate(T_cw, gather(map_.normals[:, :n], index).flatten(1, 2)).unflatten(1, size)
    rays = camera.unproject(torch.ones_like(p_c[..., :1]), K)
    facing = (normal * rays).sum(-1, keepdim=True)
    meets = hit & (facing.abs() > 0.1)  # at a grazing angle the plane is met anywhere: keep the centre's depth
    depth = torch.where(meets, (normal * p_c).sum(-1, keepdim=True) / torch.where(meets, facing, 1.0), p_c[..., 2:])
    depth = torch.where(hit, depth, 0.0)
    return Rendering(gather(map_.colors[:, :n], index), depth, normal, hit.to(depth.dtype), index)


@torch.no_grad()
def disc_map(map_: SurfelMap, T_cw: Tensor, K: Tensor, size: tuple[int, int], near: float, reach: int) -> Tensor:
    """Index (B, H, W) int64 of the nearest surfel whose disc covers each pixel, -1 for none: a discrete choice."""
    n = map_.occupied
    height, width = size
    u_0, v_0, z, inside = visible_pixels(map_.points[:, :n], map_.mask[:, :n], T_cw, K, size, near)
    extent = map_.radii[:, :n] * K[:, 0, 0, None] / z.clamp(min=near)  # pixels
    column, row = (u_0 + 0.5).floor(), (v_0 + 0.5).floor()
    pixels, ranks, candidates = [], [], []
    for dv in range(-reach, reach + 1):
        for du in range(-reach, reach + 1):
            u, v = column + du, row + dv
            off_centre = (u - u_0) ** 2 + (v - v_0) ** 2
            covers = inside & ((off_centre <= extent**2) | (du == dv == 0))
            covers &= (u >= 0) & (u < width) & (v >= 0) & (v < height)
            pixels.append(torch.where(covers, v * width + u, 0.0).long())
            ranks.append(z.clamp(min=0))
            candidates.append(covers)
    entry = nearest_per_pixel(torch.cat(pixels, 1), torch.cat(ranks, 1), torch.cat(candidates, 1), height * width)
    return torch.where(entry >= 0, entry % n, -1).unflatten(-1, size)
