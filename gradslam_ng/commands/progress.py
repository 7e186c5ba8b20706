"""A run with a progress bar, and a page in the browser where one is asked for."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from copy import copy
from typing import Any

from rich.console import Console, RenderableType
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from gradslam_ng.cameras import LatestFrames
from gradslam_ng.commands.console import PlainLines, count_loops, show_messages
from gradslam_ng.commands.live import LiveView
from gradslam_ng.commands.outputs import peak_memory
from gradslam_ng.commands.run_folder import LOG
from gradslam_ng.compute.kernel_library import library
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.slam import Result, State
from gradslam_ng.slam.stream import Stream
from gradslam_ng.structures import VoxelGrid

TOLD_EVERY = 0.5  # seconds between two looks at sizes, which wait for the device
MOST_OF_A_KIND = 5  # messages that differ in their arguments alone


class FewOfEachKind(RichHandler):
    """Messages on a console, the first few of each kind: of a thousand frames, all may be damaged."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.counts: Counter[str] = Counter()  # by the message without its arguments

    def emit(self, record: logging.LogRecord) -> None:
        self.counts[record.msg] += 1
        count = self.counts[record.msg]
        if count == MOST_OF_A_KIND:
            record = copy(record)  # others show it as it is
            record.msg = f"{record.msg}; more of these are in {LOG} alone"
        if count <= MOST_OF_A_KIND:
            super().emit(record)


class RunProgress(Progress):
    """A bar, and a line about the run below it."""

    line = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.line:
            yield Text(self.line, style="dim", no_wrap=True, overflow="ellipsis")


def run_with_progress(
    stream: Stream,
    console: Console,
    *,
    live: LiveView | None = None,
    handlers: list[logging.Handler],
    frames: LatestFrames | None = None,
    total: int | None,
) -> Result:
    """Run with a progress bar: the frame rate, whether the camera is tracked; below, what there is so far.

    frames: what counts those that are dropped; None: none is. total: how many there are, None where nobody knows.
    """
    sequence = stream.sequence
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    with RunProgress(*columns, TimeRemainingColumn(), console=console) as progress:
        shown = FewOfEachKind(console=console, show_time=False, show_path=False)  # above the bar, not through it
        show_messages(shown, *handlers)
        task = progress.add_task(escape(sequence.name), total=total, completed=stream.following, speed="")
        lines, due = PlainLines(console), 0.0

        def on_frame(index: int, state: State) -> None:
            nonlocal due
            rate = progress.tasks[task].finished_speed or progress.tasks[task].speed or 0.0
            if time.monotonic() >= due or index + 1 == total:
                progress.line = describe(stream) + ("" if frames is None else f", {frames.dropped} frames dropped")
                due = time.monotonic() + TOLD_EVERY
            progress.update(task, completed=index + 1, speed=f"{rate:.1f} frames/s {outcome(state)}")
            told = f"frame {index + 1}{'' if total is None else f' of {total}'}: {progress.line}"
            lines.tell(told)
            if live is not None:
                live.update(stream, told)

        stream.on_frame = on_frame
        try:
            result = stream.run()
            progress.update(task, completed=stream.following)  # the last ones may not have been readable
            return result
        finally:
            if live is not None:
                live.finish(stream, progress.line)


def outcome(state: State) -> str:
    """Whether the camera is tracked, in color."""
    status = state.tracking.status[:1]
    if bool(TrackingStatus.is_uncertain(status)):
        return "[yellow]uncertain[/]"
    return "[green]tracked[/]" if bool(TrackingStatus.is_tracked(status)) else "[red]lost[/]"


def describe(stream: Stream) -> str:
    """Sizes of the map, memory, submaps and loops of a run, and whether compiled functions are in use."""
    states = [submap.state for submap in stream.tracker.submaps if submap.state is not None]
    volumes = [state.map for state in states if isinstance(state.map, VoxelGrid)]
    surfels = sum(int(state.map.count[0]) for state in states if not isinstance(state.map, VoxelGrid))
    closers = [submap.loops for submap in stream.tracker.submaps if submap.loops is not None]
    surfels += sum(int(closer.archive.count[0]) for closer in closers)
    parts = [f"{sum(len(volume.keys) for volume in volumes)} blocks" if volumes else f"{surfels} surfels"]
    parts.append(f"{peak_memory():.0f} MB at most")
    if len(stream.tracker.submaps) > 1:
        parts.append(f"{len(stream.tracker.submaps)} submaps")
    if closers:
        parts.append(count_loops(sum(len(closer.loops) for closer in closers)))
    ready, missing = library().count() if stream.compile else (0, 0)
    parts.append(f"{ready} of {ready + missing} functions compiled" if ready + missing else "not compiled")
    return ", ".join(parts)
