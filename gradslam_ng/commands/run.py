"""`gradslam-ng run SOURCE --out DIR`: a recording to trajectory, map, metrics and pictures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape

from gradslam_ng.commands.errors import UnreliableError, UsageError
from gradslam_ng.commands.live import LiveView
from gradslam_ng.commands.outputs import write
from gradslam_ng.commands.progress import run_with_progress
from gradslam_ng.commands.recording import RecordingOptions, describe
from gradslam_ng.commands.refinement import refine_run
from gradslam_ng.commands.run_folder import begin_log, prepare_folder
from gradslam_ng.commands.run_options import (
    CLOSERS,
    ComputeOptions,
    RunRecord,
    SystemOptions,
    ViewOptions,
    as_arguments,
)
from gradslam_ng.commands.summary import print_summary

REQUIRED = "(required, but for --dump-config)"
Source = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE", help_behavior_hint=REQUIRED)]
Out = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint=REQUIRED)]


def run(
    source: Source = None,
    /,
    *,
    out: Out = None,
    recording: Annotated[RecordingOptions, tyro.conf.OmitArgPrefixes],
    method: Annotated[SystemOptions, tyro.conf.OmitArgPrefixes],
    compute: Annotated[ComputeOptions, tyro.conf.OmitArgPrefixes],
    seen: Annotated[ViewOptions, tyro.conf.OmitArgPrefixes],
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    dump_config: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Reconstruct a sequence: trajectory, map, metrics and pictures, written to a folder.

    Args:
        source: File or folder of a sequence, or synthetic:NAME.
        out: Folder for the results; made if need be.
        overwrite: Replace the results of another run in that folder; other files there stay.
        dump_config: Print all settings of [odometry] and [mapping] as TOML for --config, and run nothing.
    """
    if dump_config:
        print(method.format())
        return
    if source is None or out is None:
        raise UsageError("run: expected the file or folder of a sequence, or synthetic:NAME, and --out DIR")
    device = compute.choose_device()
    console = Console()
    sequence = recording.load(source)
    findings = recording.inspect(source, sequence, console)
    slam = method.make(recording.max_depth).to(device)
    prepare_folder(out, overwrite)
    loops = method.closes_loops(len(sequence))
    compile, why = compute.compiles(len(sequence))
    console.print(f"compiled functions: {why}")
    record = _record(source, out, recording, method, compute, loops)
    told = (f"{finding.severity}: {finding.message}" for finding in findings)
    handlers = begin_log(out, [record.command, describe(sequence), *told, f"compiled functions: {why}"])
    page = seen.open(sequence, console)
    live = None if page is None else LiveView(page)
    closer = CLOSERS[method.system]() if loops else None
    result = run_with_progress(slam, sequence, compile, console, closer, live=live, handlers=handlers)
    result, refined = refine_run(slam, sequence, result, console) if method.refine else (result, None)
    metrics, written = write(out, result, sequence, record, findings, refined)
    print_summary(metrics, [name for name, done in written.items() if done], out, console)
    if not all(written.values()):
        raise OSError(f"{out}: not written: {', '.join(name for name, done in written.items() if not done)}")
    if result.interrupted:
        raise KeyboardInterrupt  # all is written; the exit status still tells
    if not metrics["reliable"]:
        console.print(f"[red]unreliable:[/red] {escape(metrics['unreliable_because'])}", soft_wrap=True)
        raise UnreliableError(metrics["unreliable_because"])


def _record(
    source: str, out: Path, recording: RecordingOptions, method: SystemOptions, compute: ComputeOptions, loops: bool
) -> RunRecord:
    words = ["gradslam-ng", "run", source, "--out", str(out)]
    return RunRecord(
        source=source,
        system=method.system,
        odometry=method.odometry,
        preset=method.preset,
        frames=recording.frames,
        scale=method.scale,
        device=compute.choose_device(),
        config=None if method.config is None else str(method.config),
        intrinsics=recording.intrinsics,
        depth_scale=recording.depth_scale,
        max_depth=recording.max_depth,
        topics=recording.topics,
        noise=recording.noise,
        strict=recording.strict,
        loops=loops,
        refine=method.refine,
        command=shlex.join([*words, *as_arguments(recording, method, compute)]),
    )
