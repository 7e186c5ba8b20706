"""Conversions between surfels and truncated signed distances."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.safe import divide
from gradslam_ng.meshing.marching_cubes import marching_cubes
from gradslam_ng.structures import SurfelMap, VoxelGrid
from gradslam_ng.structures.voxel_blocks import BLOCK_RESOLUTION, VOXELS_PER_BLOCK, pack, voxel_index


@mode_free
def tsdf_to_surfels(grid: VoxelGrid) -> SurfelMap:
    """The surface of each volume as surfels, one a vertex, of the size of a voxel."""
    meshes = [marching_cubes(grid[b]) for b in range(grid.batch)]
    map_ = SurfelMap.empty(grid.batch, device=grid.sdf.device, dtype=grid.sdf.dtype)
    longest = max(len(mesh.vertices) for mesh in meshes)

    def stacked(name: str) -> Tensor:
        values = (getattr(mesh, name) for mesh in meshes)
        return torch.stack([torch.cat([v, v.new_zeros(longest - len(v), *v.shape[1:])]) for v in values])

    weights, points = stacked("weights"), stacked("vertices")
    frame = torch.zeros(weights.shape, dtype=torch.int64, device=weights.device)
    return replace(map_, origin=grid.origin).append(
        weights > 0, points=points, normals=stacked("normals"), colors=stacked("colors"), confidences=weights,
        radii=torch.full_like(weights, 0.8 * grid.voxel_size), created=frame, updated=frame,
    )  # fmt: skip


@mode_free
def surfels_to_tsdf(map_: SurfelMap, voxel_size: float = 0.01) -> VoxelGrid:  # voxel_size in meters
    """Surfels as a volume, from which `marching_cubes` makes a mesh: every voxel averages the distances to the planes
    of the surfels around it, weighted by confidence and a Gaussian of two voxels (Kolluri 2005).

    A surfel's influence reaches three voxels, and no less than twice its radius up to six voxels.
    """
    points, normals, colors = (x[map_.mask] for x in (map_.points, map_.normals, map_.colors))
    batch_index = map_.mask.nonzero()[:, 0]
    confidences, radii = map_.confidences[map_.mask], map_.radii[map_.mask]
    truncation = 4 * voxel_size
    grid = VoxelGrid.empty(map_.batch, voxel_size, truncation, points.device, points.dtype)
    grid = replace(grid, origin=map_.origin)
    if not len(points):
        return grid
    reach = (2 * radii / voxel_size).clamp(3, 6)  # voxels
    center = (points / voxel_size).round().long()
    steps = ball_offsets(int(reach.max().ceil()), points.device)

    def keys_of(voxel: Tensor) -> Tensor:  # voxel (P, 3)
        return pack(batch_index, voxel.div(BLOCK_RESOLUTION, rounding_mode="floor"))

    grid = grid.allocate(torch.cat([keys_of(center + step).unique() for step in steps[:: len(steps) // 60]]).unique())
    count = grid.sdf.numel()
    total, distance = grid.sdf.new_zeros(count), grid.sdf.new_zeros(count)
    color = grid.sdf.new_zeros(count, 3)
    for step in steps:
        voxel = center + step
        offset = voxel.to(points.dtype) * voxel_size - points
        away = (offset.norm(dim=-1) / voxel_size / reach * 3).square()
        slot = grid.lookup(keys_of(voxel))
        weight = torch.where((away < 9) & (slot >= 0), confidences * torch.exp(-0.5 * away), 0.0)
        cell = slot.clamp(min=0) * VOXELS_PER_BLOCK + voxel_index(*voxel.unbind(-1))
        total.index_add_(0, cell, weight)
        distance.index_add_(0, cell, weight * (offset * normals).sum(-1))
        color.index_add_(0, cell, weight[:, None] * colors)
    scale = divide(1.0, total, total > 0)
    shape = grid.sdf.shape
    total = total.reshape(shape)
    return grid.scatter(
        torch.arange(len(grid.sdf), device=points.device),
        sdf=(distance * scale).reshape(shape).clamp(-truncation, truncation), weight=total,
        color=(color * scale[:, None]).reshape(*shape, 3).movedim(-1, 1).contiguous(), color_weight=total.clone(),
    )  # fmt: skip


def ball_offsets(radius: int, device: torch.device) -> Tensor:
    """Coordinates (n, 3) int64 of the voxels within a ball about the origin, and a little more; radius in voxels."""
    line = torch.arange(-radius, radius + 1, device=device)
    cube = torch.cartesian_prod(line, line, line)
    return cube[cube.square().sum(-1).sqrt() <= radius + 0.87]
