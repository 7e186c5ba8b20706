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

from gradslam_ng.cameras import LatestFrames
from gradslam_ng.commands.arguments import OPTIONAL
from gradslam_ng.commands.console import WorkConsole
from gradslam_ng.commands.errors import UnreliableError, UsageError
from gradslam_ng.commands.incoming import Incoming, open_source
from gradslam_ng.commands.live import LiveView
from gradslam_ng.commands.outputs import write
from gradslam_ng.commands.progress import run_with_progress
from gradslam_ng.commands.recording import RecordingOptions
from gradslam_ng.commands.refinement import refine_run
from gradslam_ng.commands.run_folder import LOG, STATE, SUBMAPS, begin_log, claim_folder, clear_folder, end_log
from gradslam_ng.commands.run_options import (
    CLOSERS,
    ComputeOptions,
    RunRecord,
    SystemOptions,
    ViewOptions,
    as_arguments,
    from_root,
)
from gradslam_ng.commands.summary import print_summary
from gradslam_ng.places import Relocalizer
from gradslam_ng.slam import Result
from gradslam_ng.slam.saved_run import StateWriter, read_about
from gradslam_ng.slam.stream import Stream, StreamingSystem
from gradslam_ng.viz.browser import BrowserView
from gradslam_ng.viz.report import summarize

REQUIRED = "(required, but for --dump-config)"
Source = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE", help_behavior_hint=REQUIRED)]
Out = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint=REQUIRED)]
EarlierRun = Annotated[Path | None, tyro.conf.arg(name="map", metavar="DIR", help_behavior_hint=OPTIONAL)]


def run(
    source: Source = None,
    /,
    *,
    out: Out = None,
    earlier: EarlierRun = None,
    recording: Annotated[RecordingOptions, tyro.conf.OmitArgPrefixes],
    method: Annotated[SystemOptions, tyro.conf.OmitArgPrefixes],
    compute: Annotated[ComputeOptions, tyro.conf.OmitArgPrefixes],
    page: Annotated[ViewOptions, tyro.conf.OmitArgPrefixes],
    realtime: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    dump_config: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Reconstruct a sequence: trajectory, map, metrics and pictures, written to a folder.

    Args:
        source: File or folder of a sequence, synthetic:NAME, or a live camera, realsense: or oak:.
        out: Folder for the results; made if need be.
        earlier: Folder of an earlier run: the camera is looked for in its map, and goes on with it.
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
    if earlier is not None:
        check_earlier(earlier, out, options)
    reconstruct(source, out, options, page, overwrite=overwrite, realtime=realtime, earlier=earlier)


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
    page: ViewOptions,
    *,
    overwrite: bool = False,
    realtime: bool = False,
    earlier: Path | None = None,
    resume: Path | None = None,
) -> None:
    """Run over a recording or a camera, and write what comes of it.

    overwrite: results of another run in the folder. earlier: folder of the run whose map this one goes on with.
    resume: a state to go on from, in the folder.
    """
    recording, method = options.recording, options.method
    console = WorkConsole()
    with open_source(source, recording, realtime, console) as incoming:
        if method.refine and incoming.length is None:
            raise UsageError(f"{source}: --refine reads frames again, which a camera shows once")
        slam = method.make(recording.max_depth)  # what is wrong with it is said before the folder is touched
        options.compute.check(method)
        length = incoming.length if options.compute.memory is None else None
        begin, loops = _beginning(method, length, earlier, resume)
        with claim_folder(out), page.open(incoming.sequence, console) as shown:
            if resume is None:
                clear_folder(out, overwrite)
            record = _record(source, out, options, loops, realtime, earlier)
            _run_on(slam.to(record.device), incoming, out, record, options, shown, console, begin=begin)


def check_earlier(earlier: Path, out: Path, options: RunOptions) -> None:
    """Raise an error where a run cannot go on with the map of an earlier one.

    Raises:
        FileNotFoundError: there is no state of a run.
        UsageError: the results would replace it, or an option that does not go with it.
    """
    if not (earlier / STATE).is_file():
        raise FileNotFoundError(f"map: {earlier / STATE}: not there: expected the folder of a run that saved its state")
    if out.exists() and out.samefile(earlier):
        raise UsageError(f"out: expected another folder than that of --map, {earlier}")
    if options.method.refine:
        raise UsageError("--refine reads all frames again, and those of --map are not there")


