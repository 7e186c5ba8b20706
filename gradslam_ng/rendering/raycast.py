"""Ray casting of signed distances: where a pixel's ray first passes from free space through a surface."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.safe import divide, rsqrt
from gradslam_ng.geometry import se3
from gradslam_ng.rendering.block_index import BlockIndex
from gradslam_ng.rendering.rays import ray_directions
from gradslam_ng.rendering.tile_bounds import TILE, project_spheres, tile_depth_ranges, upsample_nearest
from gradslam_ng.rendering.view import check_view
from gradslam_ng.structures import VoxelGrid
from gradslam_ng.structures.origin import relative_to_origin
from gradslam_ng.structures.voxel_grid import (
    BLOCK_RESOLUTION,
    BLOCK_SHIFT,
    VOXELS_PER_BLOCK,
    Sample,
    interpolate,
    unpack,
    voxel_index,
)

CELL = 2  # voxels along an edge of the cells in which surfaces are looked for
MAX_STEPS = 500  # after which a ray is given up
COMPACT_BELOW = 0.7  # rays that have ended are sorted out when so many of them go on
NEWTON_STEPS = 5  # before the one that carries the gradient, where one is wanted: with three a few rays lag
HIT_TOLERANCE = 0.2  # voxels from zero at most where a ray meets the surface


@dataclass(frozen=True, eq=False)
class RayCast:
    """Images of a volume, zero where no surface is met."""

    depth: Tensor  # (B, H, W, 1), meters
    normal: Tensor  # (B, H, W, 3), camera frame, unit, towards the camera
    color: Tensor  # (B, H, W, 3)
    mask: Tensor  # (B, H, W, 1) bool: a surface is met
    weight: Tensor  # (B, H, W, 1), how much was measured there


class Rays(NamedTuple):
    """M rays on their way. Depths are in meters."""

    batch_index: Tensor  # (M,) int64
    direction: Tensor  # (M, 3), world, of unit depth
    t: Tensor  # (M,), depth now
    end: Tensor  # (M,), depth at which it is given up; 0 once it has met a surface, or left one at its back
    t_before: Tensor  # (M,), depth at which a distance was met last
    before: Tensor  # (M,), that distance, meters, 0 for none
    hit: Tensor  # (M,), depth at which it met a surface, 0 for none


@mode_free
def raycast(
    grid: VoxelGrid,
    T_wc: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float = 0.05,  # meters, nothing closer is seen
    offset: Tensor | None = None,  # (H, W, 2), pixels, of each ray from its pixel's center
) -> RayCast:
    """What cameras see of volumes (Newcombe et al. 2011, section 3.4).

    A ray's hit solves sdf(o + t d) = 0, and the solution is differentiated as such (implicit function theorem), not
    through the search for it: depth, normal and color have gradients to the volume's values, T_wc and K. Which
    voxels a ray meets its surface between is a constant of the gradient.

    Raises:
        ValueError: T_wc or K of another shape.
    """
    check_view(T_wc, K, grid.batch, "volume")
    T_wc, grid = relative_to_origin(T_wc, grid.origin, K.dtype), replace(grid, origin=None)
    exact = torch.is_grad_enabled()
    hits, blocks = find_hits(grid, T_wc, K, size, near, exact, offset)
    if blocks is None:
        nothing = (0.0 * (T_wc.sum() + K.sum())).expand(grid.batch, *size, 1)  # zero gradients, not none
        images = nothing.expand(-1, -1, -1, 3)
        return RayCast(nothing, images, images, nothing > 0, nothing)
    depth, normal, color, weight = checkpoint(intersect_surface, grid, blocks, T_wc, K, hits, exact, offset)
    return RayCast(depth, normal, color, weight > 0, weight)


@torch.no_grad()
def find_hits(
    grid: VoxelGrid,
    T_wc: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float,  # meters
    exact: bool,
    offset: Tensor | None,  # (H, W, 2), pixels
) -> tuple[Tensor, BlockIndex | None]:
    """Depth (B, H, W) at which each ray passes a surface, to a fraction of a voxel or exactly, 0 for none; and the
    blocks in sight, None where there are none."""
    hits = T_wc.new_zeros(len(T_wc), *size)
    if not len(grid.keys):
        return hits, None
    T_cw = se3.inverse(T_wc)
    batch_index, block = unpack(grid.keys)
    centers = (block.to(T_wc.dtype) + 0.5) * grid.block_size
    _, _, chosen = project_spheres(centers, batch_index, 1.1 * grid.block_size, T_cw, K, size, near)
    if not chosen.any():
        return hits, None
    blocks = BlockIndex.from_grid(grid, chosen)
    centers, batch_index = surface_cells(grid, chosen)
    radius = 0.87 * CELL * grid.voxel_size
    tiles = tile_depth_ranges(centers.to(T_wc), batch_index, radius, T_cw, K, size, near)
    start, end = (upsample_nearest(tile, TILE)[:, : size[0], : size[1]].flatten() for tile in tiles)
    pixel = torch.isfinite(start).nonzero()[:, 0]
    flat, d_w = hits.flatten(), ray_directions(T_wc, K, size, offset).flatten(0, 2)
    zeros = flat.new_zeros(3, len(pixel)).unbind(0)
    rays = Rays(pixel // math.prod(size), d_w[pixel], start[pixel], end[pixel], *zeros)
    march_to_surface(grid, blocks, T_wc[:, :3, 3], rays, pixel, flat)
    if exact:
        pixel = (flat > 0).nonzero()[:, 0]
        t = flat[pixel]
        for _ in range(NEWTON_STEPS):
            t = newton_refine(grid, blocks, pixel // math.prod(size), T_wc[:, :3, 3], d_w[pixel], t)
        flat[pixel] = t
    return hits, blocks


def surface_cells(grid: VoxelGrid, chosen: Tensor) -> tuple[Tensor, Tensor]:  # chosen (N,) bool, of grid.keys
    """Centers (n, 3), world, meters, and batch elements (n,) of the cells of blocks that have a surface in or beside
    them."""
    batch_index, block = unpack(grid.keys[chosen])
    slots = grid.slots[chosen]
    which, cell = has_surface(grid.sdf[slots], grid.weight[slots], grid.voxel_size).nonzero().unbind(-1)
    count = BLOCK_RESOLUTION // CELL
    place = torch.stack([cell // count**2, cell // count % count, cell % count], -1) * CELL
    first = (block[which] * BLOCK_RESOLUTION + place).to(grid.sdf.dtype)
    return (first + 0.5 * (CELL - 1)) * grid.voxel_size, batch_index[which]


@compiled
def has_surface(
    sdf: Tensor,  # (n, 512), meters
    weight: Tensor,  # (n, 512)
    voxel_size: float,
) -> Tensor:
    """Which cells of 2^3 voxels of blocks have a surface in or beside them: (n, 64) bool."""
    near = (weight > 0) & (sdf.abs() < voxel_size)  # the nearest voxel to a surface is no farther
    cells = near.reshape(-1, *(BLOCK_RESOLUTION // CELL, CELL) * 3)
    return cells.any(-1).any(-2).any(-3).reshape(len(sdf), -1)


def march_to_surface(
    grid: VoxelGrid,
    blocks: BlockIndex,
    o_w: Tensor,  # (B, 3)
    rays: Rays,
    pixel: Tensor,  # (M,) int64, of each ray
    hits: Tensor,  # (B * H * W,), written to
) -> None:
    """Steps until all rays have ended, and the depth at which each met a surface written to its pixel."""
    count = len(pixel)
    for _ in range(MAX_STEPS):
        rays = Rays(rays.batch_index, rays.direction, *march(grid, blocks, o_w, rays))
        going = (rays.t < rays.end).nonzero()[:, 0]
        if len(going) < COMPACT_BELOW * count:
            hits.index_copy_(0, pixel, rays.hit)
            count, pixel = len(going), pixel.index_select(0, going)
            rays = Rays(*(value.index_select(0, going) for value in rays))
        if not len(going):
            break
    hits.index_copy_(0, pixel, rays.hit)


@compiled
def march(
    grid: VoxelGrid,
    blocks: BlockIndex,
    o_w: Tensor,  # (B, 3)
    rays: Rays,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One step of rays o_w + t d_w through the voxels nearest to them, those at their end excepted.

    A step is as long as the distance here is, in the open as far as the end of the empty block. Returns t, end,
    t_before, before and hit after it.
    """
    size, t = grid.voxel_size, rays.t
    o, d = (o_w[rays.batch_index] / size).unbind(-1), (rays.direction / size).unbind(-1)
    length = rays.direction.norm(dim=-1)  # meters a unit of depth
    p = [a + t * b for a, b in zip(o, d, strict=True)]
    voxel = [(c + 0.5).floor().int() for c in p]
    slot = blocks.find(rays.batch_index, *(c >> BLOCK_SHIFT for c in voxel))
    exists = slot >= 0
    cell = slot.clamp(min=0) * VOXELS_PER_BLOCK + voxel_index(*voxel)
    known = exists & (grid.weight.flatten()[cell] > 0)
    value = torch.where(known, grid.sdf.flatten()[cell], 0.0)
    before, t_before = rays.before, rays.t_before
    going = t < rays.end
    through = going & (before > 0) & known & (value <= 0)
    hit = torch.where(through, t_before + (t - t_before) * before / torch.where(through, before - value, 1.0), rays.hit)
    end = torch.where(through | ((before < 0) & (value > 0)), 0.0, rays.end)
    leave = torch.full_like(t, torch.inf)  # depth until the ray leaves the block
    for a, b, c in zip(p, d, voxel, strict=True):
        wall = (((c >> BLOCK_SHIFT) + (b > 0).int()) * BLOCK_RESOLUTION).to(b.dtype) - 0.5
        leave = torch.minimum(leave, torch.where(b.abs() > 1e-9, (wall - a) / b, torch.inf))
    # a voxel farther than the distance: oblique rays come near slowly, and the sign tells when one has gone too far
    inside = torch.where(known, value.abs() + size, 2 * size) / length
    step = torch.where(exists, inside, leave.clamp(min=0) + 0.05 * size / length)
    return torch.where(going, t + step, t), end, torch.where(known, t, t_before), value, hit


