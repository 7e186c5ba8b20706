"""`gradslam-ng evaluate GROUND_TRUTH ESTIMATE`: absolute and relative trajectory errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradslam_ng import evaluation, viz
from gradslam_ng.commands.arguments import OPTIONAL, OptionalPath
from gradslam_ng.commands.error_formats import Columns, format_csv, format_json, format_latex, save_evo
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.recording import load_recording
from gradslam_ng.commands.run_folder import load_estimate, metrics_beside
from gradslam_ng.evaluation import ATE, RPE
from gradslam_ng.structures import Trajectory
from gradslam_ng.viz.scene_files import TRAJECTORY

FEW_PAIRS = 0.5  # share of the poses of the shorter trajectory
STILL = 1e-3  # meters
SAME = 1e-9  # meters: errors of the alignment alone
OTHER_UNIT = 5.0  # how many times as large one trajectory is as the other where their units differ
UNITS = {"frames": "frame(s)", "seconds": "s", "meters": "m", "metres": "m"}
GroundTruth = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="GROUND_TRUTH")]
Estimate = Annotated[
    Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[ESTIMATE]", help_behavior_hint=OPTIONAL)
]


@dataclass(frozen=True)
class OutputOptions:
    """In what form the figures come.

    Args:
        json: Print them as JSON, and nothing else.
        csv: Print them as CSV, and nothing else.
        latex: Print them as a LaTeX table, and nothing else.
        evo: Also write absolute errors to this archive, which evo_res reads.
        out: Where the plot goes, a name that ends in .png, or the folder where it goes as evaluation.png.
    """

    json: bool = False
    csv: bool = False
    latex: bool = False
    evo: OptionalPath = None
    out: Path = Path("evaluation.png")

    @property
    def is_for_programs(self) -> bool:
        """Whether another program reads what is printed."""
        return self.json or self.csv or self.latex


def evaluate(
    ground_truth: GroundTruth,
    estimate: Estimate = None,
    /,
    *,
    align: Literal["none", "se3", "sim3"] = "se3",
    delta: float = 1,
    unit: Literal["frames", "seconds", "meters", "metres"] = "seconds",
    max_gap: float = 0.02,
    output: Annotated[OutputOptions, tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff],
) -> None:
    """Absolute and relative trajectory error as the TUM tools define them: a table and a plot.

    Args:
        ground_truth: Trajectory as of TUM, EuRoC or KITTI; or a run's folder alone, for its recording's ground truth.
        estimate: Trajectory to judge, in any of these formats, KITTI's with KITTI's alone; or a run's folder.
        align: How the estimate is first laid over the ground truth: not, by rotation and translation, or with scale.
        delta: What the drift is taken over, in units; from every pose to the one that much later.
        unit: Of delta.
        max_gap: Largest difference between the time stamps of two poses that are compared, seconds.
    """
    if not 0 < delta < float("inf") or (unit == "frames" and delta != int(delta)):
        raise UsageError(f"delta: expected a positive {'whole ' * (unit == 'frames')}number of {unit}, got {delta:g}")
    if not max_gap >= 0:
        raise UsageError(f"max_gap: expected a number of seconds, got {max_gap:g}")
    if output.json + output.csv + output.latex > 1:
        raise UsageError("output: expected one of --json, --csv and --latex")
    truth, estimated, names = load_pair(ground_truth, estimate)
    lost = int((~estimated.known).sum())
    estimated = estimated[estimated.known]
    absolute = evaluation.ate(truth, estimated, align, max_gap)
    console = Console(stderr=output.is_for_programs)
    relative = None
    try:
        relative = evaluation.rpe(truth, estimated, delta, unit, align=align, max_gap=max_gap)
    except ValueError as reason:  # the run is shorter than delta, or the camera stood still
        console.print(f"[yellow]no drift:[/yellow] {escape(str(reason))}", soft_wrap=True)
    facts: dict[str, object] = {
        "pairs": len(absolute.errors),
        "ground_truth_poses": len(truth),
        "estimated_poses": len(estimated),
    }
    facts |= {"unknown_poses": lost, "align": align, "scale": absolute.T_align[:3, :3].det().abs().pow(1 / 3).item()}
    numbered = is_numbered(truth) and unit == "seconds"  # a second is a frame
    step = f"{delta:g} {UNITS['frames' if numbered else unit]}"
    _print(_columns(absolute, relative, step), facts, "" if numbered else f" within {max_gap:g} s", output)
    for doubt in [*doubts_of_run(estimate or ground_truth), *doubts(absolute, len(truth), len(estimated))]:
        console.print(f"[yellow]warning:[/yellow] {doubt}", soft_wrap=True)
    if output.evo is not None:
        output.evo.parent.mkdir(parents=True, exist_ok=True)
        stems = Path(names[0]).stem, Path(names[1]).stem
        stems = stems if stems[0] != stems[1] else ("ground_truth", "estimate")
        save_evo(output.evo, absolute, stems, align)
    out = output.out
    if out.suffix.lower() != ".png" or out.is_dir():
        out /= "evaluation.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    viz.plot_trajectory(out, absolute.estimate, absolute, title=f"{names[1]} against {names[0]}")
    console.print(f"plot: {escape(str(out))}", soft_wrap=True)


def load_pair(ground_truth: Path, estimate: Path | None) -> tuple[Trajectory, Trajectory, tuple[str, str]]:
    """The true and the estimated trajectory, and their names. Of the folder of a run the estimate is its trajectory,
    and the truth, unless a file is given before it, that of its recording.

    Raises:
        FileNotFoundError, ValueError: a file or the recording is missing or cannot be read.
        UsageError: one file alone; a recording without ground truth.
    """
    if estimate is not None:
        return Trajectory.load(ground_truth), load_judged(estimate), (ground_truth.name, estimate.name)
    if not ground_truth.is_dir():
        raise UsageError("evaluate: expected GROUND_TRUTH and ESTIMATE, or the folder of a run")
    sequence = load_recording(ground_truth)
    if sequence.ground_truth is None:
        raise UsageError(f"{ground_truth}: its recording, {sequence.name}, has no ground truth to compare with")
    return sequence.ground_truth, load_judged(ground_truth), (sequence.name, ground_truth.name)


def load_judged(estimate: Path) -> Trajectory:
    """The estimated trajectory in a file, or in the folder of a run.

    Raises:
        FileNotFoundError, ValueError: it is missing, cannot be read, or has no pose.
    """
    path = estimate / TRAJECTORY if estimate.is_dir() else estimate
    if not len(trajectory := load_estimate(path)):
        raise ValueError(f"{path}: no frame has a pose, so there is nothing to compare")
    return trajectory


def is_numbered(trajectory: Trajectory) -> bool:
    """Whether its time stamps are the numbers of frames, as of a file of KITTI's format."""
    return torch.equal(trajectory.timestamps, torch.arange(len(trajectory)).to(trajectory.timestamps))


