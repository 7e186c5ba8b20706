"""`gradslam-ng convert SOURCE --to LAYOUT --out DIR`: any recording in a layout that others read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.markup import escape

from gradslam_ng.commands.arguments import OPTIONAL, OptionalInt
from gradslam_ng.commands.console import WorkConsole, counting_frames
from gradslam_ng.commands.recording import SourceOptions, describe
from gradslam_ng.commands.run_folder import load_estimate
from gradslam_ng.datasets.convert import convert as convert_sequence

Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]


def convert(
    source: Source,
    /,
    *,
    to: Literal["tum", "folder", "transforms", "colmap"],
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    trajectory: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint=OPTIONAL)] = None,
    jpeg: OptionalInt = None,
    recording: Annotated[SourceOptions, tyro.conf.OmitArgPrefixes],
) -> None:
    """Write a recording in another layout: registered, undistorted images, 16 bit depth, camera and poses.

    Args:
        source: File or folder of a sequence, or synthetic:NAME.
        to: tum, folder, transforms (nerfstudio) or colmap (text, with points of the depth); the last two need poses.
        out: Folder to write; must be new or empty.
        trajectory: Poses to write in place of the recording's own, such as a run's trajectory.txt.
        jpeg: Quality of color as JPEG, 1 to 100; PNG unless given.
    """
    sequence = recording.load(source)
    poses = None if trajectory is None else load_estimate(trajectory)
    console = WorkConsole()
    console.print(escape(describe(sequence)), soft_wrap=True)
    with counting_frames(sequence.name, len(sequence), console) as tell:
        done = convert_sequence(sequence, out, to, trajectory=poses, jpeg=jpeg, progress=tell)
    console.print(escape(f"{done.folder}: {done.frames} frames as {to}"), soft_wrap=True)
    if done.unposed:
        console.print(f"[yellow]left out:[/yellow] {done.unposed} frames without a pose", soft_wrap=True)
    if done.unreadable:
        text = f"{len(done.unreadable)} frames that cannot be read, the first: {done.unreadable[0]}"
        console.print(f"[yellow]left out:[/yellow] {escape(text)}", soft_wrap=True)
