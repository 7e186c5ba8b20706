"""Volumetric fusion: depth images integrated into truncated signed distances (Curless and Levoy 1996)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free, recordable
from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import TIE, steady_floor
from gradslam_ng.compute.discrete import discrete as discrete_choice
from gradslam_ng.compute.masks import stack_last
from gradslam_ng.compute.safe import denominator, divide
from gradslam_ng.compute.transforms import refuse_vmap
from gradslam_ng.compute.tree import unshared
from gradslam_ng.geometry import camera, depth_noise, se3
from gradslam_ng.mapping.mapper import Mapper
from gradslam_ng.mapping.tsdf_measurement import TangentPlanes, color_slopes, measurement, soft_measurement
from gradslam_ng.preprocessing import measure_surface, with_raw_vertices
from gradslam_ng.structures import LiveFrame, RGBDFrames, VoxelGrid
from gradslam_ng.structures.frame_checks import check_frames
from gradslam_ng.structures.origin import relative_to_origin
from gradslam_ng.structures.voxel_blocks import BLOCK_RESOLUTION, MAX_BLOCK, pack, unpack, voxel_offsets

MIN_SAMPLED_WIDTH = 200  # pixels across, at least, from which blocks are found
DENSE_CELLS = (
    1 << 24
)  # blocks of a box around a frame up to which they are marked in it; in larger ones they are sorted


class Blocks(NamedTuple):
    """Blocks of a grid."""

    slots: Tensor  # (n,) int64
    batch_index: Tensor  # (n,) int64
    coordinates: Tensor  # (n, 3) int64


class TSDFFuser(Mapper[VoxelGrid]):
    """Volumetric fusion after Curless and Levoy 1996, as in KinectFusion (Newcombe et al. 2011, section 3.3).

    The distance of a voxel is that to the tangent plane of the measurement in its pixel, not along the ray: it does not
    depend on where in the pixel the voxel falls, and measurements of one surface from different sides agree.

    Depth is taken as measured: smoothed, it would round off the corners of a room. Normals are of the smoothed surface.

    A measurement weighs the cosine of its angle to the ray, over the variance of the depth noise relative to that at a
    meter; behind the surface the weight falls to zero over the truncation (Bylow et al. 2013). Well before it every
    measurement weighs as much as one of a surface there would: what one has seen through is free, however far the next
    surface, but a silhouette that lies half in a pixel is not worn away.

    The truncation is the volume's or, for measurements from farther away, three standard deviations of their noise up
    to twice the volume's: were it narrower, measurements that fall short would be left out oftener than those that go
    too far, and surfaces would recede the more the farther they are.

    Args:
        association: "hard", a voxel is measured by the pixel that it falls into; or "soft", by the four around it, so
            that the volume is continuous in depth and poses and its gradients hold over finite steps.

    Raises:
        ValueError: an association that is neither.
    """

    map_type = VoxelGrid
    learnable = ()  # the truncation is the volume's, and weights follow the depth noise, which can be learned
    discrete = ("stable_confidence", "prune_every")

    def __init__(self, *, association: str = "hard") -> None:
        super().__init__()
        if association not in ("hard", "soft"):
            raise ValueError(f"association: expected hard or soft, got {association!r}")
        self.association = association

    def forward(
        self,
        map_: VoxelGrid,
        live: LiveFrame,
        T_wc: Tensor,  # (B, 4, 4)
        ok: Tensor,  # (B,) bool
        frame: int | Tensor,
    ) -> VoxelGrid:
        """The grid with one frame, seen from T_wc, fused in where `ok` holds."""
        return self.integrate(map_, live, T_wc, ok)

    @mode_free
    def integrate(
        self,
        grid: VoxelGrid,
        live: LiveFrame,
        T_wc: Tensor,  # (B, 4, 4)
        ok: Tensor,  # (B,) bool
        sign: int = 1,
    ) -> VoxelGrid:
        """With one frame fused in, or (sign -1) taken out again: after a correction of its pose, say.

        What a frame said of the blocks near its measurements is taken out exactly; that it saw through others, which
        may not have existed then, stays.
        """
        live = with_raw_vertices(live)
        packed = checkpoint(pack_tangent_planes, live, ok, grid.truncation)
        planes = TangentPlanes(packed, live.surface.K, live.surface.size)
        keys = self.find_blocks(grid, live, planes, T_wc, sign)
        grid = grid.allocate(keys)
        blocks = Blocks(grid.lookup(keys), *unpack(keys))
        soft = self.association == "soft"
        sdf, weight, color, color_weight = fuse(grid, blocks, planes, se3.inverse(T_wc), float(sign), soft)
        return grid.scatter(blocks.slots, sdf=sdf, weight=weight, color=color, color_weight=color_weight)

    @discrete_choice
    def find_blocks(
        self,
        grid: VoxelGrid,
        live: LiveFrame,
        planes: TangentPlanes,
        T_wc: Tensor,  # (B, 4, 4)
        sign: int,
    ) -> Tensor:
        """Keys (n,) int64, sorted, of the blocks that a frame changes: a discrete choice.

        Those within the truncation of a measurement; and, where the frame is fused in, those that exist before a
        measurement, in what the camera has seen to be free space.
        """
        near = near_surface(live, planes, T_wc, grid.block_size)
        if sign < 0:
            return near[grid.lookup(near) >= 0]
        batch_index, block = unpack(grid.keys)
        if not len(block):
            return near
        centers = (block.to(T_wc.dtype) + 0.5) * grid.block_size
        free = in_free_space(centers, batch_index, planes, se3.inverse(T_wc))
        return torch.cat([near, grid.keys[free]]).unique()


@mode_free
def integrate(grid: VoxelGrid, frame: RGBDFrames, sign: int = 1) -> VoxelGrid:
    """The grid with one frame (B,) fused in at its pose T_wc; sign -1 takes a frame out again. See `TSDFFuser`.

    Raises:
        ValueError: a frame without poses, or not one for each volume; values that make no sense, see `check_frames`.
        RuntimeError: within `torch.vmap`.
    """
    inputs = (grid.sdf, grid.weight, grid.color, frame.color, frame.depth, frame.K)
    refuse_vmap("integrate", *inputs, *(() if frame.T_wc is None else (frame.T_wc,)))
    frame = frame if frame.shape else frame.map(lambda value: value[None])
    if frame.T_wc is None or len(frame.shape) != 1 or len(frame) != grid.batch:
        raise ValueError(f"frame: expected {grid.batch} with poses, got {tuple(frame.shape)}, T_wc {frame.T_wc}")
    if (frame.depth.dtype, frame.depth.device) != (grid.sdf.dtype, grid.sdf.device):
        now, own = (f"{x.dtype} on {x.device}" for x in (frame.depth, grid.sdf))
        raise ValueError(f"frame: expected {own} like the grid, got {now}")
    check_frames(frame)
    ok = frame.T_wc.isfinite().flatten(1).all(-1)
    T_oc = relative_to_origin(recordable(frame.T_wc), grid.origin, frame.depth.dtype)
    return TSDFFuser().integrate(unshared(grid), measure_surface(frame), T_oc, ok, sign)


@compiled
def pack_tangent_planes(
    live: LiveFrame,
    ok: Tensor,  # (B,) bool
    truncation: float | Tensor,  # meters
) -> Tensor:
    """What a frame's pixels say, (B, H W, 16): see `TangentPlanes`. Depth is 0 for holes, and where not ok.

    A pixel without a normal, at an edge, faces the camera and weighs nothing: it only tells what is free.
    """
    surface = live.surface
    # coordinates and colors apart: the compiler does not vectorize along an axis of three
    nx, ny, nz = surface.normals.flatten(1, 2).unbind(-1)
    x, y, z = surface.vertices.flatten(1, 2).unbind(-1)
    flat = (nx.detach() == 0) & (ny.detach() == 0) & (nz.detach() == 0)
    nx, ny, nz = (torch.where(flat, toward, n) for n, toward in ((nx, 0.0), (ny, 0.0), (nz, -1.0)))
    offset = nx * x + ny * y + nz * z
    square = x * x + y * y + z * z
    cosine = offset.abs() * denominator(square, square > 0).rsqrt()
    sigma = live.sigma.flatten(1)
    weight = surface.weights.flatten(1) * ok[:, None] * cosine * depth_noise.relative_precision(sigma).square()
    truncation_m = (3 * sigma).clamp(min=truncation).clamp(max=2 * truncation)
    plane = (nx, ny, nz, offset, torch.where(ok[:, None], z, 0.0), weight)
    colors = live.color.unbind(-1)
    side, down = zip(*map(color_slopes, colors), strict=True)
    return stack_last(*plane, *(image.flatten(1) for image in colors), truncation_m,
                      *(image.flatten(1) for image in (*side, *down)))  # fmt: skip


def near_surface(
    live: LiveFrame,
    planes: TangentPlanes,
    T_wc: Tensor,  # (B, 4, 4)
    block_size: float,  # meters
) -> Tensor:
    """Keys (n,) int64, sorted, of the blocks within the truncation of a measurement along its normal."""
    step = max(1, planes.size[1] // MIN_SAMPLED_WIDTH)

    def subsample(image: Tensor) -> Tensor:  # image (B, H, W, ...)
        return image[:, ::step, ::step].flatten(0, 2)

    images = planes.images()
    weights = subsample(images.weight)
    pixel = (weights > 0).nonzero()[:, 0]
    if not len(pixel):
        return pixel
    batch_index = pixel // (len(weights) // len(T_wc))
    points, normals = (subsample(image)[pixel] for image in (live.surface.vertices, live.surface.normals))
    truncations = subsample(images.truncation_m)[pixel]
    steps = math.ceil(4 * float(truncations.max()) / block_size - TIE)  # often a whole number: rounding adds none
    cells = block_cells(points, normals, batch_index, T_wc, truncations, steps, block_size)
    return distinct_blocks(cells, batch_index, len(T_wc))


def distinct_blocks(
    cells: Tensor,  # (P, S, 3) int32, block coordinates
    batch_index: Tensor,  # (P,) int64
    batch: int,
) -> Tensor:
    """Keys (n,) int64, sorted, each once; without those of blocks beyond what a key has room for.

    Memory goes with the number of cells, not with the box around them, which one stray pixel can make any size.
    """
    low, high = cells.amin((0, 1)), cells.amax((0, 1))
    bounds = torch.stack([low, high]).tolist()
    extent = [b - a + 1 for a, b in zip(*bounds, strict=True)]
    count = math.prod(extent)
    if batch * count > DENSE_CELLS or min(bounds[0]) < -MAX_BLOCK or max(bounds[1]) >= MAX_BLOCK:
        keys = pack(batch_index[:, None], cells).unique()
        return keys[keys >= 0]
    x, y, z = (cells - low).unbind(-1)
    numbers = ((batch_index[:, None] * extent[0] + x) * extent[1] + y) * extent[2] + z
    marked = torch.zeros(batch * count, dtype=torch.bool, device=cells.device)
    found = marked.index_fill_(0, numbers.flatten(), True).nonzero()[:, 0]
    x, y, z = found % count // (extent[1] * extent[2]), found // extent[2] % extent[1], found % extent[2]
    return pack(found // count, torch.stack([x, y, z], -1) + low)


@compiled
def block_cells(
    points: Tensor,  # (P, 3), camera, meters
    normals: Tensor,  # (P, 3)
    batch_index: Tensor,  # (P,)
    T_wc: Tensor,  # (B, 4, 4)
    truncations: Tensor,  # (P,), meters
    steps: int,
    block_size: float,  # meters
) -> Tensor:
    """Block coordinates (P, steps + 1, 3) int32 of points moved along their normals through their truncations; those
    of blocks too far for a key are somewhere beyond that."""
    R, t = T_wc[batch_index, :3, :3], T_wc[batch_index, :3, 3]
    p_w, n_w = ((R * v[:, None]).sum(-1) for v in (points, normals))
    along = truncations[:, None] * (torch.arange(steps + 1, device=p_w.device, dtype=p_w.dtype) * (2 / steps) - 1)
    cells = ((p_w + t)[:, None] + along[..., None] * n_w[:, None]) / block_size
    return steady_floor(cells).clamp(-MAX_BLOCK - 1, MAX_BLOCK).int()


@compiled
def in_free_space(
    centers: Tensor,  # (n, 3), world, meters
    batch_index: Tensor,  # (n,)
    planes: TangentPlanes,
    T_cw: Tensor,  # (B, 4, 4)
) -> Tensor:
    """Which points lie before the measurement in their pixel: (n,) bool."""
    height, width = planes.size
    uv, z = camera.project(se3.transform(T_cw[batch_index], centers[:, None]), planes.K[batch_index])
    u, v = steady_floor(uv[:, 0] + 0.5).unbind(-1)
    z = z[:, 0]
    inside = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    pixel = torch.where(inside, v * width + u, 0.0).long() + batch_index * (height * width)
    return inside & (z < planes.images().depth.flatten()[pixel])


@compiled(recompute=False)
def fuse(
    grid: VoxelGrid,
    blocks: Blocks,
    planes: TangentPlanes,
    T_cw: Tensor,  # (B, 4, 4)
    sign: float,
    soft: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Blocks after a frame, see `average`; for its gradient these alone are kept, not the whole grid."""
    slots = blocks.slots
    before = grid.sdf[slots], grid.weight[slots], grid.color[slots], grid.color_weight[slots]
    return checkpoint(average, before, blocks, planes, T_cw, (grid.voxel_size, grid.truncation), sign, soft)


