"""Surfel maps rendered as blended discs (surface splatting, Zwicker et al. 2001).

What is looked at or compared with an image comes from here: pictures of maps, novel views, losses on images, poses from
images. What tracking compares with comes from `prediction`; the two share the choice of who is in front
(`index_map.nearest_centers`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import TIE, discrete
from gradslam_ng.compute.masks import pad
from gradslam_ng.compute.safe import divide, rsqrt
from gradslam_ng.geometry import camera, se3
from gradslam_ng.rendering.index_map import gather_pixels, nearest_centers
from gradslam_ng.rendering.soft_splats import ABSORPTION, FAINT, blend, splat_pixels, unit
from gradslam_ng.rendering.view import check_surfels, check_view
from gradslam_ng.structures import SurfelMap
from gradslam_ng.structures.origin import relative_to_origin

KERNEL_CUTOFF = 8.0  # squared radii from a disc's center beyond which its weight falls no further
EQUAL_DEPTH = 2.0**-18  # share of the depth by which no disc is in front of another
PIXEL_SIGMA = 0.6  # pixels, standard deviation of the Gaussian footprint of a pixel itself


@dataclass(frozen=True, eq=False)
class Rendering:
    """Images of a map, zero where it shows nothing."""

    color: Tensor  # (B, H, W, 3)
    depth: Tensor  # (B, H, W, 1), meters
    normal: Tensor  # (B, H, W, 3), camera frame, unit
    alpha: Tensor  # (B, H, W, 1), 1 where a surfel is seen; how much of the pixel is covered, where that is soft
    index: Tensor  # (B, H, W) int64, the surfel seen, -1 for none or where visibility is soft


@mode_free
def render(
    map_: SurfelMap,
    T_wc: Tensor,  # (B, 4, 4), in the world
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float = 0.05,  # meters, nothing closer is drawn
    max_radius: int = 2,  # pixels, of a disc in the image
    visibility: str = "hard",
) -> Rendering:
    """Surfels drawn as discs, hidden by a z-buffer and blended softly where they overlap at the surface.

    Each pixel sees the nearest disc that covers it; those that its neighbors see are blended with it as far as they lie
    on one surface with it, weighted by confidence and by a Gaussian over their disc (Zwicker et al. 2001). The depth of
    a disc is where the pixel's ray meets its plane (Botsch and Kobbelt 2003). Color, depth and normal have gradients to
    points, normals, colors, radii, confidences, T_wc and K; which discs a pixel sees is a constant of the gradient.

    The Gaussian has the disc's radius, and that of the pixel itself is laid over it (`PIXEL_SIGMA`), so that neighbors
    blend even where each surfel is smaller than a pixel: the derivative of color to the pose is then that of the
    texture, not of the one surfel that a pixel happens to see.

    With `visibility="soft"` there is no such choice: every surfel adds to the pixels around it as far as it is not
    hidden (`soft_splats`), alpha is how much of a pixel is covered, and images are continuous in all inputs, so that
    their gradients hold over finite steps. They are blurred by a pixel. `max_radius` plays no part.

    Raises:
        ValueError: see `check_view` and `check_surfels`; or a visibility that is neither hard nor soft.
        TypeError: another kind of map.
    """
    if not isinstance(map_, SurfelMap):
        raise TypeError(f"map: expected a SurfelMap, got {type(map_).__name__}; volumes are ray-cast")
    check_view(T_wc, K, map_.batch, size, map_.points, "map")
    check_surfels(map_)
    T_oc, map_ = relative_to_origin(T_wc, map_.origin, K.dtype), replace(map_, origin=None)
    map_, T_cw = map_.prefix(map_.num_slots), se3.inverse(T_oc)
    if visibility == "soft":
        return Rendering(*checkpoint(shade_softly, map_, T_cw, K, size, near), no_index(T_wc, size))
    if visibility != "hard":
        raise ValueError(f"visibility: expected hard or soft, got {visibility!r}")
    with torch.no_grad():
        index = disc_map(map_, T_cw, K, size, near, max_radius)
    attributes = (map_.points, map_.normals, map_.colors, map_.radii, map_.confidences)
    color, depth, normal, alpha = checkpoint(shade, index, T_cw, K, *attributes)
    return Rendering(color, depth, normal, alpha, index)


@discrete
@compiled
def disc_map(
    map_: SurfelMap,
    T_cw: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float,  # meters
    max_radius: int,  # pixels
) -> Tensor:
    """Index (B, H, W) int64 of the nearest surfel whose disc covers each pixel, -1 for none: a discrete choice.

    A surfel whose center is hidden in its own pixel is seen nowhere. Discs of slanted surfaces just reach the next
    pixels' centers from where they were measured, and cover them. Of discs as far away as each other, as along the rows
    of a plane that is slanted about the other axis, the one with the nearest pixel is seen: rounding does not choose.
    """
    height, width = size
    u_0, v_0, z, center = nearest_centers(map_.points, map_.mask, T_cw, K, size, near)
    there, slot = center >= 0, center.clamp(min=0)
    z_there = torch.where(there, z.gather(1, slot), torch.inf)
    extent = torch.where(there, map_.radii.gather(1, slot) * K[:, 0, 0, None] / z_there, -1.0)  # pixels
    u, v = (x.gather(1, slot) for x in (u_0, v_0))
    outside = [(u, 0.0), (v, 0.0), (z_there, torch.inf), (extent, -1.0), (center, -1)]
    images = [pad(pad(x.unflatten(1, size), max_radius, -1, edge), max_radius, -2, edge) for x, edge in outside]
    column = torch.arange(width, device=z.device).to(z)
    row = torch.arange(height, device=z.device).to(z)[:, None]
    nearest = torch.full((z.shape[0], *size), torch.inf, dtype=z.dtype, device=z.device)
    seen = torch.full((z.shape[0], *size), -1, dtype=torch.int64, device=z.device)
    for dv, du in window(max_radius):
        u, v, depth, extent, slot = (x[:, dv : dv + height, du : du + width] for x in images)
        covers = (u - column).square() + (v - row).square() <= extent * extent.abs() + TIE
        covers = (covers | (dv == max_radius and du == max_radius)) & (depth < (1 - EQUAL_DEPTH) * nearest)
        nearest, seen = torch.where(covers, depth, nearest), torch.where(covers, slot, seen)
    return seen


def window(radius: int) -> list[tuple[int, int]]:
    """Row and column in a square window of all pixels within, from its center outwards."""
    places = [(row, column) for row in range(2 * radius + 1) for column in range(2 * radius + 1)]
    return sorted(places, key=lambda place: (place[0] - radius) ** 2 + (place[1] - radius) ** 2)


def no_index(T_wc: Tensor, size: tuple[int, int]) -> Tensor:
    """-1 in (B, H, W): no pixel sees one surfel alone."""
    return torch.full((T_wc.shape[0], *size), -1, dtype=torch.int64, device=T_wc.device)


def shade_softly(
    map_: SurfelMap,
    T_cw: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float,  # meters
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Color, depth, normal and alpha (B, H, W, ...) of all surfels, as far as they are seen."""
    splats = splat_pixels(map_, T_cw, K, size, near)
    values = [*map_.colors.unbind(-1), splats.depth, *splats.n_c.unbind(-1)]
    confidence = map_.confidences.clamp(min=0)
    _, (red, green, blue, depth, *normal) = blend(splats, confidence, values, size)
    cover, _ = blend(splats, confidence / (confidence + FAINT), [], size)
    alpha = -torch.expm1(-ABSORPTION * cover)
    return torch.stack([red, green, blue], -1), depth[..., None], unit(normal), alpha[..., None]


