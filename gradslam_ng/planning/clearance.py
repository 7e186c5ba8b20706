"""Costs that keep a path away from obstacles, and the exact clearance of a path, between its points too."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.planning.checks import check_tensors
from gradslam_ng.planning.esdf import solid_cells
from gradslam_ng.planning.occupancy import Occupancy, Unknown


@mode_free
def clearance_cost(
    distance: Tensor,  # (..., X, Y[, Z]), meters
    *,
    radius: float | Tensor,
    softness: float | Tensor = 0.04,
    weight: float | Tensor = 20.0,
    unknown: Tensor | None = None,  # like distance, bool
    unknown_weight: float | Tensor = 5.0,
) -> Tensor:
    """The cost of a meter through each cell: 1 + weight sigmoid((radius - distance) / softness), and infinite, a wall,
    where there is no room for what moves: finite costs are 1 + weight / 2 at most.

    Args:
        distance: to obstacles, as `esdf` gives it.
        radius: of what moves, meters.
        softness: meters; how far beyond its radius obstacles are avoided.
        weight: how much a path that touches them costs more; a tensor gets a gradient, and so do all of these.
        unknown: cells that nobody has seen, of which a meter costs `unknown_weight` more.

    Raises:
        TypeError: a distance that is no tensor of floating-point numbers.
        ValueError: distances that are not finite, a softness that is not positive, another number that is negative.
    """
    check_tensors(distance=distance)
    for name, value in {"radius": radius, "weight": weight, "unknown_weight": unknown_weight}.items():
        if not bool((torch.as_tensor(value).detach() >= 0).all()):
            raise ValueError(f"{name}: expected a number from 0 on, got {value}")
    if not bool((torch.as_tensor(softness).detach() > 0).all()):
        raise ValueError(f"softness: expected a positive number of meters, got {softness}")
    cost = 1 + weight * torch.sigmoid((radius - distance) / softness)
    if unknown is not None:
        cost = cost + torch.where(unknown, unknown_weight, 0.0)
    return torch.where((distance < radius).detach(), torch.inf, cost)


def path_clearance(
    grid: Occupancy,
    path: Tensor,  # (K, d), meters, K >= 1
    *,
    unknown: Unknown = "blocked",
) -> float:
    """The least distance, meters, of the polyline through points to any obstacle, exact on its segments; infinite where
    there is none. What moves along it is safe if its radius is at most that.

    Obstacles are those of `esdf`: points of surfaces, and cells as balls of their diameter.

    Raises:
        ValueError: a path of other axes than the grid's, or without a point.
    """
    if path.ndim != 2 or not len(path) or path.shape[1] != grid.state.ndim:
        raise ValueError(f"path: expected (K, {grid.state.ndim}) with a point at least, got {tuple(path.shape)}")
    p = path.detach().cpu().double().numpy()
    cells = solid_cells(grid, unknown == "blocked").cpu().numpy()
    to_surface = _least_distance(grid.surface.detach().cpu().numpy(), p)
    return min(to_surface, _least_distance(cells, p) - 0.5 * grid.cell)


def _least_distance(points: np.ndarray, p: np.ndarray) -> float:
    """From points (M, d) to the polyline p (K, d)."""
    from scipy.spatial import cKDTree  # late: it takes a while to import

    if not len(points):
        return np.inf
    tree = cKDTree(points)
    first, last = (p[:-1], p[1:]) if len(p) > 1 else (p, p)
    middle, half = 0.5 * (first + last), 0.5 * np.linalg.norm(last - first, axis=-1)
    bound, _ = tree.query(middle)  # the nearest to the middle is an upper bound for the segment
    least = np.inf
    for k, near in enumerate(tree.query_ball_point(middle, bound + half + 1e-9)):
        q, along = points[near] - first[k], last[k] - first[k]
        square = along @ along
        share = (q @ along / square if square > 0 else np.zeros(len(q))).clip(0, 1)
        least = min(least, float(np.linalg.norm(q - share[:, None] * along, axis=-1).min()))
    return least
