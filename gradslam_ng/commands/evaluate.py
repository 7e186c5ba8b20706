"""`gradslam-ng evaluate GROUND_TRUTH ESTIMATE`: absolute and relative trajectory errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradslam_ng import evaluation, viz
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.evaluation import ATE, RPE, Statistics
from gradslam_ng.structures import Trajectory

FEW_PAIRS = 0.5  # share of the poses of the shorter trajectory
STILL = 1e-3  # meters
SAME = 1e-9  # meters: errors of the alignment alone
OTHER_UNIT = 5.0  # how many times as large one trajectory is as the other where their units differ
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
        out: Where the plot goes, a PNG, or the folder where it goes as evaluation.png.
    """
    if not 0 < delta < float("inf") or (unit == "frames" and delta != int(delta)):
        raise UsageError(f"delta: expected a positive {'whole ' * (unit == 'frames')}number of {unit}, got {delta:g}")
    if not max_gap >= 0:
        raise UsageError(f"max_gap: expected a number of seconds, got {max_gap:g}")
    truth, estimated = Trajectory.load(ground_truth), Trajectory.load(estimate)
    lost = int((~estimated.known).sum())
    estimated = estimated[estimated.known]
    absolute = evaluation.ate(truth, estimated, align, max_gap)
    console = Console()
    relative = None
    try:
        relative = evaluation.rpe(truth, estimated, delta, unit, align=align, max_gap=max_gap)
    except ValueError as reason:  # the run is shorter than delta, or the camera stood still
        console.print(f"[yellow]no drift:[/yellow] {escape(str(reason))}", soft_wrap=True)
    console.print(_table(absolute, relative, f"{delta:g} {UNITS[unit]}"))
    scale = absolute.T_align[:3, :3].det().abs().pow(1 / 3).item()
    console.print(
        f"{len(absolute.errors)} pairs of poses within {max_gap:g} s, out of {len(truth)} and {len(estimated)}"
        + (f", {lost} of the estimate not known" if lost else "")
        + "; "
        f"aligned: {align}" + (f", scale {scale:.4f}" if align == "sim3" else "")
    )
    for doubt in doubts(absolute, len(truth), len(estimated)):
        console.print(f"[yellow]warning:[/yellow] {doubt}", soft_wrap=True)
    out = out / "evaluation.png" if out.is_dir() else out
    out.parent.mkdir(parents=True, exist_ok=True)
    viz.plot_trajectory(out, absolute.estimate, absolute, title=f"{estimate.name} against {ground_truth.name}")
    console.print(f"plot: {escape(str(out))}", soft_wrap=True)


def doubts(absolute: ATE, truths: int, estimates: int) -> list[str]:
    """Why errors may say little, a sentence each, from the pairs compared and the lengths of both trajectories."""
    truth, estimate = absolute.ground_truth.T_wc[:, :3, 3], absolute.estimate.T_wc[:, :3, 3]
    spread = (truth - truth.mean(0)).norm(dim=-1).max(), (estimate - estimate.mean(0)).norm(dim=-1).max()
    found = []
    if len(truth) < FEW_PAIRS * min(truths, estimates):
        found.append(f"only {len(truth)} of {min(truths, estimates)} poses could be compared")
    if absolute.errors.max() < SAME and len(truth) > 1:
        found.append("both trajectories are the same")
    if len(truth) == 1:
        return found
    if spread[0] < STILL:
        found.append("the true camera stands still, so that hardly any error can show")
    elif spread[1] < STILL:
        found.append("the estimated camera stands still")
    elif not 1 / OTHER_UNIT < spread[1] / spread[0] < OTHER_UNIT:
        found.append(f"the estimate is {spread[1] / spread[0]:.3g} times as large as the truth: are both in meters?")
    return found


def _table(absolute: ATE, relative: RPE | None, step: str) -> Table:
    columns: dict[str, tuple[str, Statistics]] = {"ATE": ("m", absolute)}
    if relative is not None:
        columns |= {f"RPE over {step}": ("m", relative.translation), "rotation": ("degrees", relative.rotation)}
    table = Table("", *(f"{name}\n{escape(f'[{unit}]')}" for name, (unit, _) in columns.items()))
    for name in absolute.summary():
        table.add_row(name, *(f"{statistics.summary()[name]:.6f}" for _, statistics in columns.values()))
    return table
