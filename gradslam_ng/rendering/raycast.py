"""Volumes rendered: where a pixel's ray first passes from free space through a surface."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.geometry import camera, se3
from gradslam_ng.rendering.view import check_view
from gradslam_ng.structures import VoxelGrid
from gradslam_ng.structures.voxel_grid import SIDE, VOXELS, Sample, interpolate, unpack

TILE = 4  # pixels; rays of a tile start together
CELL = 2  # voxels along an edge of the cells in which surfaces are looked for
STEPS = 500  # after which a ray is given up
FEWER = 0.7  # rays that have ended are sorted out when so many of them go on
POLISH = 5  # Newton steps before the one that carries the gradient, where one is wanted: with three a few rays lag
SLACK = 0.2  # voxels from zero at most where a ray meets the surface


@dataclass(frozen=True, eq=False)
class RayCast:
    """Images of a volume, zero where no surface is met."""

    depth: Tensor  # (B, H, W, 1), metres
    normal: Tensor  # (B, H, W, 3), camera frame, unit, towards the camera
    color: Tensor  # (B, H, W, 3)
    mask: Tensor  # (B, H, W, 1) bool: a surface is met
    weight: Tensor  # (B, H, W, 1), how much was measured there


@dataclass(frozen=True, eq=False)
class Directory:
    """The rows of the blocks within a box, side by side: found faster than in a sorted list."""

    rows: Tensor  # (B * X * Y * Z,) int32, -1 where there is no block
    low: Tensor  # (3,) int32, block coordinates of the box's first
    extent: tuple[int, int, int]  # X, Y, Z

    @staticmethod
    def of(grid: VoxelGrid, chosen: Tensor) -> Directory:
        """For the blocks of grid.keys that are chosen (N,) bool, at least one of them."""
        owner, block = unpack(grid.keys[chosen])
        low = block.amin(0)
        extent = tuple((block.amax(0) - low + 1).tolist())
        x, y, z = (block - low).unbind(-1)
        rows = torch.full((grid.batch * math.prod(extent),), -1, dtype=torch.int32, device=block.device)
        rows[((owner * extent[0] + x) * extent[1] + y) * extent[2] + z] = grid.rows[chosen].int()
        return Directory(rows, low.int(), extent)

    def row(self, owner: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Row (...) of the block at x, y, z (...) of batch element owner (...), -1 for none."""
        x, y, z = (c - low for c, low in zip((x, y, z), self.low, strict=True))
        nx, ny, nz = self.extent
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)
        cell = ((owner * nx + x) * ny + y) * nz + z
        return torch.where(inside, self.rows[torch.where(inside, cell, 0)], -1)


def raycast(
    grid: VoxelGrid,
    T_wc: Tensor,
    K: Tensor,
    size: tuple[int, int],
    near: float = 0.05,
    offset: Tensor | None = None,
) -> RayCast:
    """What cameras see of volumes (Newcombe et al. 2011, section 3.4).

    A ray's hit solves sdf(o + t d) = 0, and the solution is differentiated as such (implicit function theorem), not
    through the search for it: depth, normal and colour have gradients to the volume's values, T_wc and K. Which
    voxels a ray meets its surface between is a constant of the gradient.

    T_wc (B, 4, 4), K (B, 3, 3), size (H, W); near: metres, nothing closer is seen; offset (H, W, 2): pixels, of each
    ray from its pixel's centre.

    Raises:
        ValueError: T_wc or K of another shape.
    """
    check_view(T_wc, K, grid.batch, "volume")
    exact = torch.is_grad_enabled()
    hits, directory = first_hits(grid, T_wc, K, size, near, exact, offset)
    if directory is None:
        nothing = (0.0 * (T_wc.sum() + K.sum())).expand(grid.batch, *size, 1)  # zero gradients, not none
        images = nothing.expand(-1, -1, -1, 3)
        return RayCast(nothing, images, images, nothing > 0, nothing)
    depth, normal, color, weight = checkpoint(meet, grid, directory, T_wc, K, hits, exact, offset)
    return RayCast(depth, normal, color, weight > 0, weight)


@compiled
def directions(T_wc: Tensor, K: Tensor, size: tuple[int, int], offset: Tensor | None) -> Tensor:
    """Of the pixels' rays, (B, H, W, 3): world frame, of unit depth."""
    return (T_wc[:, None, None, :3, :3] * pixel_rays(K, size, offset)[..., None, :]).sum(-1)


