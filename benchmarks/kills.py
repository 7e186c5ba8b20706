"""Runs that are killed at a random moment and resumed: `python -m benchmarks.kills`.

`gradslam-ng run` on frames of the synthetic living room, killed (SIGKILL) once a random number of frames is done, at a
random moment of the next one, and resumed, killed again at times. What was written before must be readable, and the run
must end with as many poses as one that was left alone, and the same ones. Seeds tell the moments.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.report import save
from gradslam_ng.commands.run_folder import STATE
from gradslam_ng.io.tensor_tree import load_about
from gradslam_ng.structures import Trajectory

SECONDS = 300  # of one run at most
DONE = "frame done"  # that a run says after each
RUN = f"""
import sys
from gradslam_ng.slam import stream
process = stream.Stream.process
def told(self, *args):
    process(self, *args)
    print({DONE!r}, flush=True)
stream.Stream.process = told
from gradslam_ng.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(arguments: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(arguments: list[str], kill_after: int | None = None, delay: float = 0.0) -> int:
    """Run a command to its end, or kill it so many seconds after so many frames; its exit status.

    Raises:
        TimeoutError: it hangs.
    """
    process, frames, hung = start(arguments), 0, threading.Event()
    assert process.stdout is not None
    watch = threading.Timer(SECONDS, lambda: (hung.set(), process.kill()))
    watch.start()
    for line in process.stdout:
        frames += line.strip() == DONE
        if frames == kill_after:
            time.sleep(delay)
            process.kill()
    status = process.wait()
    watch.cancel()
    if hung.is_set():
        raise TimeoutError(f"no end after {SECONDS} s: {arguments}")
    return status


def one(seed: int, source: str, out: Path, frames: int) -> dict[str, Any]:
    """Kill a run and its resumption until one ends; what came of it."""
    chance, kills, read = random.Random(seed), 0, []
    arguments = ["run", source, "--out", str(out), "--frames", f":{frames}", "--save-every", "0", "--no-compile"]
    while True:
        # a resumption is killed in one of two cases, so that all end
        kill_after = chance.randint(1, frames - 1) if kills == 0 or chance.random() < 0.5 else None
        status = finish(arguments, kill_after, chance.uniform(0, 0.1))
        if status != -signal.SIGKILL:
            break
        kills += 1
        if (out / STATE).is_file():
            read.append(bool(load_about(out / STATE)))
            arguments = ["resume", str(out)]
    return {"seed": seed, "kills": kills, "states_read": len(read), "status": status, **results(out)}


def results(out: Path) -> dict[str, Any]:
    """Of a run that has ended: its poses, as text and in number."""
    path = out / "trajectory.txt"
    if not path.is_file():
        return {"poses": 0, "trajectory": ""}
    return {"poses": len(Trajectory.load(path)), "trajectory": path.read_text()}


def main(cases: int = 20, first: int = 0, frames: int = 12, source: str = "synthetic:living_room") -> None:
    """Kill, resume, and print a table; ends with status 1 where a run was not as one left alone.

    Args:
        cases: How many.
        first: The first seed.
        frames: Of each run.
        source: A recording, or a rendered scene.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        whole = ["run", source, "--out", str(root / "whole"), "--frames", f":{frames}", "--no-compile"]
        status, expected = finish(whole), results(root / "whole")
        rows = []
        for seed in range(first, first + cases):
            row = one(seed, source, root / str(seed), frames)
            row["same"] = row.pop("trajectory") == expected["trajectory"] and row["status"] == status
            rows.append(row)
            print(row, flush=True)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    figures = {"rows": rows, "frames": frames, "poses": expected["poses"], "source": source}
    save("kills", figures, images="as they come", threads=1)
    sys.exit(0 if all(row["same"] for row in rows) else 1)


if __name__ == "__main__":
    tyro.cli(main)
