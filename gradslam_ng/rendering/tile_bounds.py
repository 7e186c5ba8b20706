"""Bounds of the depth at which the rays of an image tile may meet spheres, merged over a pyramid of tiles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.geometry import camera, se3

TILE = 4  # pixels; rays of a tile start together


@compiled
def project_spheres(
    centers: Tensor,  # (n, 3), world, meters
    batch_index: Tensor,  # (n,)
    radius: float,  # meters
    T_cw: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float,  # meters
) -> tuple[Tensor, Tensor, Tensor]:
    """Spheres as cameras see them: pixels (n, 3) u, v and a bound of the radius; depth (n,); which are in sight (n,).

    A sphere about the camera fills the image.
    """
    height, width = size
    uv, z = camera.project(se3.transform(T_cw[batch_index], centers[:, None]), K[batch_index])
    u, v = uv[:, 0].unbind(-1)
    z = z[:, 0]
    encloses = (z - radius) < near
    focal = torch.maximum(K[batch_index, 0, 0], K[batch_index, 1, 1])
    # the outline of a sphere off the axis is an ellipse, at most this much longer
    slant = 1 + ((u - K[batch_index, 0, 2]) / focal).square() + ((v - K[batch_index, 1, 2]) / focal).square()
    extent = torch.where(encloses, 4.0 * max(size), radius * focal * slant / (z - radius).clamp(min=1e-3))
    u, v = (torch.where(encloses, 0.0, c) for c in (u, v))
    outside = (u < -0.5 - extent) | (u > width + extent) | (v < -0.5 - extent) | (v > height + extent)
    return torch.stack([u, v, extent], -1), z, (z > near - radius) & ~outside


@compiled
def tile_depth_ranges(
    centers: Tensor,  # (n, 3), world, meters
    batch_index: Tensor,  # (n,)
    radius: float,  # meters
    T_cw: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float,  # meters
) -> tuple[Tensor, Tensor]:
    """The least and the greatest depth at which the rays of a tile may meet spheres, inf and 0 where they do not.

    (B, H / TILE, W / TILE), rounded up. Spheres are drawn as squares of up to four tiles, which are the larger the
    larger the sphere appears.
    """
    circles, z, seen = project_spheres(centers, batch_index, radius, T_cw, K, size, near)
    levels = max(1, math.ceil(math.log2(max(size) / TILE)) + 1)
    shapes = [(-(-size[0] // (TILE << i)), -(-size[1] // (TILE << i))) for i in range(levels)]
    first = [0]
    for height, width in shapes:
        first.append(first[-1] + height * width)
    count, batch = first[-1], K.shape[0]
    cell = torch.where(
        seen[:, None], batch_index[:, None] * count + covering_tiles(circles, shapes, first), batch * count
    )
    nearest, farthest = (z - radius).clamp(min=near), z + radius
    merged = []
    for depth, empty, reduction in (nearest, torch.inf, "amin"), (farthest, 0.0, "amax"):
        tiles = torch.full((batch * count + 1,), empty, dtype=z.dtype, device=z.device)
        tiles = tiles.scatter_reduce(0, cell.flatten(), depth[:, None].expand_as(cell).flatten(), reduction)
        tiles = tiles[:-1].reshape(batch, count)
        coarse = tiles.new_full((batch, 1, 1), empty)
        for i in reversed(range(levels)):
            height, width = shapes[i]
            fine = tiles[:, first[i] : first[i + 1]].reshape(batch, height, width)
            coarse = upsample_nearest(coarse, 2)[:, :height, :width]
            coarse = torch.minimum(fine, coarse) if reduction == "amin" else torch.maximum(fine, coarse)
        merged.append(coarse)
    return merged[0], merged[1]


def covering_tiles(
    circles: Tensor,  # (n, 3), pixels: u, v, radius
    shapes: list[tuple[int, int]],  # rows and columns of tiles, by level
    first: list[int],  # number of the first tile of each level
) -> Tensor:
    """Numbers (n, 4) of the tiles that cover each circle, all of the finest level of which four do."""
    u, v, radius = circles.unbind(-1)
    level = (2 * radius / TILE).clamp(min=1.0).log2().ceil().clamp(max=len(shapes) - 1)
    tables = ([height for height, _ in shapes], [width for _, width in shapes], first[:-1])
    rows, columns, base = (torch.tensor(x, device=u.device)[level.long()] for x in tables)
    tile = TILE * level.exp2()
    corner = torch.arange(4, device=u.device)
    column = ((u[:, None] + 0.5 + (corner % 2 * 2 - 1) * radius[:, None]) / tile[:, None]).floor().long()
    row = ((v[:, None] + 0.5 + (corner // 2 * 2 - 1) * radius[:, None]) / tile[:, None]).floor().long()
    column, row = column.clamp(min=0).minimum(columns[:, None] - 1), row.clamp(min=0).minimum(rows[:, None] - 1)
    return base[:, None] + row * columns[:, None] + column


def upsample_nearest(image: Tensor, factor: int) -> Tensor:  # image (B, h, w)
    """Every pixel as factor x factor of them: (B, factor h, factor w)."""
    b, h, w = image.shape
    return image[:, :, None, :, None].expand(b, h, factor, w, factor).reshape(b, factor * h, factor * w)
