"""The shortest safe path over an occupancy grid for a robot with a radius: checked between cells, then smoothed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.planning.clearance import clearance_cost, path_clearance
from gradslam_ng.planning.esdf import ESDF, esdf
from gradslam_ng.planning.occupancy import Occupancy, Unknown
from gradslam_ng.planning.shortest_path import ShortestPath, shortest_path
from gradslam_ng.planning.smoothing import smooth

ATTEMPTS = 4  # with wider walls, where steps between safe cells are not safe; the last is safe by construction
STEP_DIAGONAL = 0.5**0.5  # of a cell: what a step between two cells may come nearer than both
SPACING = 0.08  # meters between the points of a smoothed path
MOST_POINTS = 200
SAMPLES = 10  # to a cell, by which the length in unknown cells is measured


class NoWayError(ValueError):
    """There is no safe path from start to goal."""


@dataclass(frozen=True, eq=False)
class SafePath:
    """A path for something round, and what it is like."""

    points: Tensor  # (K, 2) float64, meters, from start to goal; straight between them
    cost: Tensor  # (), of the path on the grid; carries the gradient to the map
    clearance: float  # meters, least distance to an obstacle, between points too
    unknown: float  # meters in cells that nobody has seen
    smoothed: bool
    distances: ESDF

    @property
    def length(self) -> float:
        """Meters."""
        return float(self.points.diff(dim=0).norm(dim=-1).sum())


def safe_path(
    grid: Occupancy,
    start: Tensor,  # (2,), meters
    goal: Tensor,  # (2,), meters
    *,
    radius: float,
    unknown: Unknown = "blocked",
    smoothed: bool = True,
) -> SafePath:
    """The path of least `clearance_cost` over a grid in the plane, no point of which is nearer to an obstacle than a
    radius.

    What is found on the grid is checked by `path_clearance`; where a step between two cells is too near, walls are made
    wider by what is missing and another is found. It is smoothed if that stays as safe.

    Raises:
        NoWayError: there is none.
        ValueError: a grid in space; a start or goal whose cell is outside, or has no room.
    """
    found = esdf(grid, unknown=unknown)
    if grid.state.ndim != 2:
        raise ValueError("grid: expected one in the plane; flatten it")
    ends = [torch.as_tensor(p, dtype=torch.float64, device=grid.origin.device) for p in (start, goal)]
    cells = [grid.index(p) for p in ends]
    for name, p, cell in zip(("start", "goal"), ends, cells, strict=True):
        if not bool(grid.contains(cell)) or float(found.distance.detach()[tuple(cell.tolist())]) < radius:
            raise ValueError(f"{name}: expected a place with room for {radius:g} m around it, got {p.tolist()}")
    way, points = _checked_way(grid, found, cells, ends, radius, unknown)
    cost = way.cost_to_go[tuple(cells[0].tolist())]
    better = _smoothed(points, found, radius) if smoothed and len(points) > 2 else points
    if not bool(better.isfinite().all()) or path_clearance(grid, better, unknown=unknown) < radius:
        better = points
    clearance = path_clearance(grid, better, unknown=unknown)
    return SafePath(better, cost, clearance, _length_unknown(grid, better), better is not points, found)


def _checked_way(
    grid: Occupancy, found: ESDF, cells: list[Tensor], ends: list[Tensor], radius: float, unknown: Unknown
) -> tuple[ShortestPath, Tensor]:
    """The cheapest way on the grid that is safe between cells, too, and its points (K, 2).

    Raises:
        NoWayError: there is none.
    """
    wide, widest = radius, radius + STEP_DIAGONAL * grid.cell
    for attempt in range(ATTEMPTS):
        way = _over_cells(grid, found, cells, wide, unknown)
        if not bool(way.reachable[tuple(cells[0].tolist())]):
            finer = "; a finer grid may find one" if attempt else ""
            raise NoWayError(f"goal: there is no way to it that keeps {radius:g} m off obstacles{finer}")
        points = torch.cat([ends[0][None], grid.center(way.path(cells[0]))[1:-1].to(ends[0]), ends[1][None]])
        missing = radius - path_clearance(grid, points, unknown=unknown)
        if missing <= 0:
            return way, points
        wide = widest if attempt == ATTEMPTS - 2 else min(widest, wide + missing + 1e-6)
    raise NoWayError(f"goal: every way to it comes nearer than {radius:g} m to obstacles; a finer grid may find one")


def _over_cells(grid: Occupancy, found: ESDF, cells: list[Tensor], radius: float, unknown: Unknown) -> ShortestPath:
    """The cheapest ways to the second cell; both have room, whatever wider walls say."""
    charged = grid.unknown if unknown == "costly" else None
    cost = clearance_cost(found.distance, radius=radius, unknown=charged)
    soft = clearance_cost(found.distance.clamp(min=radius), radius=radius, unknown=charged)
    ends = torch.zeros_like(grid.free)
    for cell in cells:
        ends[tuple(cell.tolist())] = True
    return shortest_path(torch.where(ends, soft, cost), cells[1], cell=grid.cell)


def _smoothed(points: Tensor, found: ESDF, radius: float) -> Tensor:
    """The path at even spacing, smoothed; not for its gradient, so whether it has converged does not matter."""
    with torch.no_grad():
        field = found._replace(distance=found.distance.detach()).field()
        inner = smooth(resample(points, SPACING), field, radius=radius).position[1:-1]
    return torch.cat([points[:1], inner, points[-1:]])


def resample(points: Tensor, spacing: float) -> Tensor:
    """A polyline (K, d) by points (N, d) at even distances of about a spacing, ends included."""
    along = torch.cat([points.new_zeros(1), points.diff(dim=0).norm(dim=-1).cumsum(0)])
    count = min(MOST_POINTS, max(2, round(float(along[-1]) / spacing) + 1))
    at = torch.linspace(0, 1, count, dtype=points.dtype, device=points.device) * along[-1]
    after = torch.searchsorted(along, at).clamp(1, len(along) - 1)
    span = along[after] - along[after - 1]
    share = torch.where(span > 0, (at - along[after - 1]) / torch.where(span > 0, span, 1.0), 0.0)
    return torch.lerp(points[after - 1], points[after], share[:, None])


def _length_unknown(grid: Occupancy, points: Tensor) -> float:
    """Meters of a polyline (K, 2) in unknown cells."""
    total = 0.0
    for a, b in itertools.pairwise(points):
        length = float((b - a).norm())
        count = max(1, round(SAMPLES * length / grid.cell))
        share = (torch.arange(count, dtype=a.dtype, device=a.device) + 0.5) / count
        cells = grid.index(a + share[:, None] * (b - a))
        inside = grid.contains(cells)
        unseen = ~inside
        unseen[inside] = grid.unknown[tuple(cells[inside].unbind(-1))]
        total += length * float(unseen.double().mean())
    return total