def pixel_rays(K: Tensor, size: tuple[int, int], offset: Tensor | None = None) -> Tensor:
    """Through the pixels, `offset` (H, W, 2) pixels from their centres: (B, H, W, 3), camera frame, of unit depth."""
    through = camera.unproject(torch.ones(len(K), *size, 1, dtype=K.dtype, device=K.device), K)
    if offset is None:
        return through
    side, down = offset.to(K).unbind(-1)
    fx, skew, fy = (K[:, i, j, None, None] for i, j in ((0, 0), (0, 1), (1, 1)))
    down = down / fy
    return through + torch.stack([(side - skew * down) / fx, down, torch.zeros_like(down)], -1)


@functools.cache
def scattered(size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """A place within each pixel, relative to its centre, (H, W, 2), at most half a pixel away, evenly spread over
    neighbours (the R2 sequence of Roberts 2018, along rows and columns).

    What is compared with an image at the centres of its pixels alone sees it sharper there than between them, and
    pulls a camera towards whole pixels.
    """
    row, column = (torch.arange(n, dtype=torch.float64, device=device) for n in size)
    along = torch.tensor([[0.7548776662466927, 0.5698402909980532], [0.5698402909980532, 0.3247179572447461]])
    place = column[:, None] * along[0].to(column) + row[:, None, None] * along[1].to(row)
    return place.frac() - 0.5


@torch.no_grad()
def first_hits(
    grid: VoxelGrid, T_wc: Tensor, K: Tensor, size: tuple[int, int], near: float, exact: bool, offset: Tensor | None
) -> tuple[Tensor, Directory | None]:
    """Depth (B, H, W) at which each ray passes a surface, to a fraction of a voxel or exactly, 0 for none."""
    hits = T_wc.new_zeros(len(T_wc), *size)
    if not len(grid.keys):
        return hits, None
    T_cw = se3.inverse(T_wc)
    owner, block = unpack(grid.keys)
    centres = ((block + 0.5) * grid.block_size).to(T_wc)
    _, _, chosen = project_balls(centres, owner, 1.1 * grid.block_size, T_cw, K, size, near)
    if not chosen.any():
        return hits, None
    directory = Directory.of(grid, chosen)
    owner, block, rows = owner[chosen], block[chosen], grid.rows[chosen]
    which, cell = near_cells(grid.sdf[rows], grid.weight[rows], grid.voxel_size).nonzero().unbind(-1)
    count = SIDE // CELL
    place = torch.stack([cell // count**2, cell // count % count, cell % count], -1) * CELL + 0.5 * (CELL - 1)
    centres = ((block[which] * SIDE + place) * grid.voxel_size).to(T_wc)
    tiles = bounds(centres, owner[which], 0.87 * CELL * grid.voxel_size, T_cw, K, size, near)
    start, end = (enlarged(tile, TILE)[:, : size[0], : size[1]].flatten() for tile in tiles)
    d_w, o_w, flat = directions(T_wc, K, size, offset).flatten(0, 2), T_wc[:, :3, 3], hits.flatten()
    pixel = torch.isfinite(start).nonzero()[:, 0]
    rays = [pixel, pixel // math.prod(size), d_w[pixel], start[pixel], end[pixel], *flat.new_zeros(3, len(pixel))]
    for _ in range(STEPS):
        rays[3:] = march(grid, directory, o_w, *rays[1:])
        going = (rays[3] < rays[4]).nonzero()[:, 0]
        if len(going) < FEWER * len(pixel):
            flat.index_copy_(0, rays[0], rays[-1])
            pixel, rays = rays[0][going], [value.index_select(0, going) for value in rays]
        if not len(going):
            break
    flat.index_copy_(0, rays[0], rays[-1])
    if exact:
        pixel = (flat > 0).nonzero()[:, 0]
        owner, t, d_w = pixel // math.prod(size), flat[pixel], d_w[pixel]
        for _ in range(POLISH):
            t = polish(grid, directory, owner, o_w, d_w, t)
        flat[pixel] = t
    return hits, directory


@compiled
def near_cells(sdf: Tensor, weight: Tensor, voxel_size: float) -> Tensor:
    """Which cells of 2^3 voxels of blocks (n, 512) have a surface in or beside them: (n, 64) bool."""
    near = (weight > 0) & (sdf.abs() < voxel_size)  # the nearest voxel to a surface is no farther
    cells = near.reshape(-1, SIDE // CELL, CELL, SIDE // CELL, CELL, SIDE // CELL, CELL)
    return cells.any(-1).any(-2).any(-3).reshape(len(sdf), -1)


@compiled
def project_balls(
    centres: Tensor, owner: Tensor, radius: float, T_cw: Tensor, K: Tensor, size: tuple[int, int], near: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Balls as cameras see them: pixels (n, 3) u, v and a bound of the radius; depth (n,); which are in sight (n,).

    centres (n, 3), world, of batch elements owner (n,); radius, metres. A ball about the camera fills the image.
    """
    height, width = size
    uv, z = camera.project(se3.transform(T_cw[owner], centres[:, None]), K[owner])
    u, v = uv[:, 0].unbind(-1)
    z = z[:, 0]
    around = (z - radius) < near
    focal = torch.maximum(K[owner, 0, 0], K[owner, 1, 1])
    # the outline of a ball off the axis is an ellipse, at most this much longer
    slant = 1 + ((u - K[owner, 0, 2]) / focal).square() + ((v - K[owner, 1, 2]) / focal).square()
    extent = torch.where(around, 4.0 * max(size), radius * focal * slant / (z - radius).clamp(min=1e-3))
    u, v = (torch.where(around, 0.0, c) for c in (u, v))
    outside = (u < -0.5 - extent) | (u > width + extent) | (v < -0.5 - extent) | (v > height + extent)
    return torch.stack([u, v, extent], -1), z, (z > near - radius) & ~outside


@compiled
def bounds(
    centres: Tensor, owner: Tensor, radius: float, T_cw: Tensor, K: Tensor, size: tuple[int, int], near: float
) -> tuple[Tensor, Tensor]:
    """The least and the greatest depth at which the rays of a tile may meet balls, inf and 0 where they do not.

    (B, H / TILE, W / TILE), rounded up. Balls are drawn as squares of up to four tiles, which are the larger the larger
    the ball appears.
    """
    height, width = size
    balls, z, seen = project_balls(centres, owner, radius, T_cw, K, size, near)
    u, v, extent = balls.unbind(-1)
    levels = max(1, math.ceil(math.log2(max(size) / TILE)) + 1)
    level = (2 * extent / TILE).clamp(min=1.0).log2().ceil().clamp(max=levels - 1)
    heights, widths, first = [], [], [0]
    for i in range(levels):
        heights.append(-(-height // (TILE << i)))
        widths.append(-(-width // (TILE << i)))
        first.append(first[-1] + heights[i] * widths[i])
    across, base = (torch.tensor(x, device=z.device)[level.long()] for x in (widths, first[:-1]))
    down = torch.tensor(heights, device=z.device)[level.long()]
    tile = TILE * level.exp2()
    corner = torch.arange(4, device=z.device)
    column = ((u[:, None] + 0.5 + (corner % 2 * 2 - 1) * extent[:, None]) / tile[:, None]).floor().long()
    row = ((v[:, None] + 0.5 + (corner // 2 * 2 - 1) * extent[:, None]) / tile[:, None]).floor().long()
    column, row = column.clamp(min=0).minimum(across[:, None] - 1), row.clamp(min=0).minimum(down[:, None] - 1)
    count, batch = first[-1], len(K)
    cell = torch.where(
        seen[:, None], owner[:, None] * count + base[:, None] + row * across[:, None] + column, batch * count
    )
    merged = []
    for depth, empty, rule in ((z - radius).clamp(min=near), torch.inf, "amin"), (z + radius, 0.0, "amax"):
        tiles = torch.full((batch * count + 1,), empty, dtype=z.dtype, device=z.device)
        tiles = tiles.scatter_reduce(0, cell.flatten(), depth[:, None].expand_as(cell).flatten(), rule)
        tiles = tiles[:-1].reshape(batch, count)
        coarse = tiles.new_full((batch, 1, 1), empty)
        for i in reversed(range(levels)):
            h, w = heights[i], widths[i]
            fine = tiles[:, first[i] : first[i + 1]].reshape(batch, h, w)
            coarse = enlarged(coarse, 2)[:, :h, :w]
            coarse = torch.minimum(fine, coarse) if rule == "amin" else torch.maximum(fine, coarse)
        merged.append(coarse)
    return merged[0], merged[1]


def enlarged(image: Tensor, factor: int) -> Tensor:
    """Every pixel of (B, h, w) as factor x factor of them."""
    b, h, w = image.shape
    return image[:, :, None, :, None].expand(b, h, factor, w, factor).reshape(b, factor * h, factor * w)


@compiled
def march(
    grid: VoxelGrid, directory: Directory, o_w: Tensor, owner: Tensor, d_w: Tensor, t: Tensor, end: Tensor,
    t_before: Tensor, before: Tensor, hit: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """One step of M rays o_w + t d_w through the voxels nearest to them, those at their `end` (M,) excepted.

    before (M,) is the signed distance last met, at t_before, 0 for none. A step is as long as the distance here is, in
    the open as far as the end of the empty block. Returns the last five; hit becomes the depth at which a ray has met a
    surface, and end 0 once it has met one or come out of the back of one.
    """
    size = grid.voxel_size
    o, d = (o_w[owner] / size).unbind(-1), (d_w / size).unbind(-1)
    length = d_w.norm(dim=-1)  # metres a unit of depth
    p = [a + t * b for a, b in zip(o, d, strict=True)]
    index = [(c + 0.5).floor().int() for c in p]
    row = directory.row(owner, *(c >> 3 for c in index))
    exists = row >= 0
    cell = row.clamp(min=0) * VOXELS + ((index[0] & 7) * SIDE + (index[1] & 7)) * SIDE + (index[2] & 7)
    known = exists & (grid.weight.flatten()[cell] > 0)
    value = torch.where(known, grid.sdf.flatten()[cell], 0.0)
    going = t < end
    through = going & (before > 0) & known & (value <= 0)
    hit = torch.where(through, t_before + (t - t_before) * before / torch.where(through, before - value, 1.0), hit)
    end = torch.where(through | ((before < 0) & (value > 0)), 0.0, end)
    leave = torch.full_like(t, torch.inf)  # depth until the ray leaves the block
    for a, b, c in zip(p, d, index, strict=True):
        wall = ((c >> 3) + (b > 0).int()) * SIDE - 0.5
        leave = torch.minimum(leave, torch.where(b.abs() > 1e-9, (wall - a) / b, torch.inf))
    # a voxel farther than the distance: oblique rays come near slowly, and the sign tells when one has gone too far
    inside = torch.where(known, value.abs() + size, 2 * size) / length
    step = torch.where(exists, inside, leave.clamp(min=0) + 0.05 * size / length)
    return torch.where(going, t + step, t), end, torch.where(known, t, t_before), value, hit


def sample(grid: VoxelGrid, directory: Directory, owner: Tensor, p_w: Tensor) -> Sample:
    """The volume at points (M, 3), world, of batch elements owner (M,)."""
    return interpolate(grid, lambda *block: directory.row(owner, *block), *(p_w / grid.voxel_size).unbind(-1))


def newton(found: Sample, d_w: Tensor, voxel_size: float) -> Tensor:
    """The step (M,) along d_w (M, 3) to the zero of the distance, at most a voxel; its slope is a constant."""
    slope = ((found.gradient * d_w).sum(-1) / voxel_size).detach()
    steep = slope < -0.02  # metres a unit of depth: less is a ray that grazes the surface
    return torch.where(steep, -found.sdf / torch.where(steep, slope, 1.0), 0.0).clamp(-voxel_size, voxel_size)


@compiled
def polish(grid: VoxelGrid, directory: Directory, owner: Tensor, o_w: Tensor, d_w: Tensor, t: Tensor) -> Tensor:
    """Depths t (M,) of hits after a Newton step."""
    return t + newton(sample(grid, directory, owner, o_w[owner] + t[:, None] * d_w), d_w, grid.voxel_size)


@compiled
def meet(
    grid: VoxelGrid, directory: Directory, T_wc: Tensor, K: Tensor, hits: Tensor, exact: bool, offset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Depth, normal, colour and weight where rays meet the surface near hits (B, H, W), 0 elsewhere: (B, H, W, ...).

    One Newton step from a constant that solves the equation already is the solution's derivative, as the implicit
    function theorem has it. Where hits are not exact the step makes them so to second order, and normal and colour are
    taken where it began, a fraction of a voxel away: half the work, where no gradient is wanted.
    """
    d_w, o_w = directions(T_wc, K, hits.shape[1:], offset), T_wc[:, None, None, :3, 3]
    owner = torch.arange(len(hits), device=hits.device)[:, None, None].expand(hits.shape)
    start = sample(grid, directory, owner, o_w + hits[..., None] * d_w)
    depth = hits + newton(start, d_w, grid.voxel_size)
    found = sample(grid, directory, owner, o_w + depth[..., None] * d_w) if exact else start
    slack = SLACK if exact else 1.0
    n_w = found.gradient
    met = (hits > 0) & (start.weight > 0) & (found.weight > 0) & (found.sdf.abs() < slack * grid.voxel_size)
    met = met & ((n_w * d_w).sum(-1) < 0)
    square = n_w.square().sum(-1)
    scale = torch.where(met, torch.where(met, square, 1.0).rsqrt(), 0.0)
    normal = (T_wc[:, None, None, :3, :3] * (scale[..., None] * n_w)[..., None]).sum(-2)
    color = torch.where(met[..., None], found.color, 0.0)
    return torch.where(met, depth, 0.0)[..., None], normal, color, torch.where(met, found.weight, 0.0)[..., None]
