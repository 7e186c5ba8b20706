"""Euclidean signed distances to the surfaces of an occupancy grid, with a gradient to the map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.discrete import TIE, discrete
from gradslam_ng.compute.safe import divide, normalize
from gradslam_ng.planning.distance_field import DistanceField
from gradslam_ng.planning.occupancy import Occupancy, Unknown

FACING = 0.5  # the part along a grid's axes that a normal must have to tell on which side of its surface a cell lies


class ESDF(NamedTuple):
    """Distances of the centers of cells."""

    distance: Tensor  # (X, Y[, Z]) float64, meters, negative within obstacles; carries the gradient
    gradient: Tensor  # (X, Y[, Z], d), of the distance to the position; zero where there is no obstacle
    witness: Tensor  # (X, Y[, Z]) int64: the nearest point of `Occupancy.surface`, -1 where it is the side of a cell
    grid: Occupancy

    def field(self) -> DistanceField:
        """The distances as a smooth function of position."""
        return DistanceField(self.distance, origin=self.grid.origin, cell=self.grid.cell)


class Witnesses(NamedTuple):
    """What distances are measured to: discrete choices, all for N cells."""

    outside: Tensor  # (N,) int64: for a cell in free space itself, for one within an obstacle the nearest that is
    surface: Tensor  # (N,) int64: the nearest point of a surface, -1 where a cell is nearer
    cell: Tensor  # (N, d) float64: the center of the nearest cell that is an obstacle as a whole
    inside: Tensor  # (N,) bool


@mode_free
def esdf(grid: Occupancy, *, unknown: Unknown = "blocked") -> ESDF:
    """The distance of every cell's center to the nearest surface, or to the nearest obstacle that has no surface.

    To a point q of a surface it is |x - q|, and the gradient goes to q and on to the map: to the depth that moved it. q
    is the nearest one, a discrete choice. Obstacles without surface points, which are cells as a whole, count as balls
    of a cell's diameter. Within obstacles the distance is that of the nearest cell outside less the way there. Where
    there is nothing it is the grid's diagonal.

    The distance to points is more than that to the surface between them, by at most spacing^2 / (8 distance).

    Args:
        unknown: "blocked", unknown cells and what lies beyond the grid are obstacles; "free" or "costly", they are not.

    Raises:
        ValueError: another word.
    """
    if unknown not in ("blocked", "free", "costly"):
        raise ValueError(f"unknown: expected blocked, free or costly, got {unknown!r}")
    found = find_witnesses(grid, unknown == "blocked")
    x = grid.centers().flatten(0, -2)
    far = grid.cell * float(np.linalg.norm(grid.state.shape))
    outer = x[found.outside]
    surface, cell = found.surface[found.outside], found.cell[found.outside]
    near = surface >= 0
    q = grid.surface[surface.clamp(min=0)] if len(grid.surface) else cell
    away = outer - torch.where(near[:, None], q, cell)
    there = away.isfinite().all(-1)
    away = torch.where(there[:, None], away, 0.0)
    square = away.square().sum(-1)
    positive = square > 0
    length = torch.where(positive, square.where(positive, 1.0).sqrt(), 0.0)
    reach = torch.where(near, length, length - 0.5 * grid.cell)
    reach = torch.where(there, reach.clamp(max=far), far)
    way = (x - outer).norm(dim=-1)
    nowhere = found.inside[found.outside]  # all cells are
    distance = torch.where(nowhere, -far, torch.where(found.inside, reach - way, reach).clamp(min=-far))
    slope = torch.where(found.inside[:, None], normalize(outer - x), divide(1.0, length, positive)[:, None] * away)
    shape = grid.state.shape
    witness = torch.where(found.inside, torch.where(near, surface, -1), found.surface)
    return ESDF(distance.view(shape), slope.detach().view(*shape, -1), witness.view(shape), grid)


@discrete
def find_witnesses(grid: Occupancy, blocked: bool) -> Witnesses:
    """The nearest of everything for all cells: a discrete choice."""
    x = grid.centers().flatten(0, -2).cpu().numpy()
    q, n = (t.detach().cpu().numpy() for t in (grid.surface, grid.normals))
    occupied = grid.occupied.cpu().numpy()
    to_surface, surface = _nearest(q, x)
    cells = solid_cells(grid, blocked).cpu().numpy()
    to_cell, cell = _nearest(cells, x)
    surface = np.where(to_surface <= to_cell - 0.5 * grid.cell, surface, -1)
    inside = occupied.ravel().copy()
    if len(q):  # a surface passes through the cell, and its center may lie before it; or on it, as at round numbers
        at = surface.clip(min=0)
        before = ((x - q[at]) * n[at]).sum(-1) > -TIE * grid.cell
        inside &= ~((surface >= 0) & before & (np.linalg.norm(n[at], axis=-1) > FACING))
    if blocked:
        inside |= grid.unknown.cpu().numpy().ravel()
    outside = _nearest_outside(inside.reshape(occupied.shape))
    cell_at = cells[cell.clip(max=len(cells) - 1)] if len(cells) else np.full_like(x, np.inf)
    arrays = outside, np.where(np.isfinite(to_surface), surface, -1), cell_at, inside
    return Witnesses(*(torch.from_numpy(a).to(grid.state.device) for a in arrays))


def _nearest(points: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (N,) from each x (N, d) to the nearest of points (M, d), and which; infinite where there are none."""
    from scipy.spatial import cKDTree  # late: it takes a while to import

    if not len(points):
        return np.full(len(x), np.inf), np.full(len(x), -1)
    distance, index = cKDTree(points).query(x)
    return distance, index.astype(np.int64)


@discrete
def solid_cells(grid: Occupancy, blocked: bool) -> Tensor:
    """Centers (n, d) float64 of cells that are obstacles as a whole: occupied without a point of a surface, or, where
    these are blocked, unknown and around the grid. Only those beside another kind of cell: others are never nearest."""
    occupied, unknown = grid.occupied.cpu().numpy(), grid.unknown.cpu().numpy()
    solid = occupied.copy()
    solid[tuple(grid.cells_of(grid.surface.detach()).cpu().numpy().T)] = False
    solid = np.pad(solid | unknown if blocked else solid, 1, constant_values=blocked)
    closed = np.pad(occupied, 1) | solid
    outer = ndimage.binary_dilation(~closed, np.ones((3,) * closed.ndim), border_value=0)
    return grid.center(torch.from_numpy(np.argwhere(solid & outer) - 1).to(grid.origin.device))


def _nearest_outside(inside: np.ndarray) -> np.ndarray:
    """Flat index (N,) of the nearest cell that is not inside, its own where it is not, and where all are."""
    own = np.arange(inside.size)
    if not inside.any() or inside.all():
        return own
    index = ndimage.distance_transform_edt(inside, return_distances=False, return_indices=True)
    return np.ravel_multi_index(tuple(index.reshape(inside.ndim, -1)), inside.shape)
