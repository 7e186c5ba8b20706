"""Runs of a sweep: one process a recording, on this machine or on a cluster of Ray's; a crash costs one retry."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from types import ModuleType

from gradslam_ng.io.atomic import write_whole
from gradslam_ng.io.locks import lock
from gradslam_ng.io.optional_import import import_optional

RESULTS = (0, 3)  # exit statuses of `run` that leave results: reliable, and not to be relied on
SAID = (*RESULTS, 1, 2, 4)  # those after which another try would say the same; of others, crashes, one is made
INTERRUPTED = 130
LOGS = ".sweep"  # beside the folders of the runs


@dataclass(frozen=True)
class Run:
    """One recording and where its results go."""

    name: str
    source: str
    root: Path
    options: tuple[str, ...]  # of `gradslam-ng run`

    @property
    def out(self) -> Path:
        return self.root / self.name

    @property
    def arguments(self) -> list[str]:
        """Of `gradslam-ng`."""
        return ["run", self.source, "--out", str(self.out), "--overwrite", *self.options]

    @property
    def log(self) -> Path:
        """What the run prints."""
        return self.root / LOGS / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """What came of it."""
        return self.root / LOGS / f"{self.name}.json"


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    arguments: list[str]
    exit_status: int
    seconds: float
    tries: int

    @property
    def has_results(self) -> bool:
        return self.exit_status in RESULTS


def unique_names(sources: list[str]) -> list[str]:
    """A folder name for each source: the last part of its path, with those before it where they tell it from others.

    Raises:
        ValueError: a source is given twice.
    """
    for i, source in enumerate(sources):
        if source in sources[:i]:
            raise ValueError(f"sources: expected each recording once, got {source!r} twice")
    parts = [[part for part in PurePath(source.replace(":", "_")).parts if part != os.sep] for source in sources]
    names = [own[-1] for own in parts]
    for depth in range(2, max(map(len, parts)) + 1):
        names = ["_".join(own[-depth:]) if names.count(n) > 1 else n for own, n in zip(parts, names, strict=True)]
    return [n if names.count(n) == 1 else f"{n}_{i}" for i, n in enumerate(names)]


def read_outcome(run: Run) -> Outcome | None:
    """What came of a run before; None where it was not run, has no results, or was run with other options."""
    try:
        outcome = Outcome(**json.loads(run.record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, or cut
        return None
    is_same = outcome.arguments == run.arguments and (run.out / "metrics.json").is_file()
    return outcome if is_same and outcome.has_results else None


def run_here(runs: list[Run], jobs: int) -> Iterator[tuple[Run, Outcome]]:
    """Each run in a process of its own, `jobs` at a time, which share the cores; in the order in which they end."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {"OMP_NUM_THREADS": threads} | os.environ
    processes: set[subprocess.Popen] = set()

    def start(run: Run) -> Outcome:
        return attempt(run, lambda: _run_process(run, environment, processes))

    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(start, run): run for run in runs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:  # interrupted: what has not begun does not, and what runs writes what it has
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(processes):
                process.send_signal(signal.SIGINT)


def run_on_ray(runs: list[Run], address: str, gpus: float) -> Iterator[tuple[Run, Outcome]]:
    """Each run in a fresh worker of a cluster, which must see the same files; what a worker or a node that dies was at
    is done once more elsewhere. address: of the cluster, or "auto"."""
    ray = import_optional("ray", user="a cluster", extra="cluster")
    with _connected(ray, address):
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=1, max_retries=1)(_run_once)
        pending = {remote.remote(run, _run_in_worker): run for run in runs}
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            run = pending.pop(done)
            try:
                outcome = ray.get(done)
            except ray.exceptions.RayError as error:
                run.log.write_text(f"{error}\n", encoding="utf-8")
                outcome = Outcome(run.arguments, -1, 0.0, 2)
            _write(run, outcome)
            yield run, outcome


@contextlib.contextmanager
def _connected(ray: ModuleType, address: str) -> Iterator[None]:
    """Within a cluster, which is left as it was found."""
    was_connected = ray.is_initialized()
    if not was_connected:
        ray.init(address=address, log_to_driver=False)
    try:
        yield
    finally:
        if not was_connected:
            ray.shutdown()


def attempt(run: Run, start: Callable[[], int]) -> Outcome:
    """Start a run, and once more where it crashes."""
    run.log.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    status, tries = start(), 1
    if status not in SAID and status != INTERRUPTED:
        status, tries = start(), 2
    outcome = Outcome(run.arguments, status, round(time.perf_counter() - began, 1), tries)
    _write(run, outcome)
    return outcome


def _run_process(run: Run, environment: dict[str, str], processes: set[subprocess.Popen]) -> int:
    with run.log.open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "gradslam_ng", *run.arguments]
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches it once, from here
        )
        processes.add(process)
        try:
            return process.wait()
        finally:
            processes.discard(process)


def _run_once(run: Run, start: Callable[[Run], Outcome]) -> Outcome:
    """A worker goes on for a while after its node was given up: what it is at is waited for, and not done twice."""
    run.log.parent.mkdir(parents=True, exist_ok=True)
    run.log.touch()
    with lock(run.log, wait=True):
        outcome = read_outcome(run) or start(run)
        _write(run, outcome)  # here too: whoever asked for it may be gone by now
    return outcome


def _run_in_worker(run: Run) -> Outcome:
    """As `python -m gradslam_ng` would, but within a worker, so that whatever ends that ends the run."""
    began, status = time.perf_counter(), 0
    sys.argv = ["gradslam-ng", *run.arguments]
    with run.log.open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            runpy.run_module("gradslam_ng", run_name="__main__")
        except SystemExit as ended:
            status = int(ended.code or 0)
    return Outcome(run.arguments, status, round(time.perf_counter() - began, 1), 1)


def _write(run: Run, outcome: Outcome) -> None:
    """Keep what came of a run."""
    write_whole(run.record, json.dumps(asdict(outcome), indent=2) + "\n")
