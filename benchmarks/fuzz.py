"""Damaged recordings and files: `python -m benchmarks.fuzz`.

Samples of every format, of camera files, saved files and folders of runs (`benchmarks.samples`), one to three of their
files with bits flipped, cut, emptied, pieces swapped, huge numbers and odd names put in (`benchmarks.damage`). Each is
read whole: a frame that is skipped, or one clear error as the command line would print it (ValueError, OSError,
ImportError), is what is wanted. Anything else that is raised, more than 60 seconds of the processor, a hang, more than
4 GB, or a file written elsewhere is a failure, with the seed that gives it again:
`python -m benchmarks.fuzz --first SEED --cases 1`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

SECONDS, BYTES = 60, 4 << 30  # of the processor, and of memory, that a case may take at most
HANGING = 300  # seconds after which a worker without an answer is stopped
EXPECTED = (ValueError, OSError, ImportError)  # what the command line says in a line of its own


def read(name: str, path: Path) -> str:
    """Read one sample of that name whole; what came of it."""
    if name.endswith(" DIR"):
        return command(name.removesuffix(" DIR"), path)
    readers = _readers()
    if name in readers:
        readers[name](next(iter(sorted(path.iterdir())), path / "none") if path.is_dir() else path)
        return "read"
    if name.startswith("camera "):
        from gradslam_ng.datasets.camera_files import read_given

        read_given(path)
        return "read"
    return _frames(path)


def _readers() -> dict[str, Callable[[Path], object]]:
    """Of files that are not recordings, by the name of the sample."""
    import gradslam_ng as gs
    from gradslam_ng import datasets
    from gradslam_ng.graph import g2o
    from gradslam_ng.io.ply import read_ply
    from gradslam_ng.io.tensor_tree import load_tree
    from gradslam_ng.slam.saved_run import SAVED_TYPES

    return {
        "surfels": gs.SurfelMap.load,
        "mesh": read_ply,
        "volume": gs.VoxelGrid.load,
        "state": lambda path: load_tree(path, SAVED_TYPES),
        "g2o": g2o.load,
        "trajectory": gs.Trajectory.load,
        "shards": lambda path: list(datasets.read_shards([path])),
    }


def _frames(path: Path) -> str:
    """Read a recording whole."""
    from gradslam_ng import datasets

    sequence, skipped = datasets.load(path), 0
    for index in range(min(len(sequence), 100)):
        try:
            sequence[index]
        except datasets.FrameError:
            skipped += 1
    return "frames skipped" if skipped else "read"


def command(name: str, path: Path) -> str:
    """Run a command of the command line on the folder of a run; an error that it prints is raised again."""
    from gradslam_ng import cli
    from gradslam_ng.viz.scene_files import read_scene

    if name == "view":  # what is shown, without the page, which waits for a browser
        read_scene(path)
        return "read"
    more = []
    if name == "join":
        more = [str(path.parent / "other"), "--out", str(path.parent / "recording" / "joined"), "--no-compile"]
        shutil.copytree(path, path.parent / "other")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = cli.main([name, str(path), *more])
    if status and "error:" not in said.getvalue() and "Warning" not in said.getvalue():
        raise RuntimeError(f"status {status} without an error: {said.getvalue()[-500:]}")
    return "error" if status else "read"


def in_turn(samples: Iterable[str]) -> list[str]:
    """The samples of seeds in their order: folders of runs once, whose commands take seconds, all others four times."""
    folders, files = (sorted(each for each in samples if each.endswith(" DIR") == kind) for kind in (True, False))
    return folders + 4 * files


def one(seed: int, samples: dict[str, Path], folder: Path) -> tuple[str, str, str]:
    """The sample's name, what came of it, and how it was damaged, with the traceback of a failure."""
    from benchmarks.damage import damaged

    chance = random.Random(seed)
    names = in_turn(samples)
    name = names[seed % len(names)]
    path, told = damaged(samples[name], folder, chance)
    before = {each.name for each in folder.iterdir()}
    began = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            came = read(name, path)
    except EXPECTED as error:
        came = "error" if str(error).strip() else "failure: an error that says nothing"
    except Exception:
        came, told = "failure", f"{told}\n{traceback.format_exc()}"
    if time.process_time() - began > SECONDS:
        came = f"failure: more than {SECONDS} s"
    if strange := {each.name for each in folder.iterdir()} - before - {"other"}:
        came = f"failure: wrote {sorted(strange)}"
    return name, came, told


