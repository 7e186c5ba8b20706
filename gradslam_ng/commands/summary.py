"""What a run came to, as a table."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradslam_ng.commands.refinement import summarize


def print_summary(metrics: dict, written: list[str], out: Path, console: Console) -> None:
    """Print what came out."""
    table = Table(show_header=False, title=escape(str(out)))
    frames = metrics["frames"]
    table.add_row("frames", f"{frames['tracked']} tracked, {frames['lost']} lost, {frames['skipped']} skipped")
    if uncertain := frames["degenerate"] + frames["unconfirmed"]:
        table.add_row(
            "uncertain", f"{uncertain} of those tracked: {frames['unconfirmed']} unconfirmed, the rest degenerate"
        )
    if "latency_ms" in metrics:
        told = f"{frames['dropped']} frames, which came while others were worked on"
        table.add_row("dropped", told)
        table.add_row(
            "latency", f"{metrics['latency_ms']['median']:.0f} ms, {metrics['latency_ms']['max']:.0f} ms at most"
        )
    if len(metrics["submaps"]) > 1:
        rest = ", ".join(map(str, metrics["submaps"][1:]))
        table.add_row("submaps", f"{metrics['submaps'][0]} frames in the map; not connected with it: {rest}")
    if metrics["settings"]["loops"]:
        table.add_row("loops", f"{metrics['loops']} closed")
    table.add_row("time", f"{metrics['milliseconds_per_frame']['total']:.0f} ms a frame")
    if spent := round(metrics["seconds_compiling"]):
        table.add_row("compiling", f"{spent} s beside that")
    table.add_row("map", f"{_describe_map(metrics['map'])}, peak memory {metrics['peak_memory_mb']:.0f} MB")
    if "ate" in metrics:
        table.add_row("ATE", f"{100 * metrics['ate']['rmse']:.2f} cm RMSE, of the frames tracked")
        drift, turn = (metrics["rpe"][kind]["rmse"] for kind in ("translation", "rotation"))
        table.add_row("RPE", f"{100 * drift:.2f} cm, {turn:.2f} degrees a frame")
    if "refinement" in metrics:
        table.add_row("refinement", summarize(metrics["refinement"]))
    for finding in metrics["findings"]:
        if finding["severity"] != "note":
            table.add_row(finding["severity"], escape(finding["message"]))
    table.add_row("written", ", ".join(written))
    console.print(table)


def _describe_map(sizes: dict[str, int]) -> str:
    if "blocks" in sizes:
        return f"{sizes['blocks']} blocks of voxels, {sizes['triangles']} triangles"
    return f"{sizes['surfels']} surfels"
