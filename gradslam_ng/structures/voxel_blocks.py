"""Where voxels lie: blocks of 8^3, the keys that they are sorted by, and the voxels within one."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_SHIFT = 3
BLOCK_RESOLUTION = 1 << BLOCK_SHIFT  # voxels along a block's edge
BLOCK_MASK = BLOCK_RESOLUTION - 1  # voxel & BLOCK_MASK is where it lies in its block, voxel >> BLOCK_SHIFT the block
VOXELS_PER_BLOCK = BLOCK_RESOLUTION**3  # in the order of their x, y, z
_COORDINATE_BITS = 16  # of each block coordinate in a key
MAX_BLOCK = 1 << (_COORDINATE_BITS - 1)  # blocks on either side of the origin that a key has room for: 2.6 km of 8 cm
MAX_BATCH = 1 << (63 - 3 * _COORDINATE_BITS)  # volumes that a key has room for


def pack(
    batch_index: Tensor,  # (...) int64
    block: Tensor,  # (..., 3) int64
) -> Tensor:
    """One sortable key (...) int64 for the block coordinates in a batch element; -1, that of no block, where there are
    more than `MAX_BLOCK` blocks to the origin."""
    within = ((block >= -MAX_BLOCK) & (block < MAX_BLOCK)).all(-1)
    x, y, z = (block + MAX_BLOCK).unbind(-1)
    return torch.where(within, ((batch_index * 2 * MAX_BLOCK + x) * 2 * MAX_BLOCK + y) * 2 * MAX_BLOCK + z, -1)


def unpack(keys: Tensor) -> tuple[Tensor, Tensor]:  # keys (...) int64
    """Batch element (...) and block coordinates (..., 3) of `pack`ed keys."""
    parts = [(keys >> (i * _COORDINATE_BITS)) & (2 * MAX_BLOCK - 1) for i in (2, 1, 0)]
    return keys >> (3 * _COORDINATE_BITS), torch.stack(parts, -1) - MAX_BLOCK


def voxel_offsets(device: torch.device) -> Tensor:
    """Coordinates (VOXELS_PER_BLOCK, 3) int64 of the voxels of a block relative to its first."""
    number = torch.arange(VOXELS_PER_BLOCK, device=device)
    x, y = number >> (2 * BLOCK_SHIFT), (number >> BLOCK_SHIFT) & BLOCK_MASK
    return torch.stack([x, y, number & BLOCK_MASK], -1)


def voxel_index(x: Tensor, y: Tensor, z: Tensor) -> Tensor:  # (...) int, voxels
    """Where voxels lie in their blocks (...), in the order of `voxel_offsets`."""
    return ((x & BLOCK_MASK) * BLOCK_RESOLUTION + (y & BLOCK_MASK)) * BLOCK_RESOLUTION + (z & BLOCK_MASK)
