"""Predicted views: what tracking expects to see of a map (surface prediction, Newcombe et al. 2011, section 3.4).

A prediction reads the map: at each pixel of a surfel map the one surfel whose center falls there, its own point, normal
and confidence; of a volume the surface that the pixel's ray meets first. Tracking and fusion want that rather than a
picture (`surfels.render`): a blend would average away the noise by which a surfel is judged, would have no single
confidence, and would put points where the map has none.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.masks import stack_last
from gradslam_ng.compute.safe import denominator
from gradslam_ng.geometry import camera, depth_noise, images, se3
from gradslam_ng.rendering.index_map import gather_pixels, index_map
from gradslam_ng.rendering.raycast import raycast
from gradslam_ng.rendering.rays import low_discrepancy_offsets, pixel_rays
from gradslam_ng.rendering.soft_splats import blend, splat_pixels, unit
from gradslam_ng.structures import SurfaceView, SurfelMap, VoxelGrid
from gradslam_ng.structures.origin import relative_to_origin

MAX_SPREAD = 0.02  # relative standard deviation of the depths that a pixel blends, from which it counts little


def predict_surfels(
    map_: SurfelMap,
    T_wm: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    stable_confidence: float | Tensor,
) -> SurfaceView:
    """What a camera at T_wm is expected to see of surfels: their own centers and normals, unblended.

    A surfel weighs c / (c + stable_confidence), c its confidence; without any it is not there.
    """
    T_om, local = relative_to_origin(T_wm, map_.origin, map_.points.dtype), replace(map_, origin=None)
    vertices, normals, weights, intensity = splat(local.prefix(map_.num_slots), T_om, K, size, stable_confidence)
    return SurfaceView(vertices, normals, weights, K, intensity, T_wm)


def predict_surfels_softly(
    map_: SurfelMap,
    T_wm: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    stable_confidence: float | Tensor,
) -> SurfaceView:
    """`predict_surfels` without jumps: each pixel sees the mean of the surfels around it that are not hidden
    (`soft_splats`), and weighs less where they lie apart, as at the edge of a nearer surface."""
    T_om, local = relative_to_origin(T_wm, map_.origin, map_.points.dtype), replace(map_, origin=None)
    stable = torch.as_tensor(stable_confidence).to(K)
    vertices, normals, weights, intensity = checkpoint(
        blend_view, local.prefix(map_.num_slots), se3.inverse(T_om), K, size, stable
    )
    return SurfaceView(vertices, normals, weights, K, intensity, T_wm)


def blend_view(
    map_: SurfelMap,
    T_mw: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    stable_confidence: Tensor,  # ()
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vertices and normals (B, H, W, 3), camera m, weights and intensity (B, H, W)."""
    splats = splat_pixels(map_, T_mw, K, size, near=0.05)
    confidence = map_.confidences.clamp(min=0)
    values = [splats.depth, splats.depth.square(), *splats.n_c.unbind(-1), *map_.colors.unbind(-1)]
    total, (z, square, nx, ny, nz, *color) = blend(splats, confidence, values, size)
    spread = (square - z * z).clamp(min=0) / (MAX_SPREAD * denominator(z, z > 0)) ** 2
    weights = total / (total + stable_confidence) * torch.exp(-0.5 * spread)
    intensity = images.intensity(torch.stack(color, -1))[..., 0]
    return camera.unproject(z[..., None], K), unit([nx, ny, nz]), weights, intensity


@compiled(dynamic=("map_",), recompute=False, batched=True)
def splat(
    map_: SurfelMap,
    T_wm: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    stable_confidence: float | Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vertices and normals (B, H, W, 3), camera m, weights and intensity (B, H, W); see `predict_surfels`."""
    index = index_map(map_.points, map_.mask & (map_.confidences > 0), T_wm, K, size)
    values = (map_.points, map_.normals, map_.confidences, map_.colors)
    seen = tuple(gather_pixels(value, index) for value in values)
    return show(seen, index >= 0, T_wm, stable_confidence)


@compiled(dynamic=(), batched=True)
def show(
    seen: tuple[Tensor, ...],  # points, normals, confidences and colors (B, H, W, ...) of the surfels in each pixel
    hit: Tensor,  # (B, H, W) bool
    T_wm: Tensor,  # (B, 4, 4)
    stable_confidence: float | Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `splat` returns."""
    points, normals, c, colors = seen
    size, T_mw = (hit.shape[1], hit.shape[2]), se3.inverse(T_wm)
    x, y, z = points.flatten(1, 2).unbind(-1)
    nx, ny, nz = normals.flatten(1, 2).unbind(-1)
    seen_normals = stack_last(*se3.rotate_soa(T_mw, (nx, ny, nz))).unflatten(1, size)
    inside = hit.flatten(1)
    p_m = (torch.where(inside, part, 0.0) for part in se3.transform_soa(T_mw, (x, y, z)))
    vertices = stack_last(*p_m).unflatten(1, size)
    intensity = images.intensity(colors)[..., 0]
    return vertices, seen_normals, c / (c + stable_confidence), intensity


def predict_volume(
    grid: VoxelGrid,
    T_wm: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
) -> SurfaceView:
    """What a camera at T_wm is expected to see of volumes, by ray casting.

    Rays pass beside the centers of their pixels (`low_discrepancy_offsets`). The mean of n measurements varies by 1 / n
    of what one does, so its distance to one more weighs n / (n + 1) of that.
    """
    offset = low_discrepancy_offsets(size, K.device)
    seen = raycast(grid, T_wm, K, size, offset=offset)
    one = depth_noise.relative_precision(depth_noise.axial_sigma(seen.depth)).square()  # what one measurement weighs
    weights, intensity = seen.weight / (seen.weight + one), images.intensity(seen.color)
    vertices = seen.depth * pixel_rays(K, size, offset)
    return SurfaceView(vertices, seen.normal, weights[..., 0], K, intensity[..., 0], T_wm)
