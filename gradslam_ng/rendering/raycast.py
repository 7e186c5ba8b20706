"""Volumes rendered: where a pixel's ray first passes from free space through a surface."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.geometry import camera, se3
from gradslam_ng.hot import hot
from gradslam_ng.recompute import recomputed
from gradslam_ng.structures import VoxelGrid
from gradslam_ng.structures.voxel_grid import SIDE, VOXELS, Sample, interpolate, unpack

TILE = 8  # pixels; rays of a tile start together
STEPS = 12  # that rays march between two looks at which are still on their way
LIMIT = 100 * STEPS  # steps after which a ray is given up
POLISH = 3  # Newton steps, without gradient, before the one that carries it; one where no gradient is wanted


@dataclass(frozen=True, eq=False)
class RayCast:
    """Images of a volume, zero where no surface is met."""

    depth: Tensor  # (B, H, W, 1), metres
    normal: Tensor  # (B, H, W, 3), camera frame, unit, towards the camera
    color: Tensor  # (B, H, W, 3)
    mask: Tensor  # (B, H, W, 1) bool: a surface is met


@dataclass(frozen=True, eq=False)
class Directory:
    """The rows of the blocks within a box, side by side: found faster than in a sorted list."""

    rows: Tensor  # (B * X * Y * Z,) int32, -1 where there is no block
    low: Tensor  # (3,) int64, block coordinates of the box's first
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
        return Directory(rows, low, extent)

    def row(self, owner: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Row (...) of the block at x, y, z (...) of batch element owner (...), -1 for none."""
        inside, cell = torch.ones_like(x, dtype=torch.bool), owner
        for c, low, extent in zip((x, y, z), self.low, self.extent, strict=True):
            c = c - low
            inside = inside & (c >= 0) & (c < extent)
            cell = cell * extent + c
        return torch.where(inside, self.rows[torch.where(inside, cell, 0)].long(), -1)


def raycast(grid: VoxelGrid, T_wc: Tensor, K: Tensor, size: tuple[int, int], near: float = 0.05) -> RayCast:
    """What cameras see of volumes (Newcombe et al. 2011, section 3.4).

    A ray's hit solves sdf(o + t d) = 0, and the solution is differentiated as such (implicit function theorem), not
    through the search for it: depth, normal and colour have gradients to the volume's values, T_wc and K. Which
    voxels a ray meets its surface between is a constant of the gradient.

    T_wc (B, 4, 4), K (B, 3, 3), size (H, W); near: metres, nothing closer is seen.

    Raises:
        ValueError: T_wc or K of another shape.
    """
    for name, value, tail in (("T_wc", T_wc, (4, 4)), ("K", K, (3, 3))):
        if value.shape != (grid.batch, *tail):
            raise ValueError(f"{name}: expected shape {(grid.batch, *tail)}, one per volume, got {tuple(value.shape)}")
    shape = (grid.batch, *size)
    rays = camera.unproject(torch.ones(*shape, 1, dtype=T_wc.dtype, device=T_wc.device), K)
    d_w, o_w = se3.rotate(T_wc, rays.flatten(1, 2)).flatten(0, 1), T_wc[:, :3, 3]
    hit, directory = first_hits(grid, T_wc, K, d_w, o_w, size, near)
    pixel = (hit > 0).nonzero()[:, 0]
    if not len(pixel):
        nothing = d_w.sum(-1, keepdim=True).reshape(*shape, 1) * 0
        return RayCast(nothing, nothing.expand(*shape, 3), nothing.expand(*shape, 3), nothing != 0)
    owner = pixel // math.prod(size)
    depth, gradient, color, met = recomputed(meet, grid, directory, owner, o_w, d_w[pixel], hit[pixel])
    square = gradient.square().sum(-1, keepdim=True)
    usable = square > 1e-12
    n_w = torch.where(usable, gradient * torch.where(usable, square, 1.0).rsqrt(), 0.0)

    def image(values: Tensor) -> Tensor:
        values = torch.where(met[:, None], values, 0.0)
        return values.new_zeros(len(hit), values.shape[-1]).index_copy(0, pixel, values).unflatten(0, shape)

    normal = se3.rotate(se3.inverse(T_wc), image(n_w).flatten(1, 2)).unflatten(1, size)
    return RayCast(image(depth[:, None]), normal, image(color), image(met[:, None].to(depth.dtype)) > 0)


