"""`gradslam-ng join DIR... --out DIR`: maps of several runs joined where they show the same places."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradslam_ng.commands.console import working
from gradslam_ng.commands.errors import UnreliableError, UsageError
from gradslam_ng.commands.outputs import peak_memory, version
from gradslam_ng.commands.run_folder import STATE, claim_folder, clear_folder, remove_results
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.io.atomic import write_whole
from gradslam_ng.loops.finished_submaps import read_finished_run
from gradslam_ng.loops.join_runs import JoinedRuns, RunJoiner
from gradslam_ng.viz.scene_files import METRICS, TRAJECTORY

RunFolders = Annotated[
    tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DIR...", help_behavior_hint="(two at least)")
]


def join(
    folders: RunFolders,
    /,
    *,
    out: Path,
    compile: bool = True,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Join the maps of several runs where they show the same places.

    Args:
        folders: Of runs of pointfusion, with state.safetensors in them.
        out: Folder for the joined map, and the trajectory of each run that is joined, in one world.
        compile: Use compiled functions, as run does.
        overwrite: Replace the results of a run in that folder; other files there stay.
    """
    check_folders(folders, out)
    with working("reading") as tell:
        runs = [read_finished_run(folder / STATE, str(folder)) for folder in folders]
        with claim_folder(out):
            clear_folder(out, overwrite)
            joiner = RunJoiner(runs, on_progress=tell)
            with compilation(compile):
                together = joiner.join()
            write(out, together)
    print_summary(out, together, Console())
    if together.num_joined < 2:
        raise UnreliableError("no two of the runs are joined")


def check_folders(folders: tuple[Path, ...], out: Path) -> None:
    """Raise an error where folders cannot be joined.

    Raises:
        UsageError: fewer than two, one of them twice, or one that the results would replace.
        FileNotFoundError: a folder without the state of a run.
    """
    if len(folders) < 2:
        raise UsageError(f"join: expected the folders of two runs at least, got {len(folders)}")
    for folder in folders:
        if not (folder / STATE).is_file():
            raise FileNotFoundError(f"{folder / STATE}: not there: expected the folder of a run that saved its state")
    for i, folder in enumerate(folders):
        if any(folder.samefile(other) for other in folders[:i]):
            raise UsageError(f"join: expected each run once, got {folder} twice")
        if out.exists() and out.samefile(folder):
            raise UsageError(f"out: expected another folder than those that are joined, got {out}")


def write(out: Path, together: JoinedRuns) -> None:
    """Write the joined map, trajectories and what became of each run; `trajectory.txt` has all poses, by their time."""
    remove_results(out)
    together.map.save(out / "map.ply")
    with warnings.catch_warnings():  # runs may have been recorded at one time, or in any order
        warnings.filterwarnings("ignore", message="trajectory: time stamps out of order")
        together.trajectory.save(out / TRAJECTORY)
    for number, run in enumerate(together.runs, start=1):
        if run.trajectory is not None:
            run.trajectory.save(out / f"trajectory_{number}.txt")
    write_whole(out / METRICS, json.dumps(describe(together), indent=2) + "\n")


def describe(together: JoinedRuns) -> dict:
    """What is in `metrics.json`."""
    origin = [0.0] * 3 if together.map.origin is None else together.map.origin[0].tolist()
    runs = [
        {
            "folder": run.name,
            "joined": run.trajectory is not None,
            "why": run.why,
            "frames": run.frames,
            "tracked": 0 if run.trajectory is None else len(run.trajectory),
        }
        for run in together.runs
    ]
    return {
        "version": version(),
        "reliable": together.num_joined > 1,
        "runs": runs,
        "joined": together.num_joined,
        "links": together.links,
        "map": {"surfels": int(together.map.count[0]), "origin": origin},
        "peak_memory_mb": peak_memory(),
    }


def print_summary(out: Path, together: JoinedRuns, console: Console) -> None:
    """Print what became of each run."""
    table = Table(show_header=False, title=escape(str(out)))
    for run in together.runs:
        told = "not joined" if run.trajectory is None else f"joined, {len(run.trajectory)} of {run.frames} frames"
        table.add_row(escape(run.name), f"{told}: {escape(run.why)}")
    table.add_row("map", f"{int(together.map.count[0])} surfels of {together.num_joined} of {len(together.runs)} runs")
    console.print(table)
