"""Ray casting of signed distances: where a pixel's ray first passes from free space through a surface."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import discrete, steady_floor
from gradslam_ng.compute.safe import divide, rsqrt
from gradslam_ng.compute.transforms import refuse_vmap
from gradslam_ng.geometry import se3
from gradslam_ng.rendering.block_index import BlockIndex
from gradslam_ng.rendering.rays import ray_directions
from gradslam_ng.rendering.tile_bounds import TILE, project_spheres, tile_depth_ranges, upsample_nearest
from gradslam_ng.rendering.view import check_view
from gradslam_ng.structures import VoxelGrid
from gradslam_ng.structures.origin import relative_to_origin
from gradslam_ng.structures.voxel_blocks import BLOCK_RESOLUTION, BLOCK_SHIFT, VOXELS_PER_BLOCK, unpack, voxel_index
from gradslam_ng.structures.voxel_interpolation import (
    Corners,
    are_known,
    find_corners,
    gather_color,
    gather_distances,
    gather_weight,
    trilinear,
)

CELL = 2  # voxels along an edge of the cells in which surfaces are looked for
MAX_STEPS = 500  # after which a ray is given up
COMPACT_BELOW = 0.7  # rays that have ended are sorted out when so many of them go on
NEWTON_STEPS = 5  # from where marching ended, a fraction of a voxel away
REACH = 1.5  # voxels along a ray within which its surface must lie: what is farther is the slope beyond an edge
CELL_MARGIN = 1e-3  # voxels beyond the eight around a hit at which its surface is still theirs
SEARCH, SEARCH_STEP = 2.0, 1 / 3  # voxels to each side of where marching ended, and between two looks
MIN_SLOPE = 0.02  # meters a unit of depth: less is a ray that grazes the surface


@dataclass(frozen=True, eq=False)
class RayCast:
    """Images of a volume, zero where no surface is met."""

    depth: Tensor  # (B, H, W, 1), meters
    normal: Tensor  # (B, H, W, 3), camera frame, unit, towards the camera
    color: Tensor  # (B, H, W, 3)
    mask: Tensor  # (B, H, W, 1) bool: a surface is met
    weight: Tensor  # (B, H, W, 1), how much was measured there


class Crossing(NamedTuple):
    """Where rays (...) cross a surface."""

    step: Tensor  # (...), from where one was looked for, in units of depth
    place: tuple[Tensor, Tensor, Tensor]  # (...) each, see `Corners`
    gradient: Tensor  # (..., 3), of the distance there, meters a voxel
    ok: Tensor  # (...) bool: the rest is of use


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

    A ray's hit solves sdf(o + t d) = 0, sdf interpolated trilinearly, and the solution is differentiated as such
    (implicit function theorem), not through the search for it: depth, normal, color and weight have gradients to the
    volume's values, T_wc and K. Which voxels a ray meets its surface between is a constant of the gradient.

    Raises:
        ValueError: see `check_view`.
        TypeError: another kind of map.
        RuntimeError: within `torch.vmap`.
    """
    if not isinstance(grid, VoxelGrid):
        raise TypeError(f"grid: expected a VoxelGrid, got {type(grid).__name__}; surfels are rendered")
    refuse_vmap("raycast", grid.sdf, grid.weight, grid.color, T_wc, K)
    check_view(T_wc, K, grid.batch, size, grid.sdf, "volume")
    T_wc, grid = relative_to_origin(T_wc, grid.origin, K.dtype), replace(grid, origin=None)
    hits, blocks = find_hits(grid, T_wc, K, size, near, offset)
    if blocks is None:
        nothing = (0.0 * (T_wc.sum() + K.sum())).expand(grid.batch, *size, 1)  # zero gradients, not none
        images = nothing.expand(-1, -1, -1, 3)
        return RayCast(nothing, images, images, nothing > 0, nothing)
    depth, normal, color, weight = checkpoint(intersect_surface, grid, blocks, T_wc, K, hits, offset)
    return RayCast(depth, normal, color, depth > 0, weight)