@torch.no_grad()
def first_hits(
    grid: VoxelGrid, T_wc: Tensor, K: Tensor, d_w: Tensor, o_w: Tensor, size: tuple[int, int], near: float
) -> tuple[Tensor, Directory | None]:
    """Depth (B H W,) at which each ray passes a surface, to a fraction of a voxel, 0 for none: a discrete choice.

    d_w (B H W, 3) directions of unit depth, o_w (B, 3) camera centres.
    """
    hits = torch.zeros(len(d_w), dtype=d_w.dtype, device=d_w.device)
    if not len(grid.keys):
        return hits, None
    owner, block = unpack(grid.keys)
    start, far, chosen = starts(block, owner, se3.inverse(T_wc), K, size, grid.block_size, near)
    if not chosen.any():
        return hits, None
    directory = Directory.of(grid, chosen)
    pixel = torch.isfinite(start).nonzero()[:, 0]
    zero = hits[pixel]
    owner = pixel // math.prod(size)
    rays = [pixel, owner, o_w[owner], d_w[pixel], start[pixel], zero, zero]  # depth now; depth and distance before
    for _ in range(LIMIT // STEPS):
        t, hit, t_before, before, going = march(grid, directory, *rays[1:], far, STEPS)
        hits.index_copy_(0, rays[0], hit)
        rays = [value[going] for value in (*rays[:4], t, t_before, before)]
        if not len(rays[0]):
            break
    pixel = (hits > 0).nonzero()[:, 0]
    if len(pixel):
        owner, t = pixel // math.prod(size), hits[pixel]
        hits.index_copy_(0, pixel, polish(grid, directory, owner, o_w, d_w[pixel], t, POLISH))
    return hits, directory


@hot
def starts(
    block: Tensor, owner: Tensor, T_cw: Tensor, K: Tensor, size: tuple[int, int], block_size: float, near: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Where rays may enter blocks.

    block (N, 3), owner (N,). Returns the least depth (B H W,), by tile, inf where no block is in sight; the greatest
    depth (); and which blocks (N,) are in sight. Blocks are drawn as balls into tiles at least as large: the nearer,
    the coarser.
    """
    height, width = size
    radius = 0.5 * 3**0.5 * block_size * 1.01
    centres = (block.to(T_cw) + 0.5) * block_size
    uv, z = camera.project(se3.transform(T_cw[owner], centres[:, None]), K[owner])
    uv, z = uv[:, 0], z[:, 0]
    extent = radius * torch.maximum(K[owner, 0, 0], K[owner, 1, 1]) / (z - radius).clamp(min=1e-3) * 1.3  # pixels
    u, v = uv.unbind(-1)
    ahead = z > near - radius
    around = z < 2 * radius  # the camera may be inside
    chosen = ahead & ((u > -extent) & (u < width + extent) & (v > -extent) & (v < height + extent) | around)

    levels = max(1, math.ceil(math.log2(max(size) / TILE)) + 1)
    level = (extent / TILE).clamp(min=1.0).log2().ceil().clamp(max=levels - 1).long()
    level = torch.where(around, levels - 1, level)
    shapes = [(-(-height // (TILE << i)), -(-width // (TILE << i))) for i in range(levels)]
    bases = [0]
    for h, w in shapes:
        bases.append(bases[-1] + h * w)
    base, rows, columns = (
        torch.tensor(values, device=z.device)[level] for values in (bases[:-1], [s[0] for s in shapes], [s[1] for s in shapes])
    )
    edge = (TILE * 2.0**level)[:, None]
    around_tile = torch.arange(9, device=z.device)
    column = (u[:, None] / edge).floor() + (around_tile % 3 - 1)
    row = (v[:, None] / edge).floor() + (around_tile // 3 - 1)
    column = torch.where(around[:, None], 0.0, column).clamp(-1e6, 1e6).long()
    row = torch.where(around[:, None], 0.0, row).clamp(-1e6, 1e6).long()
    within = chosen[:, None] & (column >= 0) & (column < columns[:, None]) & (row >= 0) & (row < rows[:, None])
    count = bases[-1]
    cell = torch.where(within, owner[:, None] * count + base[:, None] + row * columns[:, None] + column, len(K) * count)
    least = torch.full((len(K) * count + 1,), torch.inf, dtype=z.dtype, device=z.device)
    entry = (z - radius).clamp(min=near)[:, None].expand_as(cell)
    least = least.scatter_reduce(0, cell.flatten(), entry.flatten(), "amin")[:-1].reshape(len(K), count)
    merged = least[:, bases[-2] :].reshape(len(K), *shapes[-1])
    for i in reversed(range(levels - 1)):
        h, w = shapes[i]
        finer = merged.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :h, :w]
        merged = torch.minimum(finer, least[:, bases[i] : bases[i + 1]].reshape(len(K), h, w))
    start = merged.repeat_interleave(TILE, 1).repeat_interleave(TILE, 2)[:, :height, :width]
    far = torch.where(chosen, z + radius, 0.0).amax()
    return start.reshape(-1), far, chosen


@hot
def march(
    grid: VoxelGrid, directory: Directory, owner: Tensor, o_w: Tensor, d_w: Tensor, t: Tensor, t_before: Tensor,
    before: Tensor, far: Tensor, steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """`steps` steps of M rays o_w + t d_w through the voxels nearest to them.

    before (M,) is the signed distance last met, at t_before, 0 for none. A step is as long as the distance here is, in
    the open as far as the end of the empty block. Returns t; the depth of a hit, 0 for none yet; t_before and before;
    and which rays go on: those that neither met a surface nor came out of the back of one nor went beyond `far`.
    """
    size = grid.voxel_size
    sdf, weight = grid.sdf.flatten(), grid.weight.flatten()
    o, d = (o_w / size).unbind(-1), (d_w / size).unbind(-1)
    length = d_w.norm(dim=-1)  # metres a unit of depth
    hit, going = torch.zeros_like(t), torch.ones_like(t, dtype=torch.bool)
    for _ in range(steps):
        p = [a + t * b for a, b in zip(o, d, strict=True)]
        voxel = [(c + 0.5).floor() for c in p]
        index = [c.long() for c in voxel]
        row = directory.row(owner, *(c >> 3 for c in index))
        exists = row >= 0
        cell = row.clamp(min=0) * VOXELS + ((index[0] & 7) * SIDE + (index[1] & 7)) * SIDE + (index[2] & 7)
        known = exists & (weight[cell] > 0)
        value = torch.where(known, sdf[cell], 0.0)
        through = going & (before > 0) & known & (value <= 0)
        crossing = t_before + (t - t_before) * before / torch.where(through, before - value, 1.0)
        hit = torch.where(through, crossing, hit)
        going = going & ~through & ~((before < 0) & known & (value > 0)) & (t < far)
        leave = torch.full_like(t, torch.inf)  # depth until the ray leaves the block
        for a, b, c in zip(p, d, index, strict=True):
            wall = ((c >> 3) + (b > 0).long()) * SIDE - 0.5
            leave = torch.minimum(leave, torch.where(b.abs() > 1e-9, (wall - a) / torch.where(b.abs() > 1e-9, b, 1.0), torch.inf))
        inside = torch.where(known, value.abs(), 0.0).clamp(min=0.5 * size) / length
        step = torch.where(exists, inside, leave.clamp(min=0) + 0.05 * size / length)
        t_before = torch.where(going & known, t, t_before)
        before = torch.where(going, value, before)
        t = torch.where(going, t + step, t)
    return t, hit, t_before, before, going


def sample(grid: VoxelGrid, directory: Directory, owner: Tensor, p_w: Tensor) -> Sample:
    """The volume at points (M, 3), world, of batch elements owner (M,)."""
    return interpolate(grid, lambda *block: directory.row(owner, *block), *(p_w / grid.voxel_size).unbind(-1))


def newton(found: Sample, d_w: Tensor, voxel_size: float) -> Tensor:
    """The step (M,) along d_w (M, 3) to the zero of the distance, at most a voxel; its slope is a constant."""
    slope = ((found.gradient * d_w).sum(-1) / voxel_size).detach()
    steep = slope < -0.02  # metres a unit of depth: less is a ray that grazes the surface
    return torch.where(steep, -found.sdf / torch.where(steep, slope, 1.0), 0.0).clamp(-voxel_size, voxel_size)


@hot
def polish(
    grid: VoxelGrid, directory: Directory, owner: Tensor, o_w: Tensor, d_w: Tensor, t: Tensor, steps: int
) -> Tensor:
    """Depths t (M,) of hits after `steps` Newton steps."""
    o_w = o_w[owner]
    for _ in range(steps):
        t = t + newton(sample(grid, directory, owner, o_w + t[:, None] * d_w), d_w, grid.voxel_size)
    return t


@hot
def meet(
    grid: VoxelGrid, directory: Directory, owner: Tensor, o_w: Tensor, d_w: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Depth, gradient of the distance (M, 3), colour (M, 3) where rays meet the surface near t (M,), and whether.

    One Newton step from a constant that solves the equation already is the solution's derivative, as the implicit
    function theorem has it.
    """
    o_w = o_w[owner]
    near = sample(grid, directory, owner, o_w + t[:, None] * d_w)
    depth = t + newton(near, d_w, grid.voxel_size)
    found = sample(grid, directory, owner, o_w + depth[:, None] * d_w)
    facing = (found.gradient * d_w).sum(-1) < 0
    met = (near.weight > 0) & (found.weight > 0) & (found.sdf.abs() < 0.1 * grid.voxel_size) & facing
    return depth, found.gradient, found.color, met