def _print(columns: Columns, facts: dict, near: str, output: OutputOptions) -> None:
    """The figures, in the form that is asked for."""
    if output.json:
        print(format_json(columns, facts))
    elif output.csv:
        print(format_csv(columns))
    elif output.latex:
        print(format_latex(columns))
    else:
        lost, align = facts["unknown_poses"], facts["align"]
        console = Console()
        console.print(_table(columns))
        console.print(
            f"{facts['pairs']} pairs of poses{near}, out of {facts['ground_truth_poses']} and "
            f"{facts['estimated_poses']}"
            + (f", {lost} of the estimate not known" if lost else "")
            + f"; aligned: {align}"
            + (f", scale {facts['scale']:.4f}" if align == "sim3" else "")
        )


def doubts_of_run(estimate: Path) -> list[str]:
    """Why the run in a folder, or that a file is of, is not to be relied on; nothing where it may be."""
    file = estimate / TRAJECTORY if estimate.is_dir() else estimate
    reason = metrics_beside(file).get("unreliable_because") if file.name == TRAJECTORY else None
    return [] if reason is None else [f"the run is not to be relied on: {escape(str(reason))}"]


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


def _columns(absolute: ATE, relative: RPE | None, step: str) -> Columns:
    columns: Columns = {"ATE": ("m", absolute)}
    if relative is not None:
        columns |= {f"RPE over {step}": ("m", relative.translation), "rotation": ("degrees", relative.rotation)}
    return columns


def _table(columns: Columns) -> Table:
    table = Table("", *(f"{name}\n{escape(f'[{unit}]')}" for name, (unit, _) in columns.items()))
    for name in columns["ATE"][1].summary():
        table.add_row(name, *(f"{statistics.summary()[name]:.6f}" for _, statistics in columns.values()))
    return table
