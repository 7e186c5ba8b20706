"""`gradslam-ng run SOURCE --out DIR`: a recording to trajectory, map, metrics and pictures."""

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

from gradslam_ng.commands.config import format_config
from gradslam_ng.commands.errors import RefusedError, UnreliableError, UsageError
from gradslam_ng.commands.outputs import check_writable, write
from gradslam_ng.commands.recording import inspect, load, print_findings
from gradslam_ng.commands.settings import all_settings, make_system, parse_frames, parse_scale
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.loops import LoopCloser, VolumeLoopCloser
from gradslam_ng.slam import LoopClosure, Result, State
from gradslam_ng.slam.stream import WORTH_COMPILING, StreamingSystem

LONG = 600  # frames, from which a sequence is expected to come back to where it was
CLOSERS = {"pointfusion": LoopCloser, "kinectfusion": VolumeLoopCloser}  # of loops, by system

REQUIRED = "(required, but for --dump-config)"
Source = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE", help_behavior_hint=REQUIRED)]
Out = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint=REQUIRED)]
Noise = Annotated[Literal["none", "kinect"] | None, tyro.conf.arg(help_behavior_hint="(synthetic only)")]


@dataclass(frozen=True)
class RecordingOptions:
    """What is read.

    Args:
        frames: FIRST:LAST:STEP, any of them left out; LAST is not included.
        intrinsics: fx,fy,cx,cy in pixels, or a camera file (JSON, YAML, XML, text); overrides the recording's.
        depth_scale: Units of the depth files in a meter; overrides the layout's.
        max_depth: Depth beyond this, meters, is left out; default: the range of the layout's sensor, at most 50.
        noise: Of the depth and color that a synthetic scene is rendered with.
        strict: Refuse a recording about which there is any warning, with exit status 4.
    """

    frames: str = "::"
    intrinsics: str | None = None
    depth_scale: float | None = None
    max_depth: float | None = None
    noise: Noise = None
    strict: bool = False

    def load(self, source: str) -> RGBDSequence:
        """The frames of a sequence.

        Raises:
            UsageError: no frame is left, or an option out of range.
            FileNotFoundError, ValueError: see `datasets.load`.
        """
        frames = parse_frames(self.frames)
        if self.noise is not None and not source.startswith("synthetic:"):
            raise UsageError(f"noise: expected a rendered scene, synthetic:NAME, for it; got {source}")
        options = {} if self.noise is None else {"noise": self.noise}
        scale, max_depth = self.depth_scale, self.max_depth
        whole = load(source, intrinsics=self.intrinsics, depth_scale=scale, max_depth=max_depth, **options)
        sequence = whole[frames]
        if not len(sequence):
            raise UsageError(f"frames: {self.frames!r} leaves none of the {len(whole)} frames of the sequence")
        return sequence


@dataclass(frozen=True)
class SystemOptions:
    """What is run on it.

    Args:
        system: What to run.
        odometry: How a frame finds its pose: soft-damped or classical Levenberg-Marquardt ICP, or the given poses.
        preset: How much work for how much accuracy: images 320, 160 or 640 pixels across, and iterations to suit.
        scale: Working resolution relative to the images', 1, 0.5, 0.25, ...; default: the preset's.
        config: TOML file with the tables [odometry] and [mapping]: settings of ProjectiveICP, and of PointFuser
            or KinectFusion; --dump-config prints one.
        loops: Close loops, in sequences of 600 frames and more that pointfusion or kinectfusion tracks by itself.
    """

    system: Literal["pointfusion", "kinectfusion", "icpslam", "icp-odometry"] = "pointfusion"
    odometry: Literal["gradicp", "icp", "ground-truth"] = "gradicp"
    preset: Literal["default", "fast", "accurate"] = "default"
    scale: float | None = None
    config: Path | None = None
    loops: bool = True

    def make(self, max_depth: float | None) -> StreamingSystem:
        """The system, which leaves out depth beyond that, meters, None for its own limit."""
        return make_system(self.system, self.odometry, parse_scale(self.scale), self.config, self.preset, max_depth)

    def closes_loops(self, frames: int) -> bool:
        """Whether loops are looked for in a sequence of so many frames."""
        return self.loops and frames >= LONG and self.system in CLOSERS and self.odometry != "ground-truth"

    def format(self) -> str:
        """A configuration file with every setting."""
        options = f"--system {self.system} --odometry {self.odometry} --preset {self.preset}"
        tables = all_settings(self.system, self.odometry, self.config, self.preset)
        return f"# gradslam-ng run {options}\n{format_config(tables)}"


