"""`gradslam-ng run SOURCE --out DIR`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gradslam_ng import datasets
from gradslam_ng.commands.info import Source
from gradslam_ng.commands.outputs import prepare, write
from gradslam_ng.commands.settings import build, parse_frames, parse_scale
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.loops import LoopCloser, VolumeLoopCloser
from gradslam_ng.slam import Result, State
from gradslam_ng.slam.system import WORTH_COMPILING, Loops, System

LONG = 600  # frames, from which a sequence is expected to come back to where it was
CLOSERS = {"pointfusion": LoopCloser, "kinectfusion": VolumeLoopCloser}  # of loops, by system


@dataclass(frozen=True)
class Settings:
    """Of one run, as they go into `metrics.json`."""

    source: str
    system: str
    odometry: str
    preset: str
    frames: str
    scale: float | None
    device: str
    config: str | None
    intrinsics: str | None
    depth_scale: float | None
    noise: str | None
    loops: bool


def run(
    source: Source,
    /,
    out: Path,
    system: Literal["pointfusion", "kinectfusion", "icpslam", "icp-odometry"] = "pointfusion",
    odometry: Literal["gradicp", "icp", "ground-truth"] = "gradicp",
    preset: Literal["default", "fast", "accurate"] = "default",
    frames: str = "::",
    scale: float | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    config: Path | None = None,
    intrinsics: str | None = None,
    depth_scale: float | None = None,
    compile: bool = True,
    compile_from: int = WORTH_COMPILING,
    loops: bool = True,
    noise: Annotated[Literal["none", "kinect"] | None, tyro.conf.arg(help_behavior_hint="(synthetic only)")] = None,
) -> None:
    """Reconstruct a sequence: trajectory, map, figures and pictures, written to a folder.

    Args:
        source: Folder of a sequence, or synthetic:NAME.
        out: Folder for the results; made if need be.
        system: What to run.
        odometry: How a frame finds its pose: soft-damped or classical Levenberg-Marquardt ICP, or the given poses.
        preset: How much work for how much accuracy: images 320, 160 or 640 pixels across, and iterations to suit.
        frames: FIRST:LAST:STEP, any of them left out; LAST is not included.
        scale: Working resolution relative to the images', 1, 0.5, 0.25, ...; default: the preset's.
        device: Where to compute.
        config: TOML file with the tables [odometry] and [mapping]: arguments of ICPOdometer, and of PointFuser
            or KinectFusion.
        intrinsics: fx,fy,cx,cy in pixels; overrides the recording's.
        depth_scale: Units of the depth files in a metre; overrides the layout's.
        compile: Compile the hot functions for long sequences: a minute or two, once, then kept on disk.
        compile_from: Frames that make a sequence long enough; some 150 where all is on disk.
        loops: Close loops, in sequences of 600 frames and more that pointfusion or kinectfusion tracks by itself.
        noise: Of the depth and colour that a synthetic scene is rendered with.
    """
    console = Console()
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: expected a CUDA device for 'cuda', but torch finds none")
    options = {"intrinsics": intrinsics, "depth_scale": depth_scale, "noise": noise}
    sequence = datasets.load(source, **{k: v for k, v in options.items() if v is not None})
    sequence = sequence[parse_frames(frames)]
    if not len(sequence):
        raise ValueError(f"frames: {frames!r} leaves none of the sequence's frames")
    slam = build(system, odometry, parse_scale(scale), config, preset).to(device)
    config_file = None if config is None else str(config)
    loops = loops and len(sequence) >= LONG and system in CLOSERS and odometry != "ground-truth"
    settings = Settings(source, system, odometry, preset, frames, scale, device, config_file, **options, loops=loops)
    prepare(out)
    compile = compile and len(sequence) >= compile_from
    result = track(slam, sequence, compile, console, CLOSERS[system]() if loops else None)
    metrics, written = write(out, result, sequence, settings)
    report(metrics, [name for name, done in written.items() if done], out, console)
    if not all(written.values()):
        raise OSError(f"{out}: not written: {', '.join(name for name, done in written.items() if not done)}")
    if result.interrupted:
        raise KeyboardInterrupt  # all is written; the exit status still tells


def track(slam: System, sequence: RGBDSequence, compile: bool, console: Console, closer: Loops | None = None) -> Result:
    """Run with a progress bar that shows the frame rate and whether the camera is tracked."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        handlers = [RichHandler(console=console)]  # above the bar, not through it
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)
        task = progress.add_task(escape(sequence.name), total=len(sequence), speed="")

        def on_frame(index: int, state: State) -> None:
            rate = progress.tasks[task].finished_speed or progress.tasks[task].speed or 0.0
            tracked = "[green]tracked[/]" if bool(state.tracking.ok[0]) else "[red]lost[/]"
            progress.update(task, completed=index + 1, speed=f"{rate:.1f} frames/s {tracked}")

        return slam.run(sequence, on_frame, compile, closer)


def report(metrics: dict, written: list[str], out: Path, console: Console) -> None:
    """Print what came out."""
    table = Table(show_header=False, title=escape(str(out)))
    frames = metrics["frames"]
    table.add_row("frames", f"{frames['tracked']} tracked, {frames['lost']} lost, {frames['skipped']} skipped")
    if metrics["settings"]["loops"]:
        table.add_row("loops", f"{metrics['loops']} closed")
    table.add_row("time", f"{metrics['milliseconds_per_frame']['total']:.0f} ms a frame")
    if metrics["seconds_compiling"]:
        table.add_row("compiling", f"{metrics['seconds_compiling']:.0f} s beside that")
    table.add_row("map", f"{metrics['map']['surfels']} surfels, peak memory {metrics['peak_memory_mb']:.0f} MB")
    if "ate" in metrics:
        table.add_row("ATE", f"{100 * metrics['ate']['rmse']:.2f} cm RMSE")
        drift, turn = (metrics["rpe"][kind]["rmse"] for kind in ("translation", "rotation"))
        table.add_row("RPE", f"{100 * drift:.2f} cm, {turn:.2f} degrees a frame")
    table.add_row("written", ", ".join(written))
    console.print(table)
