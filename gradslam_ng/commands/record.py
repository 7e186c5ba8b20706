"""`gradslam-ng record CAMERA --out DIR`: what a camera sees, into a folder that `run` takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from gradslam_ng.cameras import LiveCamera, Recorder, open_camera
from gradslam_ng.commands.arguments import OptionalFloat, OptionalInt
from gradslam_ng.commands.console import WorkConsole
from gradslam_ng.commands.errors import UsageError

Camera = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CAMERA")]


def record(
    camera: Camera,
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    seconds: OptionalFloat = None,
    jpeg: OptionalInt = None,
) -> None:
    """Record a live camera: registered color and depth, and what the camera is, until Ctrl-C.

    Args:
        camera: realsense: or oak:, with a serial number behind it where there are several.
        out: Folder to write; must be new or empty.
        seconds: End after so long.
        jpeg: Quality of color as JPEG, 1 to 100; PNG unless given.
    """
    if seconds is not None and not seconds > 0:
        raise UsageError(f"seconds: expected a positive number, got {seconds:g}")
    console = WorkConsole()
    with open_camera(camera) as source:
        height, width = source.size
        console.print(escape(f"{source.name}: {source.kind}, {width}x{height}; Ctrl-C ends"), soft_wrap=True)
        recorder = Recorder(out, camera=source, jpeg=jpeg)
        try:
            with recorder:
                _follow(source, recorder, seconds, console)
        except KeyboardInterrupt:
            pass  # the usual end
        finally:
            told = f"{out}: {recorder.written} frames"
            told += f"; {recorder.dropped} left out, the disk was too slow" if recorder.dropped else ""
            console.print(escape(told), soft_wrap=True)


def _follow(source: LiveCamera, recorder: Recorder, seconds: float | None, console: Console) -> None:
    """Hand shots to the recorder for so long, None: until Ctrl-C."""
    columns = (TextColumn("recording"), TimeElapsedColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, told="")
        began, count = time.monotonic(), 0
        while seconds is None or time.monotonic() - began < seconds:
            recorder.add(source.wait())
            count += 1
            rate = count / max(time.monotonic() - began, 1e-3)
            bar.update(task, told=f"{count} frames, {rate:.1f} a second")
