"""`gradslam-ng info SOURCE`: layout, frames, camera and depth statistics of a sequence."""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradslam_ng import datasets
from gradslam_ng.commands.console import working
from gradslam_ng.commands.recording import SourceOptions, describe, print_findings
from gradslam_ng.datasets.info import Info

SAMPLED = 20  # frames that are looked at
Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]


def info(
    source: Source,
    /,
    *,
    recording: Annotated[SourceOptions, tyro.conf.OmitArgPrefixes],
) -> None:
    """What a sequence holds: layout, frames, rates, intrinsics, depth statistics, and what is odd about it.

    Args:
        source: File or folder of a sequence, or synthetic:NAME.
    """
    sequence = recording.load(source)
    console = Console()
    console.print(escape(describe(sequence)), soft_wrap=True)
    with working(f"looking at {min(SAMPLED, len(sequence))} frames"):
        found = datasets.info(sequence, SAMPLED)
    show(found, console)


def show(found: Info, console: Console) -> None:
    """Print a table of the facts, then the findings."""
    (fx, skew, cx), (_, fy, cy), _ = found.K
    table = Table(title=escape(found.name), show_header=False)
    table.add_row("layout", found.layout)
    table.add_row("frames", f"{found.frames} of {found.size[1]}x{found.size[0]}")
    table.add_row("time", f"{found.duration:.2f} s, {found.rate:.2f} frames a second")
    table.add_row("intrinsics", f"fx {fx:g}  fy {fy:g}  cx {cx:g}  cy {cy:g}" + (f"  skew {skew:g}" if skew else ""))
    if found.depth_scale is not None:
        table.add_row("depth unit", f"1/{found.depth_scale:g} m")
    if found.depth is not None:
        depth = found.depth
        table.add_row("depth", f"{depth.min:.3f} to {depth.max:.3f} m, median {depth.median:.3f} m")
        table.add_row("with depth", f"{depth.valid:.1%} of the pixels, over {found.sampled} frames")
        if depth.beyond:
            table.add_row("left out", f"{depth.beyond:.1%} of the pixels, beyond max_depth")
    if found.posed is None:
        table.add_row("ground truth", "none")
    else:
        table.add_row("ground truth", f"{found.posed} of {found.frames} frames, path of {found.path:.2f} m")
    for note in found.notes:
        table.add_row("", escape(note))
    console.print(table)
    print_findings(found.findings, console)