@discrete
def find_hits(
    grid: VoxelGrid,
    T_wc: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    near: float,  # meters
    offset: Tensor | None,  # (H, W, 2), pixels
) -> tuple[Tensor, BlockIndex | None]:
    """Depth (B, H, W) at which each ray passes a surface, 0 for none; and the blocks in sight, None where there are
    none. A discrete choice: `intersect_surface` starts from there."""
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
    flat, d_w = hits.flatten(), ray_directions(T_wc, K, size, offset).flatten(0, 2)
    pixel = torch.arange(len(flat), device=flat.device)
    batch_index = pixel[: len(T_wc)].repeat_interleave(math.prod(size))
    march_to_surface(grid, blocks, T_wc[:, :3, 3], Rays(batch_index, d_w, start, end, flat, flat, flat), pixel, flat)
    refine_hits(grid, blocks, T_wc[:, :3, 3], batch_index, d_w, flat)
    return hits, blocks


def surface_cells(grid: VoxelGrid, chosen: Tensor) -> tuple[Tensor, Tensor]:  # chosen (N,) bool, of grid.keys
    """Centers (n, 3), world, meters, and batch elements (n,) of the cells of blocks that have a surface in or beside
    them."""
    batch_index, block = unpack(grid.keys[chosen])
    which, cell = has_surface(grid, grid.slots[chosen]).nonzero().unbind(-1)
    count = BLOCK_RESOLUTION // CELL
    place = torch.stack([cell // count**2, cell // count % count, cell % count], -1) * CELL
    first = (block[which] * BLOCK_RESOLUTION + place).to(grid.sdf.dtype)
    return (first + 0.5 * (CELL - 1)) * grid.voxel_size, batch_index[which]


@compiled
def has_surface(grid: VoxelGrid, slots: Tensor) -> Tensor:  # slots (n,)
    """Which cells of 2^3 voxels of blocks have a surface in or beside them: (n, 64) bool."""
    # the nearest voxel to a surface is no farther; as distances, since compiled, bools are written byte by byte
    distance = torch.where(grid.weight[slots] > 0, grid.sdf[slots].abs(), torch.inf)
    cells = distance.unflatten(1, (BLOCK_RESOLUTION // CELL, CELL) * 3)
    for axis in (6, 4, 2):
        cells = functools.reduce(torch.minimum, cells.unbind(axis))
    return (cells < grid.voxel_size).flatten(1)


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
    voxel = [steady_floor(c + 0.5).int() for c in p]
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


def refine_hits(
    grid: VoxelGrid,
    blocks: BlockIndex,
    o_w: Tensor,  # (B, 3)
    batch_index: Tensor,  # (M,)
    d_w: Tensor,  # (M, 3)
    hits: Tensor,  # (M,), depth, 0 for none, written to
) -> None:
    """Moves hits to where their rays pass through the surface between the very eight voxels around them.

    As a rule Newton's method finds it, at most in the cell beside. Where distances come from few and noisy frames
    it may not, as they are far from linear: there the ray is searched to both sides.
    """
    pixel, marched = (hits > 0).nonzero()[:, 0], hits.clone()
    for move, start in ((step_to_surface, hits), (step_to_surface, hits), (search_surface, marched)):
        if not len(pixel):
            return
        depth, done = move(grid, blocks, o_w, batch_index[pixel], d_w[pixel], start[pixel])
        hits.index_copy_(0, pixel, depth)
        pixel = pixel[~done]


@compiled(vectorize_gathers=True)
def step_to_surface(
    grid: VoxelGrid,
    blocks: BlockIndex,
    o_w: Tensor,  # (B, 3)
    batch_index: Tensor,  # (M,)
    d_w: Tensor,  # (M, 3)
    t: Tensor,  # (M,), depth
) -> tuple[Tensor, Tensor]:
    """Depth (M,) of the surface of which the eight voxels around t tell, and whether it lies between them (M,)."""
    corners = corners_around(grid, blocks, batch_index, o_w[batch_index] + t[:, None] * d_w)
    found = solve_in_cell(gather_distances(grid, corners), corners.place, d_w, grid.voxel_size)
    inside = [(c > -CELL_MARGIN) & (c < 1 + CELL_MARGIN) for c in found.place]
    return torch.where(found.ok, t + found.step, t), found.ok & inside[0] & inside[1] & inside[2]


@compiled
def search_surface(
    grid: VoxelGrid,
    blocks: BlockIndex,
    o_w: Tensor,  # (B, 3)
    batch_index: Tensor,  # (M,)
    d_w: Tensor,  # (M, 3)
    t: Tensor,  # (M,), depth
) -> tuple[Tensor, Tensor]:
    """Depth (M,) at which rays first pass through the interpolated surface within `SEARCH` voxels of t, which stays
    where they do not, and whether they do (M,)."""
    count = round(2 * SEARCH / SEARCH_STEP)
    voxel = grid.voxel_size * d_w.square().sum(-1).rsqrt()  # in units of depth
    samples = t + torch.linspace(-SEARCH, SEARCH, count + 1, device=t.device, dtype=t.dtype)[:, None] * voxel
    corners = corners_around(grid, blocks, batch_index, o_w[batch_index] + samples[..., None] * d_w)
    known, (sdf, *_) = are_known(grid, corners), trilinear(gather_distances(grid, corners), corners.place)
    through = (sdf[:-1] > 0) & (sdf[1:] <= 0) & known[:-1] & known[1:]
    first, found = through.int().argmax(0, keepdim=True), through.any(0)
    before, after, start = (value.gather(0, i)[0] for value, i in ((sdf, first), (sdf, first + 1), (samples, first)))
    crossing = start + SEARCH_STEP * voxel * divide(before, before - after, found)
    return torch.where(found, crossing, t), found


def corners_around(
    grid: VoxelGrid,
    blocks: BlockIndex,
    batch_index: Tensor,  # (...)
    p_w: Tensor,  # (..., 3), meters
) -> Corners:
    """The eight voxels around points of a batch of volumes."""
    return find_corners(lambda *block: blocks.find(batch_index, *block), *(p_w / grid.voxel_size).unbind(-1))


def solve_in_cell(
    distances: Sequence[Tensor],  # eight (...), meters, in the order of `Corners`
    start: Sequence[Tensor],  # three (...), places between them
    d_w: Tensor,  # (..., 3), meters a unit of depth
    voxel_size: float,  # meters
) -> Crossing:
    """Where near `start` rays fall through the zero of the distance interpolated between eight voxels.

    By Newton's method, with whose values the derivatives of first and second order converge.
    """
    d = (d_w / voxel_size).unbind(-1)
    reach = (REACH * voxel_size * d_w.square().sum(-1).rsqrt()).detach()  # in units of depth
    step = torch.zeros_like(reach)
    for i in range(NEWTON_STEPS + 1):
        place = [c + step * b for c, b in zip(start, d, strict=True)]
        sdf, *gradient = trilinear(distances, place)
        slope = gradient[0] * d[0] + gradient[1] * d[1] + gradient[2] * d[2]
        falls = slope.detach() < -MIN_SLOPE
        if i < NEWTON_STEPS:
            step = (step + divide(-sdf, slope, falls)).clamp(-reach, reach)
    ok = falls & (sdf.detach().abs() < 1e-5 * voxel_size) & (step.detach().abs() < reach)
    return Crossing(step, (place[0], place[1], place[2]), torch.stack(gradient, -1), ok)


@compiled(vectorize_gathers=True)
def intersect_surface(
    grid: VoxelGrid,
    blocks: BlockIndex,
    T_wc: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    hits: Tensor,  # (B, H, W), depth, 0 for none
    offset: Tensor | None,  # (H, W, 2), pixels
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Depth, normal, color and weight where rays meet the surface next to hits, 0 elsewhere: (B, H, W, ...)."""
    d_w, o_w = ray_directions(T_wc, K, (hits.shape[1], hits.shape[2]), offset), T_wc[:, None, None, :3, 3]
    batch_index = torch.arange(hits.shape[0], device=hits.device)[:, None, None].expand(hits.shape)
    corners = corners_around(grid, blocks, batch_index, o_w + hits[..., None] * d_w)
    found = solve_in_cell(gather_distances(grid, corners), corners.place, d_w, grid.voxel_size)
    met = (hits > 0) & found.ok & are_known(grid, corners)
    scale = rsqrt(found.gradient.square().sum(-1), met)
    normal = (T_wc[:, None, None, :3, :3] * (scale[..., None] * found.gradient)[..., None]).sum(-2)
    color = torch.where(met[..., None], torch.stack(gather_color(grid, corners, found.place), -1), 0.0)
    weight = torch.where(met, gather_weight(grid, corners, found.place), 0.0)
    return torch.where(met, hits + found.step, 0.0)[..., None], normal, color, weight[..., None]
