"""Dense index of the blocks of a sparse volume within a box: found faster than in a sorted list."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.structures import VoxelGrid
from gradslam_ng.structures.voxel_grid import unpack


@dataclass(frozen=True, eq=False)
class BlockIndex:
    """The slots of the blocks within a box, side by side."""

    slots: Tensor  # (B * X * Y * Z,) int32, -1 where there is no block
    low: Tensor  # (3,) int32, block coordinates of the box's first
    extent: tuple[int, int, int]  # X, Y, Z

    @staticmethod
    def from_grid(grid: VoxelGrid, chosen: Tensor) -> BlockIndex:  # chosen (N,) bool
        """For the blocks of grid.keys that are chosen, at least one of them."""
        batch_index, block = unpack(grid.keys[chosen])
        low = block.amin(0)
        nx, ny, nz = (block.amax(0) - low + 1).tolist()
        x, y, z = (block - low).unbind(-1)
        slots = torch.full((grid.batch * math.prod((nx, ny, nz)),), -1, dtype=torch.int32, device=block.device)
        slots[((batch_index * nx + x) * ny + y) * nz + z] = grid.slots[chosen].int()
        return BlockIndex(slots, low.int(), (nx, ny, nz))

    def find(
        self,
        batch_index: Tensor,  # (...)
        x: Tensor,  # (...), block coordinates
        y: Tensor,
        z: Tensor,
    ) -> Tensor:
        """Slot (...) of the block at x, y, z of a batch element, -1 for none."""
        x, y, z = (c - low for c, low in zip((x, y, z), self.low, strict=True))
        nx, ny, nz = self.extent
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)
        cell = ((batch_index * nx + x) * ny + y) * nz + z
        return torch.where(inside, self.slots[torch.where(inside, cell, 0)], -1)
