"""Volumetric fusion: readings are averaged into truncated signed distances."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.geometry import camera, depth_noise, se3
from gradslam_ng.preprocessing import measure_surface, with_raw_vertices
from gradslam_ng.structures import LiveFrame, RGBDFrames, VoxelGrid
from gradslam_ng.structures.voxel_grid import SIDE, offsets, pack, unpack

COLOR_BAND = 2.0  # voxels from the surface within which colour is gathered
CLEAR = 3.0  # bands before a reading from which on space is free beyond doubt
SAMPLED = 200  # pixels across, at least, from which blocks are found


class TSDFFuser(nn.Module):
    """Volumetric fusion after Curless and Levoy 1996, as in KinectFusion (Newcombe et al. 2011, section 3.3).

    The distance of a voxel is that to the tangent plane of the reading in its pixel, not along the ray: it does not
    depend on where in the pixel the voxel falls, and readings of one surface from different sides agree.

    Readings are taken as they are: smoothed ones would round off the corners of a room. Their normals are of the
    smoothed surface.

    A reading weighs the cosine of its angle to the ray, over the variance of the depth noise relative to that at a
    metre; behind the surface the weight falls to zero over a band (Bylow et al. 2013). Well before it every reading
    weighs as much as one of a surface there would: what one has seen through is free, however far the next
    surface, but a silhouette that lies half in a pixel is not worn away.

    The band is the volume's truncation or, for readings from farther away, three standard deviations of their noise up
    to twice the truncation: were it narrower, readings that fall short would be left out oftener than those that go too
    far, and surfaces would recede the more the farther they are.
    """

    def forward(self, map_: VoxelGrid, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> VoxelGrid:
        """map_ with one frame, seen from T_wc (B, 4, 4), fused in where ok (B,) holds."""
        return self.integrate(map_, live, T_wc, ok)

    def integrate(self, grid: VoxelGrid, live: LiveFrame, T_wc: Tensor, ok: Tensor, sign: int = 1) -> VoxelGrid:
        """With one frame fused in, or (sign -1) taken out again: after a correction of its pose, say.

        What a frame said of the blocks near its readings is taken out exactly; that it saw through others, which may
        not have existed then, stays.
        """
        live = with_raw_vertices(live)
        planes = checkpoint(tangent_planes, live, ok, grid.truncation)
        keys = self.blocks(grid, live, planes, T_wc, sign)
        grid = grid.allocate(keys)
        rows = grid.lookup(keys)
        owner, block = unpack(keys)
        T_cw = se3.inverse(T_wc)
        sdf, weight, color, color_weight = checkpoint(
            average, grid, rows, owner, block, planes, T_cw, live.surface.K, live.surface.size, float(sign)
        )
        return grid.scatter(rows, sdf=sdf, weight=weight, color=color, color_weight=color_weight)

    @discrete
    def blocks(self, grid: VoxelGrid, live: LiveFrame, planes: Tensor, T_wc: Tensor, sign: int) -> Tensor:
        """Keys (n,), sorted, of the blocks that a frame changes: a discrete choice.

        Those within the band of a reading; and, where the frame is fused in, those that exist before a reading, in what
        the camera has seen to be free space.
        """
        near = near_surface(live, planes, T_wc, grid.block_size)
        if sign < 0:
            return near[grid.lookup(near) >= 0]
        owner, block = unpack(grid.keys)
        if not len(block):
            return near
        centres = ((block + 0.5) * grid.block_size).to(T_wc)
        free = in_free_space(centres, owner, planes, se3.inverse(T_wc), live.surface.K, live.surface.size)
        return torch.cat([near, grid.keys[free]]).unique()


def integrate(grid: VoxelGrid, frame: RGBDFrames, sign: int = 1) -> VoxelGrid:
    """The grid with one frame (B,) fused in at its pose T_wc; sign -1 takes a frame out again. See `TSDFFuser`.

    Raises:
        ValueError: a frame without poses, or not one for each volume.
    """
    frame = frame if frame.shape else frame.map(lambda value: value[None])
    if frame.T_wc is None or len(frame.shape) != 1 or len(frame) != grid.batch:
        raise ValueError(f"frame: expected {grid.batch} with poses, got {tuple(frame.shape)}, T_wc {frame.T_wc}")
    ok = frame.T_wc.isfinite().flatten(1).all(-1)
    return TSDFFuser().integrate(grid, measure_surface(frame), frame.T_wc, ok, sign)


@compiled
def tangent_planes(live: LiveFrame, ok: Tensor, truncation: float) -> Tensor:
    """What a frame's pixels say, (B, H W, 10): normal n and offset n p of the tangent plane, camera frame; depth, 0
    where there is no reading or ok (B,) does not hold; weight; colour; band, metres.

    A reading without a normal, at an edge, faces the camera and weighs nothing: it only tells what is free."""
    surface = live.surface
    normals, vertices = surface.normals.flatten(1, 2), surface.vertices.flatten(1, 2)
    z = torch.where(ok[:, None], vertices[..., 2], 0.0)
    flat = (normals.detach() == 0).all(-1)
    normals = torch.where(flat[..., None], normals.new_tensor([0.0, 0.0, -1.0]), normals)
    offset = (normals * vertices).sum(-1)
    square = vertices.square().sum(-1)
    cosine = offset.abs() * torch.where(square > 0, square, 1.0).rsqrt()
    sigma = live.sigma.flatten(1)
    weight = surface.weights.flatten(1) * ok[:, None] * cosine * depth_noise.relative_precision(sigma).square()
    band = (3 * sigma).clamp(truncation, 2 * truncation)
    return torch.cat([normals, torch.stack([offset, z, weight], -1), live.color.flatten(1, 2), band[..., None]], -1)


def near_surface(live: LiveFrame, planes: Tensor, T_wc: Tensor, block_size: float) -> Tensor:
    """Keys (n,), sorted, of the blocks within the band of a reading along its normal."""
    step = max(1, live.surface.size[1] // SAMPLED)

    def every(image: Tensor) -> Tensor:
        return image[:, ::step, ::step].flatten(0, 2)

    weights, bands = (every(planes[..., i].unflatten(1, live.surface.size)) for i in (5, 9))
    pixel = (weights > 0).nonzero()[:, 0]
    if not len(pixel):
        return pixel
    owner = pixel // (len(weights) // len(T_wc))
    points, normals = (every(image)[pixel] for image in (live.surface.vertices, live.surface.normals))
    bands = bands[pixel]
    steps = math.ceil(4 * float(bands.max()) / block_size)
    cells = block_cells(points, normals, owner, T_wc, bands, steps, block_size)
    low = cells.amin((0, 1))
    extent = (cells.amax((0, 1)) - low + 1).tolist()
    count = math.prod(extent)
    x, y, z = (cells - low).unbind(-1)
    numbers = ((owner[:, None] * extent[0] + x) * extent[1] + y) * extent[2] + z
    marked = torch.zeros(len(T_wc) * count, dtype=torch.bool, device=pixel.device)
    found = marked.index_fill_(0, numbers.flatten(), True).nonzero()[:, 0]
    x, y, z = found % count // (extent[1] * extent[2]), found // extent[2] % extent[1], found % extent[2]
    return pack(found // count, torch.stack([x, y, z], -1) + low)


@compiled
def block_cells(
    points: Tensor, normals: Tensor, owner: Tensor, T_wc: Tensor, bands: Tensor, steps: int, block_size: float
) -> Tensor:
    """Block coordinates (P, steps + 1, 3) int32 of camera-frame points (P, 3) of batch elements owner (P,), moved along
    their normals from one end of their bands (P,) to the other."""
    R, t = T_wc[owner, :3, :3], T_wc[owner, :3, 3]
    p_w, n_w = ((R * v[:, None]).sum(-1) for v in (points, normals))
    along = bands[:, None] * (torch.arange(steps + 1, device=p_w.device, dtype=p_w.dtype) * (2 / steps) - 1)
    return (((p_w + t)[:, None] + along[..., None] * n_w[:, None]) / block_size).floor().int()


@compiled
def in_free_space(
    centres: Tensor, owner: Tensor, planes: Tensor, T_cw: Tensor, K: Tensor, size: tuple[int, int]
) -> Tensor:
    """Which points (n, 3), world, of batch elements owner (n,), lie before the reading in their pixel: (n,) bool."""
    height, width = size
    T, camera_of = T_cw[owner], K[owner]
    uv, z = camera.project(se3.transform(T, centres[:, None]), camera_of)
    u, v = (uv[:, 0] + 0.5).floor().unbind(-1)
    z = z[:, 0]
    inside = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    pixel = torch.where(inside, v * width + u, 0.0).long() + owner * (height * width)
    reading = planes.flatten(0, 1)[pixel]
    return inside & (z < reading[:, 4])


@compiled
def average(
    grid: VoxelGrid, rows: Tensor, owner: Tensor, block: Tensor, planes: Tensor, T_cw: Tensor, K: Tensor,
    size: tuple[int, int], sign: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Blocks after a frame: weighted averages of distance and colour (Newcombe et al. 2011, equations 11 to 13).

    The blocks at `block` (n, 3) of batch elements owner (n,) lie in `rows` (n,); planes (B, H W, 10), see
    `tangent_planes`. sign -1 takes the frame out. Returns their sdf, weight, color and color_weight.
    """
    voxel_size = grid.voxel_size
    sdf, weight, color, color_weight = grid.sdf[rows], grid.weight[rows], grid.color[rows], grid.color_weight[rows]
    R, t, camera_of = T_cw[owner, :3, :3], T_cw[owner, :3, 3], K[owner]
    corner = (R @ (block * (SIDE * voxel_size)).to(R)[..., None])[..., 0] + t
    ox, oy, oz = (offsets(R.device) * voxel_size).to(R).unbind(-1)
    x, y, z = (
        corner[:, i, None] + R[:, i, 0, None] * ox + R[:, i, 1, None] * oy + R[:, i, 2, None] * oz for i in range(3)
    )
    pixel, inside = nearest_pixel((x, y, z), owner, camera_of, size)
    nx, ny, nz, offset, depth, reliable, red, green, blue, band = (
        planes.flatten(0, 1)[pixel, i] for i in range(planes.shape[-1])
    )
    distance = nx * x + ny * y + nz * z - offset
    seen = inside & (distance > -band) & (z - depth < 2 * band)
    # whatever the noise, the camera saw through here
    sure = (depth - z > CLEAR * band) & (distance > 0.5 * band) & (depth > 0)
    free = depth_noise.relative_precision(depth_noise.axial_sigma(z)).square()
    new = torch.where(sure, free, reliable * (2 + 2 * distance / band).clamp(0, 1))
    new = torch.where(seen, new, 0.0)
    total = (weight + sign * new).clamp(min=0)
    kept = total > 1e-6
    share = torch.where(kept, sign * new / torch.where(kept, total, 1.0), 0.0)
    sdf_after = torch.where(kept, sdf + share * (distance.clamp(max=grid.truncation) - sdf), 0.0)

    new = torch.where(distance.abs() < COLOR_BAND * voxel_size, new, 0.0)
    color_total = (color_weight + sign * new).clamp(min=0)
    coloured = color_total > 1e-6
    share = torch.where(coloured, sign * new / torch.where(coloured, color_total, 1.0), 0.0)
    color_after = [
        torch.where(coloured, before + share * (now - before), 0.0)
        for before, now in zip(color.unbind(1), (red, green, blue), strict=True)
    ]
    color_after = torch.stack(color_after, 1)
    zero = torch.zeros_like(total)
    return sdf_after, torch.where(kept, total, zero), color_after, torch.where(coloured, color_total, zero)


@discrete
def nearest_pixel(p_c: tuple[Tensor, Tensor, Tensor], owner: Tensor, K: Tensor, size: tuple[int, int]):
    """The row of `planes` in which voxels p_c (n, 512) of blocks, each with its camera K (n, 3, 3), fall, (n, 512)
    int64; and whether they are in sight. A discrete choice."""
    height, width = size
    u, v, in_front = camera.project_soa(tuple(c.detach() for c in p_c), K.detach(), near=1e-3)
    u, v = (u + 0.5).floor(), (v + 0.5).floor()
    inside = in_front & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    return torch.where(inside, v * width + u, 0.0).long() + owner[:, None] * (height * width), inside