def work(samples: Path, seeds: list[int]) -> None:
    """In a process of its own: a line of JSON for each seed."""
    import torch

    from gradslam_ng.viz import plots, snapshot

    torch.set_num_threads(1)
    for module, picture in ((plots, "plot_trajectory"), (snapshot, "snapshot")):  # which take seconds
        setattr(module, picture, lambda path, *_, **__: path.write_bytes(b""))
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    found = {name: Path(path) for name, path in json.loads((samples / "samples.json").read_text()).items()}
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
            home = Path(folder) / "home"
            home.mkdir()
            os.environ["HOME"] = os.environ["XDG_CACHE_HOME"] = str(home)
            os.chdir(home)
            came = one(seed, found, Path(folder))
            os.chdir("/")
        print(json.dumps([seed, *came]), flush=True)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), flush=True)


def run(samples: Path, seeds: list[int]) -> tuple[list[tuple[int, str, str, str]], float]:
    """What came of all seeds, and the most memory, MB; a worker that hangs or dies costs its seed."""
    results: list[tuple[int, str, str, str]] = []
    most, left = 0.0, list(seeds)
    while left:
        command = [sys.executable, "-m", "benchmarks.fuzz", "work", str(samples), json.dumps(left)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert worker.stdout is not None
        while True:
            ready = select.select([worker.stdout], [], [], HANGING)[0]
            line = worker.stdout.readline() if ready else ""
            if not line:
                break
            answer = json.loads(line)
            if isinstance(answer, float):
                most = max(most, answer)
                break
            results.append(tuple(answer))
            left.remove(answer[0])
        worker.kill()
        worker.wait()
        if left and not (line and isinstance(answer, float)):
            results.append((left.pop(0), "?", "failure: hangs or dies", ""))
    return results, most


def prepare(folder: Path) -> Path:
    """All samples, in a folder that is made if need be, and the list of them that workers read."""
    from benchmarks.samples import write_samples

    folder.mkdir(exist_ok=True)
    found = {name: str(path) for name, path in write_samples(folder).items()}
    (folder / "samples.json").write_text(json.dumps(found))
    return folder


def main(cases: int = 2180, first: int = 0) -> None:
    """Damage, read, and print a table; ends with status 1 where something failed.

    Args:
        cases: How many.
        first: The first seed.
    """
    with tempfile.TemporaryDirectory() as folder:
        results, most = run(prepare(Path(folder)), list(range(first, first + cases)))
    sys.exit(1 if tell(results, most, first) else 0)


def tell(results: Sequence[tuple[int, str, str, str]], most: float, first: int) -> int:
    """Print and save what came of cases from a seed on; how many failed."""
    from benchmarks.report import save

    counts: dict[str, Counter] = {}
    for _, name, came, _ in results:
        counts.setdefault(name, Counter())[came.partition(":")[0]] += 1
    kinds = ("read", "frames skipped", "error", "failure")
    table = Table("format", *kinds)
    for name in sorted(counts):
        table.add_row(name, *(str(counts[name][kind]) for kind in kinds))
    console = Console()
    console.print(table, f"{most:.0f} MB at most", sep="\n")
    failures = [result for result in results if result[2].startswith("failure")]
    for seed, name, came, told in failures:
        console.print(f"seed {seed}, {name}: {came}: {told}", markup=False)
    rows = {name: {kind: count[kind] for kind in kinds} for name, count in sorted(counts.items())}
    save("fuzz", {"cases": len(results), "first": first, "rows": rows, "most_mb": most}, images="64x48", threads=1)
    return len(failures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(Path(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        tyro.cli(main)