def sample(
    grid: VoxelGrid,
    blocks: BlockIndex,
    batch_index: Tensor,  # (...)
    p_w: Tensor,  # (..., 3), world, meters
) -> Sample:
    """The volumes at points."""
    return interpolate(grid, lambda *block: blocks.find(batch_index, *block), *(p_w / grid.voxel_size).unbind(-1))


def newton_step(
    found: Sample,  # (...)
    d_w: Tensor,  # (..., 3)
    voxel_size: float,
) -> Tensor:
    """The step (...) along d_w to the zero of the distance, at most a voxel; its slope is a constant."""
    slope = ((found.gradient * d_w).sum(-1) / voxel_size).detach()
    steep = slope < -0.02  # meters a unit of depth: less is a ray that grazes the surface
    return divide(-found.sdf, slope, steep).clamp(-voxel_size, voxel_size)


@compiled
def newton_refine(
    grid: VoxelGrid,
    blocks: BlockIndex,
    batch_index: Tensor,  # (M,)
    o_w: Tensor,  # (B, 3)
    d_w: Tensor,  # (M, 3)
    t: Tensor,  # (M,)
) -> Tensor:
    """Depths (M,) of hits after a Newton step."""
    p_w = o_w[batch_index] + t[:, None] * d_w
    return t + newton_step(sample(grid, blocks, batch_index, p_w), d_w, grid.voxel_size)