@dataclass(frozen=True)
class ComputeOptions:
    """What it runs on.

    Args:
        device: Where to compute.
        compile: Compile the kernels for long sequences: a minute or two, once, then kept on disk.
        compile_from: Frames that make a sequence long enough; some 150 where all is on disk.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    compile: bool = True
    compile_from: int = WORTH_COMPILING


@dataclass(frozen=True)
class RunRecord:
    """The options of one run as `metrics.json` keeps them."""

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
    max_depth: float | None
    noise: str | None
    strict: bool
    loops: bool


def run(
    source: Source = None,
    /,
    *,
    out: Out = None,
    recording: Annotated[RecordingOptions, tyro.conf.OmitArgPrefixes],
    method: Annotated[SystemOptions, tyro.conf.OmitArgPrefixes],
    compute: Annotated[ComputeOptions, tyro.conf.OmitArgPrefixes],
    dump_config: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Reconstruct a sequence: trajectory, map, metrics and pictures, written to a folder.

    Args:
        source: Folder of a sequence, or synthetic:NAME.
        out: Folder for the results; made if need be.
        dump_config: Print all settings of [odometry] and [mapping] as TOML for --config, and run nothing.
    """
    if dump_config:
        print(method.format())
        return
    if source is None or out is None:
        raise UsageError("run: expected the folder of a sequence, or synthetic:NAME, and --out DIR")
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: expected a CUDA device for 'cuda', but torch finds none")
    console = Console()
    sequence = recording.load(source)
    findings = inspect(sequence)
    print_findings(findings, console)
    serious = [finding for finding in findings if finding.is_serious]
    if recording.strict and serious:
        raise RefusedError(f"{source}: refused by --strict: {'; '.join(finding.message for finding in serious)}")
    slam = method.make(recording.max_depth).to(compute.device)
    check_writable(out)
    loops = method.closes_loops(len(sequence))
    compile = compute.compile and len(sequence) >= compute.compile_from
    result = run_with_progress(slam, sequence, compile, console, CLOSERS[method.system]() if loops else None)
    record = _record(source, recording, method, compute, loops)
    metrics, written = write(out, result, sequence, record, findings)
    print_summary(metrics, [name for name, done in written.items() if done], out, console)
    if not all(written.values()):
        raise OSError(f"{out}: not written: {', '.join(name for name, done in written.items() if not done)}")
    if result.interrupted:
        raise KeyboardInterrupt  # all is written; the exit status still tells
    if not metrics["reliable"]:
        console.print(f"[red]unreliable:[/red] {escape(metrics['unreliable_because'])}", soft_wrap=True)
        raise UnreliableError(metrics["unreliable_because"])


def _record(
    source: str, recording: RecordingOptions, method: SystemOptions, compute: ComputeOptions, loops: bool
) -> RunRecord:
    return RunRecord(
        source=source,
        system=method.system,
        odometry=method.odometry,
        preset=method.preset,
        frames=recording.frames,
        scale=method.scale,
        device=compute.device,
        config=None if method.config is None else str(method.config),
        intrinsics=recording.intrinsics,
        depth_scale=recording.depth_scale,
        max_depth=recording.max_depth,
        noise=recording.noise,
        strict=recording.strict,
        loops=loops,
    )


def run_with_progress(
    slam: StreamingSystem, sequence: RGBDSequence, compile: bool, console: Console, loops: LoopClosure | None = None
) -> Result:
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

        return slam.run(sequence, on_frame, compile, loops)


def print_summary(metrics: dict, written: list[str], out: Path, console: Console) -> None:
    """Print what came out."""
    table = Table(show_header=False, title=escape(str(out)))
    frames = metrics["frames"]
    table.add_row("frames", f"{frames['tracked']} tracked, {frames['lost']} lost, {frames['skipped']} skipped")
    if uncertain := frames["degenerate"] + frames["unconfirmed"]:
        table.add_row(
            "uncertain", f"{uncertain} of those tracked: {frames['unconfirmed']} unconfirmed, the rest degenerate"
        )
    if len(metrics["submaps"]) > 1:
        rest = ", ".join(map(str, metrics["submaps"][1:]))
        table.add_row("submaps", f"{metrics['submaps'][0]} frames in the map; not connected with it: {rest}")
    if metrics["settings"]["loops"]:
        table.add_row("loops", f"{metrics['loops']} closed")
    table.add_row("time", f"{metrics['milliseconds_per_frame']['total']:.0f} ms a frame")
    if metrics["seconds_compiling"]:
        table.add_row("compiling", f"{metrics['seconds_compiling']:.0f} s beside that")
    table.add_row("map", f"{_describe_map(metrics['map'])}, peak memory {metrics['peak_memory_mb']:.0f} MB")
    if "ate" in metrics:
        table.add_row("ATE", f"{100 * metrics['ate']['rmse']:.2f} cm RMSE, of the frames tracked")
        drift, turn = (metrics["rpe"][kind]["rmse"] for kind in ("translation", "rotation"))
        table.add_row("RPE", f"{100 * drift:.2f} cm, {turn:.2f} degrees a frame")
    for finding in metrics["findings"]:
        if finding["severity"] != "note":
            table.add_row(finding["severity"], escape(finding["message"]))
    table.add_row("written", ", ".join(written))
    console.print(table)


def _describe_map(sizes: dict[str, int]) -> str:
    if "blocks" in sizes:
        return f"{sizes['blocks']} blocks of voxels, {sizes['triangles']} triangles"
    return f"{sizes['surfels']} surfels"
