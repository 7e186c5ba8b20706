"""`gradslam-ng run SOURCE --out DIR`: a recording or a camera to trajectory, map, metrics and pictures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape

from gradslam_ng.commands.errors import UnreliableError, UsageError
from gradslam_ng.commands.incoming import Incoming, open_source
from gradslam_ng.commands.live import LiveView
from gradslam_ng.commands.outputs import write
from gradslam_ng.commands.progress import run_with_progress
from gradslam_ng.commands.recording import RecordingOptions, is_synthetic
from gradslam_ng.commands.refinement import refine_run
from gradslam_ng.commands.run_folder import STATE, begin_log, prepare_folder
from gradslam_ng.commands.run_options import (
    CLOSERS,
    ComputeOptions,
    RunRecord,
    SystemOptions,
    ViewOptions,
    as_arguments,
)
from gradslam_ng.commands.summary import print_summary
from gradslam_ng.slam.saved_run import StateWriter
from gradslam_ng.slam.stream import Stream, StreamingSystem

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
    options = RunOptions(recording, method, compute)
    reconstruct(source, out, options, seen, prepare=lambda: prepare_folder(out, overwrite), realtime=realtime)


@dataclass(frozen=True)
class RunOptions:
    """What decides how a run ends."""

    recording: RecordingOptions
    method: SystemOptions
    compute: ComputeOptions

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> RunOptions:
        """Those written beside a state."""
        config = about["method"]["config"]
        method = SystemOptions(**about["method"] | {"config": None if config is None else Path(config)})
        return cls(RecordingOptions(**about["recording"]), method, ComputeOptions(**about["compute"]))

    def describe(self) -> dict[str, Any]:
        """For `of`, and for JSON."""
        return json.loads(json.dumps(asdict(self), default=lambda path: str(path.resolve())))


def reconstruct(
    source: str,
    out: Path,
    options: RunOptions,
    seen: ViewOptions,
    *,
    prepare: Callable[[], None],
    realtime: bool = False,
    resume: Path | None = None,
) -> None:
    """Run over a recording or a camera, and write what comes of it.

    prepare: makes the folder, once nothing is wrong with the rest. resume: a state to go on from.
    """
    recording, method = options.recording, options.method
    console = Console()
    with open_source(source, recording, realtime, console) as incoming:
        if method.refine and incoming.length is None:
            raise UsageError(f"{source}: --refine reads frames again, which a camera shows once")
        slam = method.make(recording.max_depth)  # what is wrong with it is said before the folder is touched
        options.compute.check()
        prepare()
        record = _record(source, out, options, method.closes_loops(incoming.length), realtime)
        _run_on(slam.to(record.device), incoming, out, record, options, seen, console, resume=resume)


def _run_on(
    slam: StreamingSystem,
    incoming: Incoming,
    out: Path,
    record: RunRecord,
    options: RunOptions,
    seen: ViewOptions,
    console: Console,
    *,
    resume: Path | None,
) -> None:
    """Run on the frames that come, and write what that leaves."""
    method = options.method
    sequence, findings, frames = incoming
    compute = options.compute
    why = compute.describe_compilation()
    console.print(f"compiled functions: {why}", soft_wrap=True)
    closer = CLOSERS[method.system]() if record.loops else None
    writer = None if frames is not None else _state_writer(record.source, out, options)
    stream = Stream(
        slam,
        sequence=sequence,
        on_frame=None,
        compile=compute.compile,
        loops=closer,
        frames=frames,
        state_writer=writer,
    )
    if resume is not None:
        stream.restore(resume)
    told = (f"{finding.severity}: {finding.message}" for finding in findings)
    handlers = begin_log(out, [record.command, incoming.describe(), *told, f"compiled functions: {why}"])
    page = seen.open(sequence, console)
    live = None if page is None else LiveView(page)
    result = run_with_progress(stream, console, live=live, handlers=handlers, frames=frames, total=incoming.length)
    result, refined = refine_run(slam, sequence, result, console) if method.refine else (result, None)
    metrics, written = write(out, result, sequence, record, findings, refined, frames=frames)
    if writer is not None and (not writer.is_written or (out / STATE).is_file()):  # of a short run there may be none
        written[STATE] = writer.is_written
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


def _state_writer(source: str, out: Path, options: RunOptions) -> StateWriter:
    """What saves the state of a run over a recording, with what `resume` needs to know of it."""
    place = source if is_synthetic(source) else str(Path(source).resolve())
    about = {"source": place, "options": options.describe()}
    return StateWriter(out / STATE, seconds=options.compute.save_every, about=about)


def _record(source: str, out: Path, options: RunOptions, loops: bool, realtime: bool) -> RunRecord:
    recording, method, compute = options.recording, options.method, options.compute
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