def _beginning(
    method: SystemOptions, length: int | None, earlier: Path | None, resume: Path | None
) -> tuple[Callable[[Stream], None] | None, bool]:
    """What a stream begins with, None for nothing, and whether loops are closed: of a run that goes on, as before."""
    state = earlier / STATE if resume is None and earlier is not None else resume
    if state is None:
        return None, method.closes_loops(length)
    closed = read_about(state).get("loops") is not None
    if closed and not method.loops:
        raise UsageError(f"--no-loops: the run of {state.parent} closes loops, and goes on")
    begin = (lambda stream: stream.begin_in(state)) if resume is None else lambda stream: stream.restore(state)
    return begin, closed and method.system in CLOSERS


def _run_on(
    slam: StreamingSystem,
    incoming: Incoming,
    out: Path,
    record: RunRecord,
    options: RunOptions,
    page: BrowserView | None,
    console: Console,
    *,
    begin: Callable[[Stream], None] | None,
) -> None:
    """Run on the frames that come, and write what that leaves."""
    method = options.method
    sequence, findings, frames = incoming
    compute = options.compute
    why = compute.describe_compilation()
    console.print(f"compiled functions: {why}", soft_wrap=True)
    closer = compute.loop_closer(method.system, out / SUBMAPS) if record.loops else None
    about = {} if frames is not None else _about(record, options)  # what a camera saw cannot be read again
    writer = StateWriter(out / STATE, seconds=compute.save_every, about=about)
    stream = Stream(
        slam,
        sequence=sequence,
        on_frame=None,
        compile=compute.compile,
        loops=closer,
        relocalizer=None if compute.memory is None else Relocalizer(folder=out / SUBMAPS),
        frames=frames,
        state_writer=writer,
    )
    if begin is not None:
        begin(stream)
    told = (f"{finding.severity}: {finding.message}" for finding in findings)
    handlers = begin_log(out, [record.command, incoming.describe(), *told, f"compiled functions: {why}"])
    live = None if page is None else LiveView(page)
    result = run_with_progress(stream, console, live=live, handlers=handlers, frames=frames, total=incoming.length)
    result, refined = refine_run(slam, sequence, result) if method.refine else (result, None)
    metrics, written = write(out, result, sequence, record, findings, refined, frames=frames)
    if not writer.is_written or (out / STATE).is_file():  # where a frame was left half done there may be none
        written[STATE] = writer.is_written
    files = [*(name for name, done in written.items() if done), *([LOG] if handlers else [])]
    end_log(handlers, summarize(metrics))
    print_summary(metrics, files, out, console)
    if not all(written.values()):
        raise OSError(f"{out}: not written: {', '.join(name for name, done in written.items() if not done)}")
    _conclude(result, metrics, frames, console)


def _conclude(result: Result, metrics: dict, frames: LatestFrames | None, console: Console) -> None:
    """What is written is written; whether the run ended as it should is told by an error and its exit status."""
    if result.interrupted:
        raise KeyboardInterrupt
    if frames is not None and frames.error is not None:
        raise frames.error
    if not metrics["reliable"]:
        console.print(f"[red]unreliable:[/red] {escape(metrics['unreliable_because'])}", soft_wrap=True)
        raise UnreliableError(metrics["unreliable_because"])


def _about(record: RunRecord, options: RunOptions) -> dict[str, Any]:
    """What `resume` needs to know of a run over a recording."""
    return {"source": record.source, "options": options.describe(), "map": record.map}


def _record(
    source: str, out: Path, options: RunOptions, loops: bool, realtime: bool, earlier: Path | None
) -> RunRecord:
    recording, method, compute = options.recording, options.method, options.compute
    words = ["gradslam-ng", "run", source, "--out", str(out), *(["--realtime"] if realtime else [])]
    words += [] if earlier is None else ["--map", str(earlier.resolve())]
    return RunRecord(
        source=from_root(source),
        system=method.system,
        odometry=method.odometry,
        preset=method.preset,
        frames=recording.frames,
        scale=method.scale,
        device=compute.choose_device(),
        config=None if method.config is None else from_root(str(method.config)),
        intrinsics=from_root(recording.intrinsics),
        depth_scale=recording.depth_scale,
        max_depth=recording.max_depth,
        topics=recording.topics,
        noise=recording.noise,
        strict=recording.strict,
        prior=from_root(recording.prior),
        prior_extrinsics=recording.prior_extrinsics,
        loops=loops,
        refine=method.refine,
        realtime=realtime,
        map=None if earlier is None else str(earlier.resolve()),
        command=shlex.join([*words, *as_arguments(recording, method, compute)]),
    )
