"""`gradslam-ng run SOURCE --out DIR`: a recording or a camera to trajectory, map, metrics and pictures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape

from gradslam_ng.commands.errors import UnreliableError, UsageError
from gradslam_ng.commands.incoming import Incoming, open_source
from gradslam_ng.commands.live import LiveView
from gradslam_ng.commands.outputs import write
from gradslam_ng.commands.progress import run_with_progress
from gradslam_ng.commands.recording import RecordingOptions
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
    realtime: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    dump_config: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Reconstruct a sequence: trajectory, map, metrics and pictures, written to a folder.

    Args:
        source: File or folder of a sequence, synthetic:NAME, or a live camera, realsense: or oak:.
        out: Folder for the results; made if need be.
        realtime: Play a recording at its own pace; frames that come while others are worked on are dropped.
        overwrite: Replace the results of another run in that folder; other files there stay.
        dump_config: Print all settings of [odometry] and [mapping] as TOML for --config, and run nothing.
    """
    if dump_config:
        print(method.format())
        return
    if source is None or out is None:
        raise UsageError("run: expected the file or folder of a sequence, synthetic:NAME or a camera, and --out DIR")
    console = Console()
    with open_source(source, recording, realtime, console) as incoming:
        if method.refine and incoming.length is None:
            raise UsageError(f"{source}: --refine reads frames again, which a camera shows once")
        method.make(recording.max_depth)  # what is wrong with the settings is said before the folder is touched
        prepare_folder(out, overwrite)
        record = _record(source, out, recording, method, compute, method.closes_loops(incoming.length), realtime)
        _run_on(incoming, out, record, method, compute, seen, console)


def _run_on(
    incoming: Incoming,
    out: Path,
    record: RunRecord,
    method: SystemOptions,
    compute: ComputeOptions,
    seen: ViewOptions,
    console: Console,
) -> None:
    """Run on the frames that come, and write what that leaves."""
    sequence, findings, frames = incoming
    slam = method.make(record.max_depth).to(record.device)
    why = compute.describe_compilation()
    console.print(f"compiled functions: {why}", soft_wrap=True)
    told = (f"{finding.severity}: {finding.message}" for finding in findings)
    handlers = begin_log(out, [record.command, incoming.describe(), *told, f"compiled functions: {why}"])
    page = seen.open(sequence, console)
    live = None if page is None else LiveView(page)
    closer = CLOSERS[method.system]() if record.loops else None
    result = run_with_progress(
        slam,
        sequence,
        compute.compile,
        console,
        closer,
        live=live,
        handlers=handlers,
        frames=frames,
        total=incoming.length,
    )
    result, refined = refine_run(slam, sequence, result, console) if method.refine else (result, None)
    metrics, written = write(out, result, sequence, record, findings, refined, frames=frames)
    print_summary(metrics, [name for name, done in written.items() if done], out, console)
    if not all(written.values()):
        raise OSError(f"{out}: not written: {', '.join(name for name, done in written.items() if not done)}")
    if result.interrupted:
        raise KeyboardInterrupt  # all is written; the exit status still tells
    if frames is not None and frames.error is not None:
        raise frames.error  # likewise
    if not metrics["reliable"]:
        console.print(f"[red]unreliable:[/red] {escape(metrics['unreliable_because'])}", soft_wrap=True)
        raise UnreliableError(metrics["unreliable_because"])


def _record(
    source: str,
    out: Path,
    recording: RecordingOptions,
    method: SystemOptions,
    compute: ComputeOptions,
    loops: bool,
    realtime: bool,
) -> RunRecord:
    words = ["gradslam-ng", "run", source, "--out", str(out), *(["--realtime"] if realtime else [])]
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
        realtime=realtime,
        command=shlex.join([*words, *as_arguments(recording, method, compute)]),
    )
