"""Plans seen from above: what is free, occupied and unknown, how far obstacles are, and the path."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.io.atomic import whole_file
from gradslam_ng.planning.occupancy import FREE, OCCUPIED, Occupancy

PATH, START, GOAL, ROOM = "#b2182b", "#1a9850", "#b2182b", "#e08214"
COLORS = {"occupied": "#3b3b3b", "unknown": "#c9c9c9"}
MOST_DISTANCE = 0.8  # meters, from which on the color stays
SWATHS = 60  # outlines of what moves along the path
BARS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # meters


def plot_plan(
    path: str | os.PathLike,
    grid: Occupancy,
    distance: Tensor,  # (X, Y), meters
    *,
    ends: Tensor | None = None,  # (2, 2), meters, start and goal
    points: Tensor | None = None,  # (K, 2), meters
    radius: float = 0.0,
    title: str = "",
) -> None:
    """Write a picture of a grid in the plane from above, with the distance to obstacles in free cells, the outline of
    where the middle of something round may be, and, if there is one, its start, goal and path.

    Raises:
        ValueError: a grid in space.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, and the user's backend left alone
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    if grid.state.ndim != 2:
        raise ValueError("grid: expected one in the plane; flatten it")
    low = (grid.origin - 0.5 * grid.cell).cpu().numpy()
    size = grid.cell * np.array(grid.state.shape)
    extent = (low[0], low[0] + size[0], low[1], low[1] + size[1])
    scale = 8.0 / max(size)
    figure = Figure(figsize=(max(5.0, scale * size[0] + 2.2), max(4.0, scale * size[1] + 1.2)), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    state = grid.state.cpu()
    shown = np.ma.masked_where((state != FREE).numpy(), distance.detach().cpu().clamp(min=0).numpy())
    image = axes.imshow(
        shown.T, origin="lower", extent=extent, cmap="Blues_r", vmin=-0.6 * MOST_DISTANCE, vmax=MOST_DISTANCE
    )
    axes.imshow(_colors(state), origin="lower", extent=extent)
    bar = figure.colorbar(image, ax=axes, label="distance to the nearest obstacle [m]", shrink=0.8, extend="max")
    bar.ax.set_ylim(0, MOST_DISTANCE)
    handles = [Patch(color=color, label=name) for name, color in COLORS.items()]
    handles += _draw_room(axes, distance.detach().cpu().numpy(), extent, radius)
    if points is not None:
        handles += _draw_path(axes, points.detach().cpu().numpy(), radius)
    if ends is not None:
        handles += _draw_ends(axes, ends.detach().cpu().numpy(), radius)
    _draw_scale(axes, extent)
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, frameon=False, fontsize=9)
    axes.set(xlabel="x [m]", ylabel="y [m]", xlim=extent[:2], ylim=extent[2:], aspect="equal")
    axes.set_title(title, parse_math=False, fontsize=11)
    with whole_file(path) as part:
        figure.savefig(part, format="png", bbox_inches="tight")


def _colors(state: Tensor) -> np.ndarray:  # state (X, Y)
    """(Y, X, 4): occupied and unknown cells; free ones transparent."""
    from matplotlib.colors import to_rgba

    occupied, unknown = (torch.tensor(to_rgba(color)) for color in COLORS.values())
    known = torch.where((state == OCCUPIED)[..., None], occupied, unknown)
    return torch.where((state == FREE)[..., None], torch.zeros(4), known).transpose(0, 1).numpy()


def _draw_room(axes, distance: np.ndarray, extent: tuple[float, ...], radius: float) -> list:
    """The outline of the places (X, Y) that are the radius away from obstacles; returns what the legend shows."""
    from matplotlib.lines import Line2D

    if radius <= 0 or min(distance.shape) < 2 or not distance.min() < radius <= distance.max():
        return []
    x, y = (
        np.linspace(low, high, n, endpoint=False) + 0.5 * (high - low) / n
        for low, high, n in zip(extent[::2], extent[1::2], distance.shape, strict=True)
    )
    axes.contour(x, y, distance.clip(max=2 * radius).T, levels=[radius], colors=ROOM, linewidths=1.2, linestyles="--")
    return [Line2D([], [], color=ROOM, lw=1.2, ls="--", label=f"room for {radius:g} m around")]


def _draw_path(axes, points: np.ndarray, radius: float) -> list:
    """The path (K, 2), and the room that something round takes; returns what the legend shows."""
    from matplotlib.patches import Circle

    for x, y in points[:: max(1, len(points) // SWATHS)]:
        axes.add_patch(Circle((x, y), radius, color=PATH, alpha=0.06, lw=0))
    return axes.plot(*points.T, color=PATH, lw=2, label="path")


def _draw_ends(axes, ends: np.ndarray, radius: float) -> list:
    """Start and goal (2, 2); returns what the legend shows."""
    from matplotlib.patches import Circle

    handles = []
    for (x, y), color, marker, name in zip(ends, (START, GOAL), "o*", ("start", "goal"), strict=True):
        axes.add_patch(Circle((x, y), radius, fill=False, color=color, lw=1.2))
        handles += axes.plot(x, y, marker, color=color, mec="white", ms=11, ls="", zorder=4, label=name)
    return handles


def _draw_scale(axes, extent: tuple[float, ...]) -> None:
    """A bar of a round length in the lower left corner."""
    width, height = extent[1] - extent[0], extent[3] - extent[2]
    length = max((bar for bar in BARS if bar <= 0.3 * width), default=BARS[0])
    x, y = extent[0] + 0.04 * width, extent[2] + 0.04 * height
    axes.plot([x, x + length], [y, y], color="white", lw=6, solid_capstyle="butt")
    axes.plot([x, x + length], [y, y], color="black", lw=3, solid_capstyle="butt")
    style = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85}
    axes.text(x + length / 2, y + 0.02 * height, f"{length:g} m", ha="center", va="bottom", fontsize=9, bbox=style)