@compiled
def intersect_surface(
    grid: VoxelGrid,
    blocks: BlockIndex,
    T_wc: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    hits: Tensor,  # (B, H, W), depth, 0 for none
    exact: bool,
    offset: Tensor | None,  # (H, W, 2), pixels
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Depth, normal, color and weight where rays meet the surface near hits, 0 elsewhere: (B, H, W, ...).

    One Newton step from a constant that solves the equation already is the solution's derivative, as the implicit
    function theorem has it. Where hits are not exact the step makes them so to second order, and normal and color are
    taken where it began, a fraction of a voxel away: half the work, where no gradient is wanted.
    """
    d_w, o_w = ray_directions(T_wc, K, (hits.shape[1], hits.shape[2]), offset), T_wc[:, None, None, :3, 3]
    batch_index = torch.arange(len(hits), device=hits.device)[:, None, None].expand(hits.shape)
    start = sample(grid, blocks, batch_index, o_w + hits[..., None] * d_w)
    depth = hits + newton_step(start, d_w, grid.voxel_size)
    found = sample(grid, blocks, batch_index, o_w + depth[..., None] * d_w) if exact else start
    tolerance = HIT_TOLERANCE if exact else 1.0
    n_w = found.gradient
    met = (hits > 0) & (start.weight > 0) & (found.weight > 0) & (found.sdf.abs() < tolerance * grid.voxel_size)
    met = met & ((n_w * d_w).sum(-1) < 0)
    scale = rsqrt(n_w.square().sum(-1), met)
    normal = (T_wc[:, None, None, :3, :3] * (scale[..., None] * n_w)[..., None]).sum(-2)
    color = torch.where(met[..., None], found.color, 0.0)
    return torch.where(met, depth, 0.0)[..., None], normal, color, torch.where(met, found.weight, 0.0)[..., None]
