"""Plots of a trajectory and its errors."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from gradslam_ng.evaluation import ATE
from gradslam_ng.io.atomic import whole_file
from gradslam_ng.structures import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

TRUTH = "#3b3b3b"
ESTIMATE = "#2166ac"
COLORS = "plasma_r"
WIDE, NARROW = (11, 8), (5, 11)  # inches


def plot_trajectory(
    path: str | os.PathLike,
    estimate: Trajectory,
    error: ATE | None = None,
    title: str = "",
    warning: str = "",
    *,
    narrow: bool = False,
) -> None:
    """Write a picture of a trajectory: from above, from the side, and what happens along it; a warning in red.

    With `error` it shows the pairs compared there, aligned: the estimate over the ground truth, colored by its error,
    and the error over time. Without, it shows the estimate colored by time, and its speed. "Above" is the axis of the
    world closest to the cameras' mean upward direction, so that any convention of the world's axes is drawn upright.
    narrow: one below the other, as a phone shows them.

    Raises:
        ValueError: no known pose to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, and the user's backend left alone
    from matplotlib.figure import Figure

    shown = estimate[estimate.known] if error is None else error.estimate
    if not len(shown):
        raise ValueError("trajectory: no known pose to draw")
    seconds = (shown.timestamps - shown.timestamps[0]).numpy()
    values, label = (seconds, "time [s]") if error is None else (100 * error.errors.numpy(), "error [cm]")
    up = _up_axis(error.ground_truth if error is not None else shown)
    plan = [axis for axis in range(3) if axis != up]
    spread = shown.T_wc[:, plan, 3].amax(0) - shown.T_wc[:, plan, 3].amin(0)
    along = plan[int(spread.argmax())]

    figure = Figure(figsize=NARROW if narrow else WIDE, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    top, side, below = _panels(figure, narrow)
    uninterrupted = _uninterrupted(seconds)
    truth = None if error is None else error.ground_truth
    for axes, (i, j), name in ((top, plan, "seen from above"), (side, [along, up], "seen from the side")):
        path_drawn = _draw_view(axes, (i, j), shown, truth, values, uninterrupted)
        axes.set(title=name, xlabel=f"{'xyz'[i]} [m]", ylabel=f"{'xyz'[j]} [m]")
    if _points_down(shown, up):
        side.invert_yaxis()
    top.legend(loc="best", frameon=False, fontsize=9)
    figure.colorbar(path_drawn, ax=side, label=label, shrink=0.9)
    if error is None:
        _draw_speed(below, shown, seconds, uninterrupted)
    else:
        _draw_error(below, error, seconds, uninterrupted)
    below.set(xlabel="time [s]", xlim=(0, seconds[-1] or 1))
    for axes in (top, side, below):
        if narrow:
            axes.locator_params("x", nbins=5)  # what is next to each other stays apart
        axes.grid(color="0.9", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    heading = "\n".join(filter(None, (title or "trajectory", textwrap.fill(warning, 50 if narrow else 100))))
    figure.suptitle(heading, fontsize=13, parse_math=False, color="tab:red" if warning else "black")
    with whole_file(path) as part:
        figure.savefig(part, format="png")


def _panels(figure: Figure, narrow: bool) -> list[Axes]:
    """Places for what is seen from above, from the side, and along the trajectory."""
    if narrow:
        return list(figure.subplots(3, 1, height_ratios=(5, 5, 3)))
    grid = figure.add_gridspec(2, 2, height_ratios=(5, 2))
    return [figure.add_subplot(grid[place]) for place in ((0, 0), (0, 1), (1, slice(None)))]


def _draw_view(
    axes: Axes,
    shown_axes: tuple[int, int],
    shown: Trajectory,
    truth: Trajectory | None,
    values: np.ndarray,
    uninterrupted: np.ndarray,
) -> LineCollection:
    """The trajectory seen along one axis of the world, colored by values (L,), over the ground truth."""
    i, j = shown_axes
    if truth is not None:
        curve = _broken(truth.T_wc[:, [i, j], 3].numpy(), uninterrupted)
        axes.plot(*curve.T, "--", color=TRUTH, lw=1.2, label="ground truth", zorder=1)
    drawn = _colored_path(axes, shown.T_wc[:, [i, j], 3].numpy(), values, uninterrupted)
    axes.plot([], [], color="#cc4778", lw=2.2, label="estimate")  # a color of the middle, for the legend
    axes.plot(*shown.T_wc[0, [i, j], 3], "o", color=ESTIMATE, ms=6, mec="white", label="start", zorder=4)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.08)
    return drawn


def _draw_error(axes: Axes, error: ATE, seconds: np.ndarray, uninterrupted: np.ndarray) -> None:
    """The position error over time."""
    curve = _broken(np.stack([seconds, 100 * error.errors.numpy()], -1), uninterrupted)
    axes.fill_between(*curve.T, color=ESTIMATE, alpha=0.15, lw=0)
    axes.plot(*curve.T, color=ESTIMATE, lw=1.2)
    axes.axhline(100 * error.rmse, color=TRUTH, lw=1, ls="--", label=f"RMSE {100 * error.rmse:.2f} cm")
    axes.set(ylabel="position error [cm]", ylim=(0, None))
    axes.legend(loc="best", frameon=False, fontsize=9)


def _up_axis(trajectory: Trajectory) -> int:
    """The world's axis nearest to the mean upward direction of the cameras, whose y axes point down."""
    return int(trajectory.T_wc[:, :3, 1].mean(0).abs().argmax())


def _points_down(trajectory: Trajectory, axis: int) -> bool:
    """Whether this axis of the world points the way the cameras' y axes do."""
    return bool(trajectory.T_wc[:, axis, 1].mean() > 0)


def _uninterrupted(seconds: np.ndarray) -> np.ndarray:
    """(L - 1,) bool: which poses follow each other without an interruption, of more than ten usual steps."""
    steps = np.diff(seconds)
    return steps <= 10 * np.median(steps) if len(steps) else steps.astype(bool)


def _broken(curve: np.ndarray, uninterrupted: np.ndarray) -> np.ndarray:
    """A curve (L, 2) with a NaN at each interruption, where matplotlib lifts its pen."""
    return np.insert(curve, np.flatnonzero(~uninterrupted) + 1, np.nan, axis=0)


def _colored_path(axes: Axes, positions: np.ndarray, values: np.ndarray, uninterrupted: np.ndarray) -> LineCollection:
    """A line through positions (L, 2) colored by values (L,), the largest on top."""
    from matplotlib.collections import LineCollection

    segments = np.stack([positions[:-1], positions[1:]], axis=1)[uninterrupted]
    middle = (values[:-1] + values[1:])[uninterrupted] / 2
    order = middle.argsort(kind="stable")
    lines = LineCollection(segments[order], array=middle[order], cmap=COLORS, lw=2.2, capstyle="round", zorder=3)
    lines.set_clim(0, max(values.max(), 1e-2))
    axes.add_collection(lines)
    return lines


def _draw_speed(axes: Axes, trajectory: Trajectory, seconds: np.ndarray, uninterrupted: np.ndarray) -> None:
    steps = trajectory.T_wc[:, :3, 3].diff(dim=0).norm(dim=-1).numpy()
    speed = np.where(uninterrupted, steps / np.maximum(np.diff(seconds), 1e-6), np.nan)
    axes.plot((seconds[:-1] + seconds[1:]) / 2, speed, color=ESTIMATE, lw=1.2)
    axes.set_title(f"{steps.sum():.2f} m traveled", loc="right", fontsize=9)
    axes.set(ylabel="speed [m/s]", ylim=(0, None))
