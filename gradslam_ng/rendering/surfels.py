"""Surfel maps rendered, in two ways that share the choice of who is in front (`index_map.nearest_centres`).

`render` draws a picture: discs that cover what lies between their centres, met by each pixel's ray and blended. What
is looked at or compared with an image comes from it: `map.png`, novel views, losses on images, poses from images.

`predict` reads the map: at each pixel the one surfel whose centre falls there, its own point, normal and confidence.
Tracking and fusion want that, since they pair readings with surfels: a blend would average away the noise by which a
surfel is judged, would have no single confidence, and would put points where the map has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.compute.masks import pad
from gradslam_ng.geometry import camera, images, se3
from gradslam_ng.rendering.index_map import index_map, nearest_centres
from gradslam_ng.rendering.view import check_view
from gradslam_ng.structures import SurfaceView, SurfelMap

FADE = 8.0  # squared radii from a disc's centre beyond which its weight falls no further
PIXEL = 0.6  # pixels, standard deviation of the bell of a pixel itself


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


def predict(map_: SurfelMap, T_wm: Tensor, K: Tensor, size: tuple[int, int], stable_confidence: float) -> SurfaceView:
    """The surface that tracking expects to see from T_wm (B, 4, 4): the surfels' own centres and normals, unblended.

    A surfel weighs c / (c + stable), c its confidence; without any it is not there. K (B, 3, 3); size (H, W).
    """
    n = map_.num_slots
    known = (map_.points[:, :n], map_.normals[:, :n], map_.colors[:, :n], map_.confidences[:, :n], map_.mask[:, :n])
    vertices, normals, weights, intensity = splat(*known, T_wm, K, size, stable_confidence)
    return SurfaceView(vertices, normals, weights, K, intensity, T_wm)


@compiled(dynamic=("points", "normals", "colors", "confidences", "mask"))
def splat(
    points: Tensor,
    normals: Tensor,
    colors: Tensor,
    confidences: Tensor,
    mask: Tensor,
    T_wm: Tensor,
    K: Tensor,
    size: tuple[int, int],
    stable_confidence: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vertices and normals (B, H, W, 3), camera m, weights and intensity (B, H, W) of surfels (B, N, ...); see
    `predict`."""
    index = index_map(points, mask & (confidences > 0), T_wm, K, size)
    T_mw = se3.inverse(T_wm)
    hit = (index >= 0)[..., None]
    vertices = se3.transform(T_mw, gather(points, index).flatten(1, 2)).unflatten(1, size)
    turned = se3.rotate(T_mw, gather(normals, index).flatten(1, 2)).unflatten(1, size)
    c = gather(confidences, index)
    seen = images.intensity(gather(colors, index))[..., 0]
    return torch.where(hit, vertices, 0.0), turned, c / (c + stable_confidence), seen


def render(
    map_: SurfelMap, T_wc: Tensor, K: Tensor, size: tuple[int, int], near: float = 0.05, reach: int = 2
) -> Rendering:
    """Surfels drawn as discs, hidden by a z-buffer and blended softly where they overlap at the surface.

    Each pixel sees the nearest disc that covers it; those that its neighbours see join in as far as they lie on one
    surface with it, weighted by confidence and by a bell over their disc (Zwicker et al. 2001). The depth of a disc is
    where the pixel's ray meets its plane (Botsch and Kobbelt 2003). Colour, depth and normal have gradients to points,
    normals, colours, radii, confidences, T_wc and K; which discs a pixel sees is a constant of the gradient.

    The bell has the disc's radius, and that of the pixel itself is laid over it (`PIXEL`), so that neighbours blend
    even where each surfel is smaller than a pixel: the derivative of colour to the pose is then that of the painted
    surface, not of the lone dot that a pixel happens to see.

    T_wc (B, 4, 4), K (B, 3, 3), size (H, W); near: metres, nothing closer is drawn; reach: pixels, the greatest radius
    of a disc in the image.

    Raises:
        ValueError: T_wc or K of another shape.
    """
    check_view(T_wc, K, map_.batch, "map")
    n, T_cw = map_.num_slots, se3.inverse(T_wc)
    with torch.no_grad():
        index = disc_map(map_.points[:, :n], map_.radii[:, :n], map_.mask[:, :n], T_cw, K, size, near, reach)
    color, depth, normal, alpha = checkpoint(
        shade, index, map_.points[:, :n], map_.normals[:, :n], map_.colors[:, :n], map_.radii[:, :n],
        map_.confidences[:, :n], T_cw, K,
    )  # fmt: skip
    return Rendering(color, depth, normal, alpha, index)


