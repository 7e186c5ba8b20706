"""A building too large for memory: `python -m benchmarks.building [--frames 2000 --meters 50 --memory 100]`.

A camera is carried along the corridor around each of two floors, from room to room, --laps times, and lifted from one
floor to the next; what it comes to after a lap it has seen before. Frames are rendered as they are needed. A run with
a limit of memory for its map tells every 1,000 frames (--every): milliseconds a frame by stage as they pass, and those
that the thread that tracks and the one that looks for loops computed for (what else runs on the machine counts for
little there; meant for one thread, `OMP_NUM_THREADS=1`), resident memory, surfels in memory and on disk, keyframes,
files, loops; then its error, and how time and memory grow with the number of frames from the second row on, as the
slope of a line in logarithms. The mark is `--frames 20000 --meters 500 --laps 2`: at most 2.5 GB and flat, and the last
1,000 frames within 1.2 times the first 1,000. Results are written with every row.
"""

from __future__ import annotations

import gc
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro

import gradslam_ng as gs
from benchmarks.building_walk import Building
from benchmarks.report import save
from gradslam_ng import evaluation
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.loops import LoopCloser
from gradslam_ng.loops.surfel_store import SurfelStore
from gradslam_ng.places import Relocalizer
from gradslam_ng.slam.state import State
from gradslam_ng.slam.stream import Stream
from gradslam_ng.structures.surfels import save_surfels

WARM_UP = 4  # frames, from the first to one that is tracked and fused like all others


def resident() -> float:
    """MB that this process holds in memory now."""
    return status("VmRSS")


def status(name: str) -> float:
    """A figure in MB that the kernel tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) * 1024 / 1e6


class Log:
    """Figures of a run, every so many frames."""

    def __init__(self, every: int, on_row: Callable[[list[dict]], None]) -> None:
        self.every, self.on_row, self.rows, self.stream = every, on_row, [], None
        self.computed = {"tracking": time.thread_time()}
        self.before: dict[str, float] = {}

    def __call__(self, index: int, state: State) -> None:
        """After a frame."""
        done = index + 1
        if done % self.every or self.stream is None:
            return
        gc.collect()
        seconds = dict(self.stream.timer.seconds)
        stages = {name: 1e3 * (spent - self.before.get(name, 0.0)) / self.every for name, spent in seconds.items()}
        tracked = {name: ms for name, ms in stages.items() if name != "read"}
        submaps = [submap for submap in self.stream.tracker.submaps if submap.loops is not None]
        closers = [submap.loops for submap in submaps]
        stores = [closer.store for closer in closers if closer.store is not None]
        computing = {"tracking": time.thread_time(), "detecting": sum(seconds_of(x) for x in closers)}
        processor = {name: 1e3 * (now - self.computed.get(name, 0.0)) / self.every for name, now in computing.items()}
        self.rows.append({
            "frames": done, "ms": sum(tracked.values()), "stages": stages, "processor_ms": processor,
            "resident_mb": resident(), "peak_mb": status("VmHWM"),
            "active": int(state.surfels.count[0]), "archive": sum(int(x.archive.count[0]) for x in closers),
            "stored": sum(x.count for x in stores), "files": sum(len(x.files) for x in stores),
            "keyframes": sum(len(x.keyframes) for x in closers), "loops": sum(len(x.loops) for x in closers),
            "submaps": len(submaps), "lost": int(not bool(state.tracking.ok[0])),
        })  # fmt: skip
        self.before, self.computed = seconds, computing
        self.on_row(self.rows)
        print({name: value for name, value in self.rows[-1].items() if name != "stages"}, flush=True)


def seconds_of(closer: LoopCloser) -> float:
    """That its thread has computed for; waits for what it is at."""
    return closer.executor.submit(time.thread_time).result()


def growth(rows: list[dict], name: str) -> float | None:
    """The exponent p of a figure that grows as frames to the p, from the second row on; None of too few rows."""
    pairs = [(math.log(row["frames"]), math.log(row[name])) for row in rows[1:] if row[name] > 0]
    if len(pairs) < 2:
        return None
    x, y = torch.tensor(pairs, dtype=torch.float64).T
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def run(
    sequence: RGBDSequence,
    folder: Path,
    memory: float | None,
    log: Log,
    compile: bool,
) -> dict:
    """Figures of one run; memory: MB of surfels, None for no limit."""
    store = None if memory is None else SurfelStore(folder, limit=1e6 * memory)
    relocalizer = Relocalizer(folder=None if memory is None else folder)
    stream = Stream(
        gs.PointFusion(), sequence=sequence, on_frame=log, compile=compile, loops=LoopCloser(store=store),
        relocalizer=relocalizer,
    )  # fmt: skip
    log.stream = stream
    result = stream.run()
    before = resident()
    count = save_surfels(folder / "map.ply", [result.map[0], *([] if result.stored is None else result.stored())])
    error = evaluation.ate(sequence.ground_truth, result.localized)
    return summary(log.rows) | {
        "tracked": int(result.tracked.sum()), "loops": result.loops, "submaps": result.submaps,
        "surfels": count, "ate_cm": 100 * error.rmse, "export_mb": max(resident() - before, 0.0),
    }  # fmt: skip


@torch.no_grad()
def prepare(sequence: RGBDSequence) -> None:
    """Compile what frames use, so that the first of a run are as fast as the last."""
    system, state = gs.PointFusion(), None
    with compilation(wait=True):
        for i in range(WARM_UP):
            state = system.step(state, sequence[i])


def summary(rows: list[dict]) -> dict:
    """Of the rows so far: how they grow, and the last beside the first."""
    computed = [sum(row["processor_ms"].values()) for row in rows]
    return {
        "rows": rows, "peak_mb": max(row["peak_mb"] for row in rows),
        "growth": {name: growth(rows, name) for name in ("ms", "resident_mb", "keyframes", "stored")},
        "last_to_first": {
            "ms": rows[-1]["ms"] / rows[0]["ms"],
            "tracking": rows[-1]["processor_ms"]["tracking"] / rows[0]["processor_ms"]["tracking"],
            "both": computed[-1] / computed[0],
        },
    }  # fmt: skip


def main(
    frames: int = 2000,
    meters: float = 50.0,
    laps: int = 1,
    size: tuple[int, int] = (120, 160),
    memory: float = 20.0,
    every: int = 1000,
    seed: int = 0,
    unlimited: bool = True,
    compile: bool = True,
    name: str = "building",
) -> None:
    """Write results/NAME.json.

    Args:
        frames: Of the walk.
        meters: Of the walk.
        laps: Around each floor.
        size: Of the images, height and width.
        memory: MB of surfels that stay in memory.
        every: Frames between two rows.
        seed: Of the building and the noise.
        unlimited: Run without a limit, too.
        compile: Use compiled functions.
        name: Of the results' file.
    """
    sequence = Building(frames=frames, meters=meters, laps=laps, size=size, seed=seed)
    runs: dict[str, dict] = {}
    if compile:
        prepare(sequence)

    def write(kind: str, figures: dict) -> None:
        runs[kind] = figures
        about = {"frames": frames, "meters": meters, "laps": laps, "memory": memory, "seed": seed, "runs": runs}
        save(name, about, images=f"{size[1]}x{size[0]}, tracked as they are")

    for kind, limit in {"limited": memory, "unlimited": None}.items():
        if kind == "limited" or unlimited:
            log = Log(every, lambda rows, kind=kind: write(kind, summary(rows)))
            with tempfile.TemporaryDirectory() as folder:
                write(kind, run(sequence, Path(folder), limit, log, compile))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
