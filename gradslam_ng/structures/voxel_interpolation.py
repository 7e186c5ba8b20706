"""Values between voxels: the eight around a point, and what is interpolated trilinearly from them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import steady_floor
from gradslam_ng.compute.safe import divide
from gradslam_ng.structures.voxel_blocks import BLOCK_SHIFT, VOXELS_PER_BLOCK, voxel_index


class VoxelValues(Protocol):
    """What is kept of every voxel, block by block; a `VoxelGrid` has these."""

    @property
    def sdf(self) -> Tensor: ...  # (C, 512), meters

    @property
    def weight(self) -> Tensor: ...  # (C, 512)

    @property
    def color(self) -> Tensor: ...  # (C, 3, 512)

    @property
    def color_weight(self) -> Tensor: ...  # (C, 512)


class Corners(NamedTuple):
    """The eight voxels around points (...), their x, y and z counted up in turn, z fastest."""

    cells: tuple[Tensor, ...]  # (...) int each, among all voxels of the arrays; any where there is no block
    exists: tuple[Tensor, ...]  # (...) bool each
    place: tuple[Tensor, Tensor, Tensor]  # (...) each: where between the first and the last, from 0 to 1


def find_corners(
    find_slot: Callable[[Tensor, Tensor, Tensor], Tensor],
    x: Tensor,  # (...), voxels
    y: Tensor,
    z: Tensor,
) -> Corners:
    """The voxels around x, y, z: a discrete choice, but for the place between them.

    find_slot(x, y, z) gives the slot of a block by its coordinates, -1 where there is none.
    """
    first = [steady_floor(c) for c in (x, y, z)]
    px, py, pz = (c - low for c, low in zip((x, y, z), first, strict=True))
    voxels = [c.int() for c in first]
    index, exists = [], []
    for corner in itertools.product((0, 1), repeat=3):
        i, j, k = (c + step for c, step in zip(voxels, corner, strict=True))
        slot = find_slot(i >> BLOCK_SHIFT, j >> BLOCK_SHIFT, k >> BLOCK_SHIFT)
        index.append(slot.clamp(min=0) * VOXELS_PER_BLOCK + voxel_index(i, j, k))
        exists.append(slot >= 0)
    return Corners(tuple(index), tuple(exists), (px, py, pz))


def are_known(grid: VoxelValues, corners: Corners) -> Tensor:
    """Whether all eight voxels around points are known, (...) bool."""
    weight = grid.weight.detach().flatten()
    known = (e & (weight[i] > 0) for i, e in zip(corners.cells, corners.exists, strict=True))
    return functools.reduce(torch.logical_and, known)


def gather_distances(grid: VoxelValues, corners: Corners) -> list[Tensor]:
    """The signed distances (...) of the eight voxels around points, meters."""
    sdf = grid.sdf.flatten()
    return [sdf[i] for i in corners.cells]


def trilinear(
    values: Sequence[Tensor],  # eight (...), in the order of `Corners`
    place: Sequence[Tensor],  # three (...)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The interpolated value (...), and its derivatives along x, y and z, a voxel."""
    x, y, z = place
    along = [b - a for a, b in zip(values[::2], values[1::2], strict=True)]
    edges = [a + z * slope for a, slope in zip(values[::2], along, strict=True)]
    across = [edges[1] - edges[0], edges[3] - edges[2]]
    faces = [edges[0] + y * across[0], edges[2] + y * across[1]]
    along = [along[0] + y * (along[1] - along[0]), along[2] + y * (along[3] - along[2])]
    dx, dy, dz = faces[1] - faces[0], across[0] + x * (across[1] - across[0]), along[0] + x * (along[1] - along[0])
    return faces[0] + x * dx, dx, dy, dz


def gather_weight(
    grid: VoxelValues,
    corners: Corners,
    place: Sequence[Tensor],  # three (...)
) -> Tensor:
    """The weight (...) interpolated at a place between eight voxels that exist."""
    weight = grid.weight.flatten()
    return trilinear([weight[i] for i in corners.cells], place)[0]


def gather_color(
    grid: VoxelValues,
    corners: Corners,
    place: Sequence[Tensor],  # three (...)
) -> list[Tensor]:
    """Red, green and blue (...) interpolated at a place between those of eight voxels that have a color; 0 for none."""
    color, color_weight = grid.color.flatten(), grid.color_weight.detach().flatten()
    x, y, z = place
    total, rgb = torch.zeros_like(x), [torch.zeros_like(x)] * 3
    for corner, index, exists in zip(itertools.product((0, 1), repeat=3), corners.cells, corners.exists, strict=True):
        share = functools.reduce(torch.mul, [c if step else 1 - c for c, step in zip((x, y, z), corner, strict=True)])
        share = torch.where(exists & (color_weight[index] > 0), share, 0.0)
        total = total + share
        first = index + 2 * (index & -VOXELS_PER_BLOCK)  # the red of a block, then the green, then the blue
        rgb = [c + share * color[first + i * VOXELS_PER_BLOCK] for i, c in enumerate(rgb)]
    return [divide(c, total, total > 1e-6) for c in rgb]
