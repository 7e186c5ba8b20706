"""`gradslam-ng synthesize NAME --out DIR`: render a sequence with exact poses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.markup import escape

from gradslam_ng.commands.arguments import OptionalInt
from gradslam_ng.commands.console import WorkConsole, counting_frames
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.datasets.export import write_tum
from gradslam_ng.datasets.synthetic import Synthetic

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
Motion = Literal["handheld", "orbit", "loop", "pure_rotation", "fast", "back_and_forth"]


def synthesize(
    name: Name,
    /,
    *,
    out: Path,
    frames: int = 300,
    size: str = "640x480",
    noise: Literal["none", "kinect"] = "none",
    seed: int = 0,
    path: Motion = "handheld",
    jpeg: OptionalInt = None,
    mesh: bool = True,
) -> None:
    """Render a sequence with exact poses in the TUM layout, and the room's exact surface as mesh.ply.

    Args:
        name: Of the room: living_room, corridor, wall (textured and flat), corner (bare), twins or doors (alike).
        out: Folder to write; must be new or empty.
        frames: How many, 30 a second.
        size: Image width x height, pixels.
        noise: none, or kinect: depth shifted, in steps, with holes; mild noise on color.
        seed: Of the hand's motion and the noise.
        path: How the camera moves.
        jpeg: Quality of color as JPEG, 1 to 100; PNG unless given.
        mesh: Write mesh.ply.
    """
    numbers = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
    if numbers is None:
        raise UsageError(f"size: expected WIDTHxHEIGHT such as 640x480, got {size!r}")
    width, height = map(int, numbers.groups())
    sequence = Synthetic(name, frames=frames, size=(height, width), noise=noise, path=path, seed=seed)
    console = WorkConsole()
    with counting_frames(name, frames, console) as tell:
        folder = write_tum(sequence, out, jpeg, mesh, tell)
    facts = f"{frames} frames of {size}, {noise} noise, path {path}, seed {seed}"
    console.print(f"{escape(str(folder))}: {facts}", soft_wrap=True)
