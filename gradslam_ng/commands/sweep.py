"""`gradslam-ng sweep SOURCE... --out ROOT`: many recordings, a folder each, and a table of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gradslam_ng.commands.arguments import OptionalStr
from gradslam_ng.commands.console import WorkConsole
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.recording import RecordingOptions
from gradslam_ng.commands.run_folder import check_writable
from gradslam_ng.commands.run_options import ComputeOptions, SystemOptions, as_arguments
from gradslam_ng.commands.sweep_runs import LOGS, Outcome, Run, read_outcome, run_here, run_on_ray, unique_names
from gradslam_ng.commands.sweep_table import read_metrics, state_of, why_failed, write_tables

COLORS = {"done": "green", "unreliable": "yellow", "failed": "red"}
Sources = Annotated[
    tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE...", help_behavior_hint="(one at least)")
]


def sweep(
    sources: Sources,
    /,
    *,
    out: Path,
    jobs: int = 1,
    ray: OptionalStr = None,
    gpus_per_run: float = 0.0,
    recording: Annotated[RecordingOptions, tyro.conf.OmitArgPrefixes],
    method: Annotated[SystemOptions, tyro.conf.OmitArgPrefixes],
    compute: Annotated[ComputeOptions, tyro.conf.OmitArgPrefixes],
) -> None:
    """Reconstruct many recordings, each in a process and a folder of its own; a table grows while they run.

    A run that crashes is tried once more. What has results from the same options is not run again.

    Args:
        sources: Recordings, or rendered scenes as synthetic:NAME.
        out: Folder for the results: a folder each, results.csv and results.html.
        jobs: Runs at a time on this machine, among which its cores are shared.
        ray: Address of a Ray cluster to run on, or auto; its nodes must see the same files.
        gpus_per_run: GPUs that a run on the cluster takes, 0.5 for two on one.
    """
    if jobs < 1:
        raise UsageError(f"jobs: expected at least 1, got {jobs}")
    if not gpus_per_run >= 0:
        raise UsageError(f"gpus_per_run: expected a number of GPUs, got {gpus_per_run:g}")
    if not sources:
        raise UsageError("sources: expected a recording at least")
    if method.config is not None:
        method.make(recording.max_depth)  # what is wrong with the settings is said here, and once
    check_writable(out)
    root = out.resolve()
    sources = tuple(s if s.startswith("synthetic:") else str(Path(s).resolve()) for s in sources)
    try:
        names = unique_names(list(sources))
    except ValueError as error:
        raise UsageError(str(error)) from None
    options = as_arguments(recording, method, compute)
    runs = [Run(name, source, root, options) for name, source in zip(names, sources, strict=True)]
    (root / LOGS).mkdir(exist_ok=True)
    outcomes = {run: read_outcome(run) for run in runs}
    left = [run for run, outcome in outcomes.items() if outcome is None]
    _work(outcomes, run_here(left, jobs) if ray is None else run_on_ray(left, ray, gpus_per_run), root)
    failed = [run.name for run, outcome in outcomes.items() if outcome is None or not outcome.has_results]
    WorkConsole().print(
        f"{len(runs) - len(failed)} of {len(runs)} done; {escape(str(out / 'results.html'))}", soft_wrap=True
    )
    if failed:
        raise ValueError(f"sweep: no results of {', '.join(failed)}")


def _work(outcomes: dict[Run, Outcome | None], ended: Iterator[tuple[Run, Outcome]], root: Path) -> None:
    """Wait for the runs, and write the tables after each."""
    console = WorkConsole()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    write_tables(root, outcomes)
    before = sum(outcome is not None for outcome in outcomes.values())
    if before:
        console.print(f"{before} with results from before")
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("recordings", total=len(outcomes), completed=before)
        for run, outcome in ended:
            outcomes[run] = outcome
            write_tables(root, outcomes)
            console.print(_line(run, outcome), soft_wrap=True)
            bar.advance(task)


def _line(run: Run, outcome: Outcome) -> str:
    """One run in a line."""
    state = state_of(outcome)
    error = read_metrics(run).get("ate", {}).get("rmse") if outcome.has_results else None
    said = f"ATE {100 * error:.2f} cm" if error is not None else why_failed(run) if state == "failed" else ""
    return f"[{COLORS[state]}]{state}[/] {escape(run.name)}, {outcome.seconds:.0f} s {escape(said)}".rstrip()