NEIGHBORS = ((1, 1), (0, 1), (1, 0), (1, 2), (2, 1))  # a pixel itself first, as row and column of a 3 x 3 window


@compiled
def shade(
    index: Tensor,  # (B, H, W) int64
    T_cw: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    *attributes: Tensor,  # points, normals, colors (B, N, 3), radii, confidences (B, N): apart, for `checkpoint`
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Color, depth, normal (B, H, W, ...) and 1 where a surfel is seen, from the discs in index."""
    points, normals, colors, radii, confidences = attributes
    size = (index.shape[1], index.shape[2])
    height, width = size
    p_c = se3.transform(T_cw, gather_pixels(points, index).flatten(1, 2)).unflatten(1, size)
    n_c = se3.rotate(T_cw, gather_pixels(normals, index).flatten(1, 2)).unflatten(1, size)
    c, hit = gather_pixels(colors, index), (index >= 0).to(points.dtype)
    radius, confidence = gather_pixels(radii, index), gather_pixels(confidences, index)
    images = [*p_c.unbind(-1), *n_c.unbind(-1), *c.unbind(-1), radius, confidence, hit]
    images = [pad(pad(x, 1, -1), 1, -2) for x in images]
    number = pad(pad(index, 1, -1, -1), 1, -2, -1)
    rx, ry, _ = camera.unproject(torch.ones_like(p_c[..., :1]), K).unbind(-1)
    pixel = PIXEL_SIGMA / K[:, 0, 0, None, None]
    zero, own = torch.zeros_like(hit), index
    sums, front, reach = [zero] * 8, zero, zero
    for i, (dv, du) in enumerate(NEIGHBORS):
        x, y, z, nx, ny, nz, red, green, blue, radius, confidence, hit = (
            image[:, dv : dv + height, du : du + width] for image in images
        )
        facing = nx * rx + ny * ry + nz
        meets = facing.detach().abs() > 0.1  # at a grazing angle the plane is met anywhere: keep the center's depth
        depth = torch.where(meets, (nx * x + ny * y + nz * z) / torch.where(meets, facing, 1.0), z)
        off = (rx * depth - x).square() + (ry * depth - y).square() + (depth - z).square()
        spread = radius.clamp(min=1e-4).square() + (pixel * z).square()
        weight = torch.exp(-0.5 * (off / spread).clamp(max=KERNEL_CUTOFF)) * (confidence.clamp(min=0) + 1e-3) * hit
        if i == 0:
            front, reach = depth, 4 * spread.sqrt()
        else:
            weight = weight * (1 - ((depth - front) / reach).square()).clamp(min=0).square()
            weight = torch.where(number[:, dv : dv + height, du : du + width] == own, 0.0, weight)  # it counts once
        parts = (1.0, red, green, blue, depth, nx, ny, nz)
        sums = [total + weight * part for total, part in zip(sums, parts, strict=True)]
    there = sums[0].detach() > 0
    scale = divide(1.0, sums[0], there)
    red, green, blue, depth, nx, ny, nz = (total * scale for total in sums[1:])
    square = nx * nx + ny * ny + nz * nz
    scale = rsqrt(square, square.detach() > 1e-12)
    normal = torch.stack([nx * scale, ny * scale, nz * scale], -1)
    return torch.stack([red, green, blue], -1), depth[..., None], normal, there.to(depth.dtype)[..., None]
