"""`gradslam-ng evaluate GROUND_TRUTH ESTIMATE`: absolute and relative trajectory errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradslam_ng import evaluation, viz
from gradslam_ng.evaluation import ATE, RPE
from gradslam_ng.structures import Trajectory

UNITS = {"frames": "frame(s)", "seconds": "s", "meters": "m"}
GroundTruth = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="GROUND_TRUTH")]
Estimate = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ESTIMATE")]


def evaluate(
    ground_truth: GroundTruth,
    estimate: Estimate,
    /,
    *,
    align: Literal["none", "se3", "sim3"] = "se3",
    delta: float = 1,
    unit: Literal["frames", "seconds", "meters"] = "seconds",
    max_gap: float = 0.02,
    out: Path = Path("evaluation.png"),
) -> None:
    """Absolute and relative trajectory error as the TUM tools define them: a table and a plot.

    Args:
        ground_truth: Trajectory in the TUM format, t tx ty tz qx qy qz qw.
        estimate: Trajectory to judge, in the same format.
        align: How the estimate is first laid over the ground truth: not, by rotation and translation, or with scale.
        delta: What the drift is taken over, in units; from every pose to the one that much later.
        unit: Of delta.
        max_gap: Largest difference between the time stamps of two poses that are compared, seconds.
        out: Where the plot goes, a PNG.
    """
    truth, estimated = Trajectory.load(ground_truth), Trajectory.load(estimate)
    lost = int((~estimated.known).sum())
    estimated = estimated[estimated.known]
    absolute = evaluation.ate(truth, estimated, align, max_gap)
    relative = evaluation.rpe(truth, estimated, delta, unit, align=align, max_gap=max_gap)
    console = Console()
    console.print(_table(absolute, relative, f"{delta:g} {UNITS[unit]}"))
    scale = absolute.T_align[:3, :3].det().abs().pow(1 / 3).item()
    console.print(
        f"{len(absolute.errors)} pairs of poses within {max_gap:g} s, out of {len(truth)} and {len(estimated)}"
        + (f", {lost} of the estimate not known" if lost else "")
        + "; "
        f"aligned: {align}" + (f", scale {scale:.4f}" if align == "sim3" else "")
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    viz.plot_trajectory(out, absolute.estimate, absolute, title=f"{estimate.name} against {ground_truth.name}")
    console.print(f"plot: {escape(str(out))}", soft_wrap=True)


def _table(absolute: ATE, relative: RPE, step: str) -> Table:
    columns = {"ATE": absolute, f"RPE over {step}": relative.translation, "rotation": relative.rotation}
    units = ("m", "m", "degrees")
    table = Table("", *(f"{name}\n{escape(f'[{unit}]')}" for name, unit in zip(columns, units, strict=True)))
    for name in absolute.summary():
        table.add_row(name, *(f"{getattr(statistics, name):.6f}" for statistics in columns.values()))
    return table
