"""A run with a progress bar."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.slam import LoopClosure, Result, State
from gradslam_ng.slam.stream import StreamingSystem


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