@discrete
@compiled
def disc_map(
    points: Tensor, radii: Tensor, mask: Tensor, T_cw: Tensor, K: Tensor, size: tuple[int, int], near: float, reach: int
) -> Tensor:
    """Index (B, H, W) int64 of the nearest surfel whose disc covers each pixel, -1 for none: a discrete choice.

    A surfel whose centre is hidden in its own pixel is seen nowhere.
    """
    height, width = size
    u_0, v_0, z, centre = nearest_centres(points, mask, T_cw, K, size, near)
    there, slot = centre >= 0, centre.clamp(min=0)
    z_there = torch.where(there, z.gather(1, slot), torch.inf)
    extent = torch.where(there, radii.gather(1, slot) * K[:, 0, 0, None] / z_there, -1.0)  # pixels
    u, v = (plane.gather(1, slot) for plane in (u_0, v_0))
    planes = [(u, 0.0), (v, 0.0), (z_there, torch.inf), (extent, -1.0), (centre, -1)]
    planes = [pad(pad(x.unflatten(1, size), reach, -1, edge), reach, -2, edge) for x, edge in planes]
    column = torch.arange(width, device=z.device).to(z)
    row = torch.arange(height, device=z.device).to(z)[:, None]
    nearest = torch.full((len(z), *size), torch.inf, dtype=z.dtype, device=z.device)
    seen = torch.full((len(z), *size), -1, dtype=torch.int64, device=z.device)
    for dv in range(2 * reach + 1):
        for du in range(2 * reach + 1):
            u, v, depth, extent, slot = (x[:, dv : dv + height, du : du + width] for x in planes)
            covers = (u - column).square() + (v - row).square() <= extent * extent.abs()
            covers = (covers | (dv == reach and du == reach)) & (depth < nearest)
            nearest, seen = torch.where(covers, depth, nearest), torch.where(covers, slot, seen)
    return seen


NEIGHBOURS = ((1, 1), (0, 1), (1, 0), (1, 2), (2, 1))  # a pixel itself first, as row and column of a 3 x 3 window


@compiled
def shade(
    index: Tensor, points: Tensor, normals: Tensor, colors: Tensor, radii: Tensor, confidences: Tensor, T_cw: Tensor,
    K: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Colour, depth, normal (B, H, W, ...) and 1 where a surfel is seen, from the discs in index (B, H, W)."""
    size = index.shape[1:]
    height, width = size
    p_c = se3.transform(T_cw, gather(points, index).flatten(1, 2)).unflatten(1, size)
    n_c = se3.rotate(T_cw, gather(normals, index).flatten(1, 2)).unflatten(1, size)
    c, hit = gather(colors, index), (index >= 0).to(points.dtype)
    planes = [*p_c.unbind(-1), *n_c.unbind(-1), *c.unbind(-1), gather(radii, index), gather(confidences, index), hit]
    planes = [pad(pad(x, 1, -1), 1, -2) for x in planes]
    number = pad(pad(index, 1, -1, -1), 1, -2, -1)
    rx, ry, _ = camera.unproject(torch.ones_like(p_c[..., :1]), K).unbind(-1)
    pixel = PIXEL / K[:, 0, 0, None, None]
    sums, front, own = [0.0] * 8, None, None
    for dv, du in NEIGHBOURS:
        x, y, z, nx, ny, nz, red, green, blue, radius, trust, hit = (
            plane[:, dv : dv + height, du : du + width] for plane in planes
        )
        facing = nx * rx + ny * ry + nz
        meets = facing.detach().abs() > 0.1  # at a grazing angle the plane is met anywhere: keep the centre's depth
        depth = torch.where(meets, (nx * x + ny * y + nz * z) / torch.where(meets, facing, 1.0), z)
        off = (rx * depth - x).square() + (ry * depth - y).square() + (depth - z).square()
        spread = radius.clamp(min=1e-4).square() + (pixel * z).square()
        bell = torch.exp(-0.5 * (off / spread).clamp(max=FADE)) * (trust.clamp(min=0) + 1e-3) * hit
        if front is None:
            front, own, band = depth, number[:, 1:-1, 1:-1], 4 * spread.sqrt()
        else:
            bell = bell * (1 - ((depth - front) / band).square()).clamp(min=0).square()
            bell = torch.where(number[:, dv : dv + height, du : du + width] == own, 0.0, bell)  # it counts once
        parts = (1.0, red, green, blue, depth, nx, ny, nz)
        sums = [total + bell * part for total, part in zip(sums, parts, strict=True)]
    there = sums[0].detach() > 0
    scale = torch.where(there, 1 / torch.where(there, sums[0], 1.0), 0.0)
    red, green, blue, depth, nx, ny, nz = (total * scale for total in sums[1:])
    square = nx * nx + ny * ny + nz * nz
    usable = square.detach() > 1e-12
    scale = torch.where(usable, torch.where(usable, square, 1.0).rsqrt(), 0.0)
    normal = torch.stack([nx * scale, ny * scale, nz * scale], -1)
    return torch.stack([red, green, blue], -1), depth[..., None], normal, there.to(depth.dtype)[..., None]
