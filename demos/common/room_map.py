"""A rendered room, reconstructed, as a map for a robot on the floor."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng import planning
from gradslam_ng.datasets import Synthetic

HEIGHTS = (0.1, 1.3)  # meters above the floor between which things are in the way
VOXEL, TRUNCATION = 0.025, 0.075  # meters; a lamp's pole is lost in larger ones
RECORDED = 120  # frames of the walk around the room of which some are taken
SEEN = 0.8  # of a column of cells that must be free
SIZE = (192, 256)  # pixels


def record(frames: int = 24, size: tuple[int, int] = SIZE) -> tuple[Synthetic, gs.RGBDFrames]:
    """The recording of a walk around the living room, and so many frames of it, evenly apart, with their true poses."""
    sequence = Synthetic("living_room", frames=RECORDED, size=size, path="orbit")
    at = torch.linspace(0, RECORDED - 1, frames).round().long().tolist()
    return sequence, gs.RGBDFrames.stack([sequence[k] for k in at])


@torch.no_grad()
def fuse(frames: gs.RGBDFrames) -> gs.VoxelGrid:
    """The volume of frames (L,)."""
    volume = gs.VoxelGrid.empty(1, VOXEL, TRUNCATION)
    for k in range(len(frames)):
        volume = gs.integrate(volume, frames[k])
    return volume


@torch.no_grad()
def floor_map(frames: gs.RGBDFrames, cell: float = 0.05) -> planning.ESDF:
    """Distances (X, Y) on the floor to what is in the way or was never seen, of the volume that frames (L,) make."""
    grid = planning.Occupancy.of(fuse(frames), up=(0.0, 0.0, 1.0), heights=HEIGHTS, cell=cell)
    return planning.esdf(grid.carve(frames).flatten(SEEN))


def standing(found: planning.ESDF, radius: float) -> Tensor:
    """(X, Y) bool: cells where a disk of that radius stands clear, the largest region of them."""
    clear = found.distance.numpy() > radius
    regions, _ = ndimage.label(clear)
    return torch.from_numpy(regions == np.bincount(regions[clear]).argmax())


def shuffled(free: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 2), the cells that are free (X, Y) in random order.

    The order is that of all cells of the grid, so where rounding of a map makes one cell free or not, the others are
    drawn as before."""
    order = torch.randperm(free.numel(), generator=generator)
    order = order[free.flatten()[order]]
    return torch.stack([order // free.shape[1], order % free.shape[1]], -1)


def in_the_way(vertices: Tensor) -> Tensor:
    """(V, 2), of vertices (N, 3) those at heights that a robot has."""
    return vertices[(vertices[:, 2] > HEIGHTS[0]) & (vertices[:, 2] < HEIGHTS[1]), :2].double()
