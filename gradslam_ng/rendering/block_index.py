"""Index of the blocks of a sparse volume: dense within a box, where they are found faster than in a sorted list."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.structures import VoxelGrid
from gradslam_ng.structures.voxel_blocks import pack, unpack

DENSE_CELLS = 1 << 27  # blocks of a box, those that do not exist included, up to which there is room for each


@dataclass(frozen=True, eq=False)
class BlockIndex:
    """The slots of the blocks within a box, side by side; or, where the box is too large for that, of sorted keys."""

    slots: Tensor  # (B * X * Y * Z,) int32 or int64, -1 where there is no block
    low: Tensor  # (3,) int32, block coordinates of the box's first
    extent: Tensor  # (3,) int32, X, Y, Z: as numbers each box would be another kind to compile
    keys: Tensor | None = None  # (n,) int64, sorted, of the slots (n,), where they are not side by side

    @staticmethod
    def from_grid(grid: VoxelGrid, chosen: Tensor) -> BlockIndex:  # chosen (N,) bool
        """For the blocks of grid.keys that are chosen, at least one of them."""
        batch_index, block = unpack(grid.keys[chosen])
        low = block.amin(0)
        extent = block.amax(0) - low + 1
        nx, ny, nz = extent.tolist()
        x, y, z = (block - low).unbind(-1)
        # places in the arrays are computed in the type of the slots
        if grid.batch * nx * ny * nz > DENSE_CELLS:
            return BlockIndex(grid.slots[chosen], low.int(), extent.int(), grid.keys[chosen])
        dtype = torch.int32 if grid.color.numel() < 2**31 else torch.int64
        slots = torch.full((grid.batch * math.prod((nx, ny, nz)),), -1, dtype=dtype, device=block.device)
        slots[((batch_index * nx + x) * ny + y) * nz + z] = grid.slots[chosen].to(dtype)
        return BlockIndex(slots, low.int(), extent.int())

    def find(
        self,
        batch_index: Tensor,  # (...)
        x: Tensor,  # (...), block coordinates
        y: Tensor,
        z: Tensor,
    ) -> Tensor:
        """Slot (...) of the block at x, y, z of a batch element, -1 for none."""
        if self.keys is not None:
            keys = pack(batch_index, torch.stack([x, y, z], -1))
            position = torch.searchsorted(self.keys, keys).clamp(max=self.keys.shape[0] - 1)
            return torch.where(self.keys[position] == keys, self.slots[position], -1)
        x, y, z = (c - low for c, low in zip((x, y, z), self.low, strict=True))
        nx, ny, nz = self.extent
        batch_index = batch_index.int()  # products of 64 bits are slow on CPUs
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)
        cell = ((batch_index * nx + x) * ny + y) * nz + z
        return torch.where(inside, self.slots[torch.where(inside, cell, 0)], -1)
