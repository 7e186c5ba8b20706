"""Occupancy grids of maps: which cells are free, which are occupied, and which nobody has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.discrete import discrete, steady_floor
from gradslam_ng.geometry import camera, se3
from gradslam_ng.planning.ground import Map, estimate_floor, level_axes, surface_points
from gradslam_ng.structures import RGBDFrames, VoxelGrid
from gradslam_ng.structures.frame_checks import check_frames
from gradslam_ng.structures.voxel_blocks import BLOCK_RESOLUTION, unpack, voxel_offsets

UNKNOWN, FREE, OCCUPIED = 0, 1, 2
MAX_CELLS = 1 << 26
DIAGONAL = 3**0.5 / 2  # of a cell, from its center
BELOW = 0.5  # meters below the floor down to which points count for how far the grid reaches

Unknown = Literal["blocked", "free", "costly"]


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Cells of a grid in the plane or in space: each `FREE`, `OCCUPIED`, or `UNKNOWN`; and the surfaces within them.

    Coordinates are along `axes`, from the world's origin, so that of a world whose z is up the x and y of a grid are
    the world's. States are discrete; the points of surfaces have a gradient to the map.
    """

    state: Tensor  # (X, Y) or (X, Y, Z) uint8
    origin: Tensor  # (d,) float64, the center of the first cell, meters
    cell: float  # meters
    surface: Tensor  # (M, d) float64, meters, points on surfaces
    normals: Tensor  # (M, d), the part of their unit normals along the axes of the grid
    axes: Tensor  # (3, 3) float64: the directions of x, y and up in the world, a row each
    floor: float = 0.0  # meters along the third axis

    @property
    def free(self) -> Tensor:
        """(X, Y[, Z]) bool."""
        return self.state == FREE

    @property
    def occupied(self) -> Tensor:
        """(X, Y[, Z]) bool."""
        return self.state == OCCUPIED

    @property
    def unknown(self) -> Tensor:
        """(X, Y[, Z]) bool."""
        return self.state == UNKNOWN

    @staticmethod
    def from_cells(
        occupied: Tensor,  # (X, Y) or (X, Y, Z) bool
        unknown: Tensor | None = None,  # the same
        *,
        origin: Tensor | Sequence[float] | None = None,
        cell: float = 1.0,
    ) -> Occupancy:
        """A grid that is known cell by cell, a drawn floor plan say: without surfaces, what is occupied is its cells.

        Raises:
            ValueError: masks that are no bool grids of one shape with two or three axes, a cell without size.
        """
        unknown = torch.zeros_like(occupied) if unknown is None else unknown
        if occupied.dtype != torch.bool or occupied.ndim not in (2, 3) or not occupied.numel():
            raise ValueError(f"occupied: expected bool (X, Y) or (X, Y, Z), got {occupied.dtype} {occupied.shape}")
        if unknown.dtype != torch.bool or unknown.shape != occupied.shape:
            raise ValueError(f"unknown: expected bool {tuple(occupied.shape)}, got {unknown.dtype} {unknown.shape}")
        _check_cell(cell)
        d, device = occupied.ndim, occupied.device
        state = torch.where(occupied, OCCUPIED, torch.where(unknown, UNKNOWN, FREE)).to(torch.uint8)
        at = torch.zeros(d) if origin is None else torch.as_tensor(origin, dtype=torch.float64)
        if at.shape != (d,) or not bool(at.isfinite().all()):
            raise ValueError(f"origin: expected {d} coordinates of the first cell's center, got {origin}")
        nothing = torch.zeros(0, d, dtype=torch.float64, device=device)
        axes = torch.eye(3, dtype=torch.float64, device=device)
        return Occupancy(state, at.to(device).double(), cell, nothing, nothing, axes)

    @staticmethod
    @mode_free
    def of(
        map_: Map,
        *,
        up: Tensor | Sequence[float],
        heights: tuple[float, float] = (0.1, 1.3),
        cell: float = 0.05,
        floor: float | None = None,
    ) -> Occupancy:
        """Cells (X, Y, Z) between two heights above the floor, as far as a map reaches.

        A cell is occupied that holds a point of a surface, or a voxel behind one; of the others a volume knows those
        near surfaces to be free. See `carve` for the rest.

        Args:
            map_: one surfel map or volume.
            up: the upward direction (3,) in the world; see `estimate_up`.
            heights: meters above the floor.
            cell: meters; of a volume, a voxel at least.
            floor: meters along `up`; by default the lowest large surface that faces up.

        Raises:
            TypeError: another kind of map.
            ValueError: a batch of more than one map, no surface, sizes that make no sense, or too many cells.
        """
        points, normals = surface_points(map_)
        _check_sizes(map_, heights, cell)
        axes = level_axes(up).to(points.device)
        floor = estimate_floor(points, normals, axes[2]) if floor is None else float(floor)
        points, normals = points @ axes.T, normals @ axes.T
        origin, shape = _extent(map_, points, axes, floor, heights, cell)
        state = torch.zeros(shape, dtype=torch.uint8, device=points.device)
        nothing = points.new_zeros(0, 3)
        grid = Occupancy(state, origin, cell, nothing, nothing, axes, floor)
        state, inside = _fill(grid, map_, points)
        return replace(grid, state=state, surface=points[inside], normals=normals[inside])

    def index(self, p: Tensor) -> Tensor:  # p (..., d), meters
        """The cells (..., d) int64 in which points lie, of a grid without end."""
        return steady_floor((p - self.origin) / self.cell + 0.5).long()

    def contains(self, index: Tensor) -> Tensor:  # index (..., d) int64
        """(...) bool, which cells are of the grid."""
        return ((index >= 0) & (index < torch.tensor(self.state.shape, device=index.device))).all(-1)

    def cells_of(self, p: Tensor) -> Tensor:  # p (N, d), meters
        """The cells (n, d) int64 in which points lie, without those outside the grid."""
        index = self.index(p)
        return index[self.contains(index)]

    def center(self, index: Tensor) -> Tensor:  # index (..., d)
        """The centers (..., d) of cells, meters."""
        return self.origin + self.cell * index.to(self.origin)

    def centers(self) -> Tensor:
        """Those of all cells, (X, Y[, Z], d), meters."""
        along = [torch.arange(n, device=self.state.device) for n in self.state.shape]
        return self.center(torch.stack(torch.meshgrid(*along, indexing="ij"), -1))

    def to_world(self, p: Tensor) -> Tensor:  # p (..., d), meters
        """Points (..., 3) in the world; those of a grid in the plane lie on the floor."""
        if p.shape[-1] == 2:
            p = torch.nn.functional.pad(p, (0, 1), value=self.floor)
        return p @ self.axes.to(p.dtype)

    @mode_free
    def carve(self, frames: RGBDFrames) -> Occupancy:
        """With unknown cells free that some camera has seen through: in whose pixel depth is farther than all of the
        cell.

        Args:
            frames: depth with poses, over any leading axes; those without a known pose tell nothing.

        Raises:
            ValueError: a grid in the plane, frames without poses or with ones that make no sense.
        """
        if self.state.ndim != 3:
            raise ValueError("carve: expected a grid in space; flatten afterwards")
        if frames.T_wc is None:
            raise ValueError("frames: expected poses T_wc")
        check_frames(frames)
        depth, K = frames.depth.flatten(0, -4), frames.K.reshape(-1, 3, 3)
        T_wc = frames.T_wc.reshape(-1, 4, 4)
        return replace(self, state=_seen_through(self, depth, K, T_wc))

    def flatten(self, seen: float = 0.5) -> Occupancy:
        """A grid in the plane for what stands upright: a cell is occupied where any above it is, free where a share of
        at least `seen` of those above it is free, and of the lower half of these, since things stand on the floor;
        unknown elsewhere.

        Raises:
            ValueError: a grid in the plane, or a share that is none.
        """
        if self.state.ndim != 3 or not 0 < seen <= 1:
            raise ValueError(f"flatten: expected a grid in space and a share in (0, 1], got {self.state.ndim}D, {seen}")
        column = self.free.double()
        lower = column[..., : (column.shape[-1] + 1) // 2]
        free = torch.minimum(column.mean(-1), lower.mean(-1)) >= seen
        state = torch.where(self.occupied.any(-1), OCCUPIED, torch.where(free, FREE, UNKNOWN)).to(torch.uint8)
        surface, normals = self.surface[:, :2], self.normals[:, :2]
        return replace(self, state=state, origin=self.origin[:2], surface=surface, normals=normals)


def _check_cell(cell: float) -> None:
    if not 0 < cell < float("inf"):
        raise ValueError(f"cell: expected a size in meters, got {cell}")


def _check_sizes(map_: Map, heights: tuple[float, float], cell: float) -> None:
    _check_cell(cell)
    if isinstance(map_, VoxelGrid) and cell < 0.999 * map_.voxel_size:
        raise ValueError(f"cell: expected a voxel of the volume at least, {map_.voxel_size:g} m, got {cell:g}")
    low, high = heights
    if not float("-inf") < low < high < float("inf"):
        raise ValueError(f"heights: expected two, meters above the floor, the lower first, got {heights}")


@discrete
def _extent(
    map_: Map,
    points: Tensor,  # (M, 3), of its surfaces, along the axes
    axes: Tensor,  # (3, 3)
    floor: float,
    heights: tuple[float, float],
    cell: float,
) -> tuple[Tensor, list[int]]:
    """Origin (3,) and shape of the grid around what is known. Centers are multiples of the cell, so that a map that
    changes a little has the same."""
    low, high = heights

    def within(p: Tensor) -> Tensor:
        return p[(p[:, 2] > floor + min(low, 0.0) - BELOW) & (p[:, 2] < floor + high)]

    some = within(points)
    if not len(some):
        raise ValueError(f"map: expected a surface up to {high:g} m above the floor, at {floor:g} m; there is none")
    if isinstance(map_, VoxelGrid):
        some = torch.cat([some, within(_known_blocks(map_) @ axes.T)])
    first, last = (steady_floor(bound[:2] / cell + 0.5) for bound in (some.amin(0), some.amax(0)))
    shape = [*(int(n) + 1 for n in (last - first).tolist()), max(1, round((high - low) / cell))]
    if shape[0] * shape[1] * shape[2] > MAX_CELLS:
        cells = f"{' x '.join(map(str, shape))} cells of {cell:g} m"
        raise ValueError(f"cell: {cells} are too many; larger ones need less, if the map is in meters")
    bottom = points.new_tensor([floor + low + (high - low) / shape[2] / 2])
    return torch.cat([first * cell, bottom]), shape


@discrete
def _fill(grid: Occupancy, map_: Map, points: Tensor) -> tuple[Tensor, Tensor]:
    """The state (X, Y, Z) of cells by what a map knows, and which points (M,) of its surfaces they hold."""
    state, at = grid.state.clone(), grid.index(points)
    if isinstance(map_, VoxelGrid):
        state[_known_free(map_, grid)] = FREE
        state[tuple(grid.cells_of(_voxels_behind(map_) @ grid.axes.T).unbind(-1))] = OCCUPIED
    inside = grid.contains(at)
    state[tuple(at[inside].unbind(-1))] = OCCUPIED
    return state, inside


def _known_free(map_: VoxelGrid, grid: Occupancy) -> Tensor:
    """(X, Y, Z) bool: cells whose center a volume knows to be free."""
    p = grid.centers().flatten(0, 2) @ grid.axes
    p = p if map_.origin is not None else p.to(map_.sdf.dtype)
    sdf, _, weight = map_.query(p[None])
    return ((weight > 0) & (sdf > 0))[0].view(grid.state.shape)


def _known_blocks(map_: VoxelGrid) -> Tensor:
    """Middles (n, 3) float64 of the blocks of which anything is known, in the world."""
    _, block = unpack(map_.keys[(map_.weight[map_.slots] > 0).any(-1)])
    return _in_world(map_, (block.double() + 0.5) * map_.block_size)


def _voxels_behind(map_: VoxelGrid) -> Tensor:
    """Centers (n, 3) float64 of known voxels behind surfaces, in the world."""
    slot, voxel = ((map_.weight > 0) & (map_.sdf <= 0))[map_.slots].nonzero().unbind(-1)
    _, block = unpack(map_.keys[slot])
    number = block * BLOCK_RESOLUTION + voxel_offsets(map_.sdf.device)[voxel]
    return _in_world(map_, number.double() * map_.voxel_size)


def _in_world(map_: VoxelGrid, p: Tensor) -> Tensor:  # p (n, 3) float64
    return p if map_.origin is None else p + map_.origin


@discrete
def _seen_through(
    grid: Occupancy,
    depth: Tensor,  # (L, H, W, 1)
    K: Tensor,  # (L, 3, 3)
    T_wc: Tensor,  # (L, 4, 4)
) -> Tensor:
    """The state (X, Y, Z) once cells before measured depth are free."""
    state, (height, width) = grid.state.clone(), depth.shape[1:3]
    left = (state == UNKNOWN).flatten().nonzero()[:, 0]
    p_w = (grid.centers().flatten(0, 2) @ grid.axes)[left]
    for image, K_one, pose in zip(depth[..., 0], K.double(), T_wc.double(), strict=True):
        if not len(left) or not bool(pose.isfinite().all()):
            continue
        uv, z = camera.project(se3.transform(se3.inverse(pose), p_w), K_one)
        u, v = steady_floor(uv + 0.5).unbind(-1)
        seen = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        pixel = torch.where(seen, v * width + u, 0.0).long()
        free = seen & (z + DIAGONAL * grid.cell < image.flatten()[pixel])
        state.view(-1)[left[free]] = FREE
        left, p_w = left[~free], p_w[~free]
    return state
