"""A rendered room, reconstructed, as a map for a robot on the floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng import planning
from gradslam_ng.datasets import Synthetic

HEIGHTS = (0.1, 1.3)  # meters above the floor between which things are in the way
VOXEL, TRUNCATION = 0.05, 0.15  # meters
RECORDED = 120  # frames of the walk around the room of which some are taken


@dataclass(frozen=True)
class FloorMap:
    """Signed distances (X, Y), meters, to what is in the way of a robot or was never seen."""

    distance: Tensor  # (X, Y)
    origin: Tensor  # (2,), world, meters, of the center of the first cell
    cell: float  # meters

    @property
    def field(self) -> planning.DistanceField:
        return planning.DistanceField(self.distance, origin=self.origin, cell=self.cell)

    def free(self, radius: float) -> Tensor:
        """(X, Y) bool: cells where a disk of that radius stands clear, the largest region of them."""
        clear = self.distance.numpy() > radius
        regions, _ = ndimage.label(clear)
        return torch.from_numpy(regions == np.bincount(regions[clear]).argmax())

    def points(self, cells: Tensor) -> Tensor:
        """Centers (..., 2) of cells (..., 2), world, meters."""
        return self.origin + self.cell * cells


def record(frames: int, size: tuple[int, int], name: str = "living_room") -> tuple[Synthetic, gs.RGBDFrames]:
    """The recording of a walk around a room, and so many frames of it, evenly apart, with their true poses."""
    sequence = Synthetic(name, frames=RECORDED, size=size, path="orbit")
    at = torch.linspace(0, RECORDED - 1, frames).round().long().tolist()
    return sequence, gs.RGBDFrames.stack([sequence[k] for k in at])


@torch.no_grad()
def fuse(frames: gs.RGBDFrames) -> gs.VoxelGrid:
    """The volume of frames (L,)."""
    volume = gs.VoxelGrid.empty(1, VOXEL, TRUNCATION)
    for k in range(len(frames)):
        volume = gs.integrate(volume, frames[k])
    return volume


def in_the_way(vertices: Tensor) -> Tensor:
    """(V, 2), of vertices (N, 3) those at heights that a robot has."""
    return vertices[(vertices[:, 2] > HEIGHTS[0]) & (vertices[:, 2] < HEIGHTS[1]), :2].double()


def floor_map(volume: gs.VoxelGrid, cell: float = 0.05) -> FloorMap:
    """Cells are free where the volume's mesh has a floor, or a gap in it of less than 20 cm, and nothing above it."""
    vertices = gs.marching_cubes(volume).vertices
    floor, blocked = vertices[vertices[:, 2].abs() < HEIGHTS[0] / 2, :2].double(), in_the_way(vertices)
    seen = torch.cat([floor, blocked])
    origin = seen.amin(0) - 2 * cell
    size = ((seen.amax(0) - origin) / cell).round().long() + 3

    def mark(points: Tensor) -> np.ndarray:
        grid = np.zeros(tuple(size.tolist()), dtype=bool)
        grid[tuple(((points - origin) / cell).round().long().T.numpy())] = True
        return grid

    free = ndimage.binary_closing(mark(floor), iterations=max(1, round(0.1 / cell))) & ~mark(blocked)
    inside, outside = ndimage.distance_transform_edt(free), ndimage.distance_transform_edt(~free)
    return FloorMap(torch.from_numpy(cell * (inside - outside - np.where(free, 0.5, -0.5))), origin, cell)