def average(
    before: tuple[Tensor, Tensor, Tensor, Tensor],  # sdf, weight, color and color_weight, (n, 512) and (n, 3, 512)
    blocks: Blocks,
    planes: TangentPlanes,
    T_cw: Tensor,  # (B, 4, 4)
    sizes: tuple[float, float | Tensor],  # of a voxel, and the truncation, meters
    sign: float,
    soft: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted averages of distance and color (Newcombe et al. 2011, equations 11 to 13), of the same shapes as before.

    sign -1 takes the frame out.
    """
    (sdf, weight, color, color_weight), (voxel_size, truncation) = before, sizes
    R, t, K = T_cw[blocks.batch_index, :3, :3], T_cw[blocks.batch_index, :3, 3], planes.K[blocks.batch_index]
    corner = (R @ (blocks.coordinates.to(R.dtype) * (BLOCK_RESOLUTION * voxel_size))[..., None])[..., 0] + t
    ox, oy, oz = (voxel_offsets(R.device).to(R.dtype) * voxel_size).unbind(-1)
    x, y, z = (
        corner[:, i, None] + R[:, i, 0, None] * ox + R[:, i, 1, None] * oy + R[:, i, 2, None] * oz for i in range(3)
    )
    look = soft_measurement if soft else measurement
    seen = look((x, y, z), blocks.batch_index, K, planes, voxel_size, truncation)
    total = (weight + sign * seen.weight).clamp(min=0)
    kept = total > 1e-6
    share = divide(sign * seen.weight, total, kept)
    sdf_after = torch.where(kept, sdf + share * (seen.distance - sdf), 0.0)

    color_total = (color_weight + sign * seen.color_weight).clamp(min=0)
    colored = color_total > 1e-6
    share = divide(sign * seen.color_weight, color_total, colored)
    color_after = [
        torch.where(colored, before + share * (now - before), 0.0)
        for before, now in zip(color.unbind(1), seen.color, strict=True)
    ]
    zero = torch.zeros_like(total)
    total, color_total = torch.where(kept, total, zero), torch.where(colored, color_total, zero)
    return sdf_after, total, torch.stack(color_after, 1), color_total
