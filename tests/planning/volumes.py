"""Volumes of shapes whose distances are known; no surface lies on a voxel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.structures.voxel_blocks import BLOCK_RESOLUTION, pack, voxel_offsets


def volume_of(distance: Callable[[Tensor], Tensor], half: float = 1.0, voxel: float = 0.05) -> gs.VoxelGrid:
    """Truncated distances, float64, known from the truncation behind surfaces on, in a box of `half` meters around the
    world's origin."""
    truncation = 4 * voxel
    blocks = torch.arange(-round(half / voxel / BLOCK_RESOLUTION) - 1, round(half / voxel / BLOCK_RESOLUTION) + 1)
    block = torch.stack(torch.meshgrid(blocks, blocks, blocks, indexing="ij"), -1).reshape(-1, 3)
    keys, order = pack(torch.zeros(len(block), dtype=torch.int64), block).sort()
    p = (block[order][:, None] * BLOCK_RESOLUTION + voxel_offsets(keys.device)).double() * voxel
    sdf = distance(p).clamp(max=truncation)
    weight = (sdf > -truncation).double()
    color = torch.zeros(len(keys), 3, 512, dtype=torch.float64)
    return gs.VoxelGrid(
        keys, torch.arange(len(keys)), sdf, weight, color, weight, batch=1, voxel_size=voxel, truncation=truncation
    )


def sphere(p: Tensor, radius: float = 0.512) -> Tensor:
    return p.norm(dim=-1) - radius


def box(p: Tensor, half: tuple[float, float, float] = (0.412, 0.309, 0.513)) -> Tensor:
    q = p.abs() - p.new_tensor(half)
    return q.clamp(min=0).norm(dim=-1) + q.amax(-1).clamp(max=0)
