"""What a frame costs as things grow: `python -m benchmarks.scaling [--only PART]`.

Time and memory of a frame of PointFusion against the size of its images, of its map, of its batch, and over thousands
of frames of looking back and forth. One thread; milliseconds are of the processor, which what else a machine does
disturbs less, with those of the wall beside them. Each point is measured in a process of its own after six frames that
warm up; memory is the process's peak beyond what it held, frames included, before the first. Takes about ten minutes.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import save
from benchmarks.throughput import build, shrunk
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.datasets import Synthetic
from gradslam_ng.geometry import camera

VIEWS = 12  # frames that points are measured on
MARK = 1.2  # the last 200 frames' time to that of frames 100 to 300
APART = 12.0  # meters between the copies of a room that make a large map
COPY_AFTER = 4  # frames: by then there is a room to copy
ROOM_TO_GROW = 200_000  # surfels for which there is room in such a map, so that no frame has to make it


@dataclass(frozen=True)
class Point:
    """One setting."""

    width: int = 320  # of the images, 4:3
    factor: int | None = 1  # they are worked on smaller by this; None: as the system chooses
    surfels: int | None = None  # of the map before each frame; default: as it grows
    batch: int = 1


PARTS = {
    "resolution": [*(Point(width=width) for width in (160, 320, 640)), Point(width=1280, factor=None)],
    "map": [Point(surfels=n) for n in (10_000, 30_000, 100_000, 300_000, 1_000_000, 2_000_000)],
    "batch": [Point(batch=n) for n in (1, 2, 4, 8)],
}


def views(width: int, batch: int, recorded: gs.RGBDFrames) -> list[gs.RGBDFrames]:
    """The recorded frames (L,) of 640x480 at another size, each (batch,): the same for every sequence."""
    if width > 640:
        times = width // 640
        wide = (x.repeat_interleave(times, 1).repeat_interleave(times, 2) for x in (recorded.color, recorded.depth))
        frames = gs.RGBDFrames(*wide, camera.scale_intrinsics(recorded.K, times))
    else:
        frames = gs.RGBDFrames.stack([shrunk(recorded[i], 640 // width) for i in range(len(recorded))])
    return [frames[i : i + 1].map(lambda x: x.expand(batch, *x.shape[1:]).clone()) for i in range(len(frames))]


def grown(room: gs.SurfelMap, surfels: int) -> gs.SurfelMap:
    """A map of so many surfels: some of the room's, or copies of the room side by side as in a building."""
    copies = -(-surfels // int(room.count[0]))
    across = math.ceil(copies**0.5)
    shift = APART * torch.tensor([(i % across, i // across, 0.0) for i in range(copies)])
    attributes = {name: value.repeat(1, copies, *(1,) * (value.ndim - 2)) for name, value in room.attributes().items()}
    attributes["points"] = (room.points + shift[:, None]).flatten(0, 1)[None]
    chosen = torch.arange(surfels) if copies > 1 else torch.randperm(int(room.count[0]))[:surfels]
    chosen = {name: value[:, chosen] for name, value in attributes.items()}
    return gs.SurfelMap(**chosen, count=torch.tensor([surfels])).reserve(surfels + ROOM_TO_GROW)


@torch.no_grad()
def measure(point: Point, recorded: Path, compile: bool) -> dict[str, float]:
    """Milliseconds and megabytes of a frame; to be called in a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    frames = views(point.width, point.batch, torch.load(recorded, weights_only=False))
    slam, state, room, spent, walls = build(), None, None, [], []
    slam.factor = point.factor
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with compilation(compile, wait=True):
        for i, frame in enumerate(frames):
            if point.surfels is not None and i >= COPY_AFTER:
                room = state.map[0] if room is None else room
                state = replace(state, map=grown(room, point.surfels))
            began, wall = time.process_time(), time.perf_counter()
            state = slam.step(state, frame)
            spent.append(1e3 * (time.process_time() - began))
            walls.append(1e3 * (time.perf_counter() - wall))
    counted = COPY_AFTER + 2  # frames before this warm up
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {
        "width": point.width, "working_width": state.last.size[1], "batch": point.batch,
        "surfels": int(state.map.count[0]),
        "ms": median(spent[counted:]), "ms_wall": median(walls[counted:]), "peak_mb": peak / 1e6,
    }  # fmt: skip


@torch.no_grad()
def long(frames: int, cycle: int, compile: bool) -> dict:
    """Looking there and back, over and over; to be called in a process of its own.

    A cycle is rendered, kept in memory and shown again and again, every second time backwards.
    """
    torch.set_num_threads(1)
    sequence = Synthetic("living_room", frames=cycle, size=(240, 320), noise="kinect", path="back_and_forth")
    there = [sequence[i] for i in range(cycle)]
    slam, state, spent, walls, surfels, memory = build(), None, [], [], [], []
    with compilation(compile, wait=True):
        for i in range(frames):
            began, wall = time.process_time(), time.perf_counter()
            state = slam.step(state, (there + there[::-1])[i % (2 * cycle)])
            spent.append(1e3 * (time.process_time() - began))
            walls.append(1e3 * (time.perf_counter() - wall))
            if i % 10 == 9:
                surfels.append(int(state.map.count[0]))
                memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    early, late = slice(100, 300), slice(-200, None)
    return {
        "frames": frames,
        "ms_frames_100_to_300": median(spent[early]), "ms_last_200": median(spent[late]),
        "ratio": median(spent[late]) / median(spent[early]), "mark": MARK,
        "ratio_wall": median(walls[late]) / median(walls[early]),
        "mb_frames_100_to_300": max(memory[10:30]), "mb_last_200": max(memory[-20:]),
        "surfels_at_frame_300": surfels[29], "surfels_at_the_end": surfels[-1],
        "every_10_frames": {
            "ms": [round(median(spent[i : i + 10]), 2) for i in range(0, frames - 9, 10)],
            "mb": [round(x) for x in memory], "surfels": surfels,
        },
    }  # fmt: skip


def alone(function: Callable, *args):
    """function(*args) in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def main(only: str = "", frames: int = 3000, cycle: int = 200, compile: bool = True) -> None:
    """Measure every part; figures and plot are saved when all parts ran.

    Args:
        only: This part: resolution, map, batch or frames.
        frames: Of looking back and forth, at least 600.
        cycle: Frames rendered for that.
        compile: Use the compiled kernels.
    """
    if frames < 600:
        raise ValueError(f"frames: expected at least 600, got {frames}")
    figures: dict = {"compiled": compile}
    with tempfile.TemporaryDirectory() as folder:
        if only != "frames":
            sequence, recorded = (
                Synthetic("living_room", frames=VIEWS, size=(480, 640), noise="kinect"),
                Path(folder) / "views.pt",
            )
            torch.save(gs.RGBDFrames.stack([sequence[i] for i in range(VIEWS)]), recorded)
        for part, points in PARTS.items():
            if only in (part, ""):
                figures[part] = []
                for point in points:
                    figures[part].append(alone(measure, point, recorded, compile))
                    print(part, figures[part][-1], flush=True)
    if only in ("frames", ""):
        figures["frames"] = alone(long, frames, cycle, compile)
        print({name: value for name, value in figures["frames"].items() if name != "every_10_frames"})
    if not only:
        plot(
            figures,
            save("scaling", figures, images="as in the rows", tracked="as in the rows", threads=1).with_suffix(".png"),
        )


def plot(figures: dict, path: Path) -> None:
    """Four panels: time, and memory on the right axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), dpi=110, layout="constrained")
    panels = figure.subplots(2, 2).flatten()
    across = {
        "resolution": ("width", "image width [pixels]; 1280 is worked on at 320"),
        "map": ("surfels", "surfels in the map"),
        "batch": ("batch", "sequences in the batch"),
    }
    for axes, (part, (key, label)) in zip(panels, across.items(), strict=False):
        rows = sorted(figures[part], key=lambda row: row[key])  # a small map grows more before it is measured
        x, ms, mb = ([row[name] for row in rows] for name in (key, "ms", "peak_mb"))
        _two(axes, x, ms, mb, "o-")
        scale = "linear" if part == "batch" else "log"
        names = [f"{n / 1e6:.1g}M" if n >= 1e6 else f"{n / 1e3:.0f}k" if n >= 1e4 else f"{n}" for n in x]
        axes.set(xscale=scale, xticks=x, xticklabels=names, xlabel=label)
        axes.minorticks_off()
    kept = figures["frames"]["every_10_frames"]
    _two(panels[3], range(10, 10 * len(kept["ms"]) + 1, 10), kept["ms"], kept["mb"], "-")
    panels[3].set(xlabel="frame")
    figure.savefig(path)


def _two(axes, x, ms, mb, style: str) -> None:
    axes.plot(x, ms, style, ms=4, color="#2166ac")
    axes.set_ylabel("processor time of a frame [ms]", color="#2166ac")
    axes.set_ylim(0, None)
    right = axes.twinx()
    right.plot(x, mb, style, ms=4, color="#b2182b")
    right.set_ylabel("memory [MB]", color="#b2182b")
    right.set_ylim(0, None)


if __name__ == "__main__":
    tyro.cli(main)
