"""A building too large for memory: `python -m benchmarks.building [--frames 2000 --meters 50 --memory 100]`.

A camera is carried along the corridor around each of two floors, from room to room, --laps times, and lifted from one
floor to the next; what it comes to after a lap it has seen before. Frames are rendered as they are needed. A run with
a limit of memory for its map tells every 1,000 frames (--every): milliseconds a frame by stage, resident memory,
surfels in memory and on disk, keyframes, files, loops; then its error, and how time and memory grow with the number of
frames from the second row on, as the slope of a line in logarithms. The mark is `--frames 20000 --meters 500 --laps 2`:
at most 2.5 GB and flat, and the last 1,000 frames within 1.2 times the first 1,000.
"""

from __future__ import annotations

import gc
import math
import os
import random
import tempfile
import time
from pathlib import Path

import torch
import tyro
from torch import Tensor

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng import evaluation
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.noise import kinect
from gradslam_ng.datasets.synthetic.paths import upright
from gradslam_ng.datasets.synthetic.placement import Furniture, place
from gradslam_ng.datasets.synthetic.render import render
from gradslam_ng.datasets.synthetic.scene import Room
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.datasets.synthetic.solids import Box
from gradslam_ng.loops import LoopCloser
from gradslam_ng.loops.surfel_store import SurfelStore
from gradslam_ng.places import Relocalizer
from gradslam_ng.slam.state import State
from gradslam_ng.slam.stream import Stream
from gradslam_ng.structures import Trajectory
from gradslam_ng.structures.surfels import save_surfels

WIDTH, HEIGHT, STOREY = 2.6, 2.5, 3.0  # meters, of corridors, and from floor to floor
DOORS = 6.0  # meters between partitions with a door
SEEN = 9.0  # meters, beyond which nothing is rendered
COLORS = ((0.86, 0.78, 0.63), (0.66, 0.30, 0.24), (0.24, 0.40, 0.50), (0.72, 0.74, 0.64), (0.80, 0.72, 0.82))


class Building(RGBDSequence):
    """What a camera sees that is carried through two floors, `meters` in all, in so many frames.

    Args:
        frames: of the walk.
        meters: of the walk.
        laps: around each floor.
        size: of the images, height and width.
        seed: of wallpapers, furniture and noise.
    """

    def __init__(self, *, frames: int, meters: float, laps: int, size: tuple[int, int], seed: int = 0) -> None:
        self.laps, self.side = laps, (meters - STOREY) / (8 * laps)  # of the square around which each floor is walked
        self.random, self.seed = random.Random(seed), seed
        self.solids = [solid for floor in range(2) for solid in self.floor(floor)]
        self.centers = torch.stack([solid.T_ws[:3, 3] for solid in self.solids])
        self.radii = torch.tensor([solid.shape.radius for solid in self.solids], dtype=torch.float64)
        T_wc = self.walk(frames)
        times = torch.arange(frames, dtype=torch.float64) / 30
        super().__init__(
            name="building", layout="synthetic", K=default_intrinsics(size), size=size, timestamps=times,
            ground_truth=Trajectory(times, T_wc), T_wc=T_wc,
        )  # fmt: skip

    def paper(self) -> texture.Material:
        """A wallpaper with detail at every scale, unlike any other."""
        seed = self.random.randrange(10**6)
        return texture.blend(*self.random.sample(COLORS, 3), wavelength=0.6, octaves=6, seed=seed)

    def floor(self, number: int) -> Furniture:
        """Walls, floor and ceiling in pieces, partitions with doors, and what stands between them."""
        solids: Furniture = []
        for leg in range(4):
            turn = 0.5 * math.pi * leg
            pieces = max(1, round(self.side / DOORS))
            length = self.side / pieces
            for piece in range(pieces):
                solids += self.piece(number, turn, piece * length - self.side / 2, length, piece > 0)
            solids += self.corner(number, turn, is_shaft=leg == 0)
        return solids

    def box(
        self, number: int, turn: float, along: tuple[float, float], across: tuple[float, float], up: tuple[float, float]
    ) -> Furniture:
        """A box between two values along a leg, across it from the middle of the corridor outwards, and above the
        floor."""
        (a0, a1), (b0, b1), (z0, z1) = along, across, up
        x, y = (a0 + a1) / 2, -self.side / 2 - (b0 + b1) / 2
        cos, sin = math.cos(turn), math.sin(turn)
        at = (cos * x - sin * y, sin * x + cos * y, STOREY * number + (z0 + z1) / 2)
        return [place(Box(((a1 - a0) / 2, (b1 - b0) / 2, (z1 - z0) / 2)), at, self.paper(), yaw=turn)]

    def piece(self, number: int, turn: float, start: float, length: float, has_door: bool) -> Furniture:
        """A room of the corridor."""
        half, end = WIDTH / 2, start + length
        start, end = max(start, half - self.side / 2), min(end, self.side / 2 - half)
        solids = self.box(number, turn, (start, end), (half, half + 0.1), (0, HEIGHT))
        solids += self.box(number, turn, (start, end), (-half - 0.1, -half), (0, HEIGHT))
        solids += self.box(number, turn, (start, end), (-half, half), (-0.1, 0))
        solids += self.box(number, turn, (start, end), (-half, half), (HEIGHT, HEIGHT + 0.1))
        if has_door:
            for across in ((-half, -0.5), (0.5, half)):
                solids += self.box(number, turn, (start, start + 0.1), across, (0, HEIGHT))
        for _ in range(max(1, round(length / 1.5))):
            at, outward = self.random.uniform(start + 0.3, end - 0.3), self.random.choice((-1, 1))
            deep, tall, wide = (self.random.uniform(*x) for x in ((0.15, 0.4), (0.4, 2.0), (0.2, 0.5)))
            across = (half - deep, half) if outward > 0 else (-half, deep - half)
            solids += self.box(number, turn, (at - wide, at + wide), across, (0, tall))
        return solids

    def corner(self, number: int, turn: float, is_shaft: bool) -> Furniture:
        """The corner at the end of a leg; a shaft has no ceiling below nor a floor above."""
        half, begin, end = WIDTH / 2, self.side / 2 - WIDTH / 2, self.side / 2 + WIDTH / 2
        top = STOREY if is_shaft and number == 0 else HEIGHT
        solids = self.box(number, turn, (begin, end), (half, half + 0.1), (0, top))
        solids += self.box(number, turn, (end, end + 0.1), (-half, half), (0, top))
        if not (is_shaft and number == 1):
            solids += self.box(number, turn, (begin, end), (-half, half), (-0.1, 0))
        if not (is_shaft and number == 0):
            solids += self.box(number, turn, (begin, end), (-half, half), (HEIGHT, HEIGHT + 0.1))
        return solids

    def walk(self, frames: int) -> Tensor:
        """(L, 4, 4) float64: around the first floor, up in the shaft, and around the second one."""
        around = 4 * self.side * self.laps
        total = 2 * around + STOREY
        T = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
        for i in range(frames):
            s = total * i / max(frames - 1, 1)
            lifted = min(max(s - around, 0.0), STOREY)
            x, y, yaw = self.at(s - lifted)
            yaw += math.radians(25) * math.sin(2 * math.pi * s / 5.0)
            sight = torch.tensor([[math.cos(yaw), math.sin(yaw), -0.15]], dtype=torch.float64)
            T[i, :3, :3] = torch.from_numpy(upright((sight / sight.norm()).numpy()))[0]
            T[i, :3, 3] = torch.tensor([x, y, 1.4 + lifted + 0.02 * math.sin(9 * s)], dtype=torch.float64)
        return T

    def at(self, s: float) -> tuple[float, float, float]:
        """Where the camera is after so many meters around a floor, and where it looks, radians; it begins in the shaft,
        and turns within a meter of a corner."""
        leg, s = divmod(s, self.side)
        near, turn = 1.0, 0.5 * math.pi * (leg + 1)
        x, y = s - self.side / 2, -self.side / 2
        yaw = turn + 0.25 * math.pi * (max(0.0, 1 - (self.side - s) / near) - max(0.0, 1 - s / near))
        cos, sin = math.cos(turn), math.sin(turn)
        return cos * x - sin * y, sin * x + cos * y, yaw

    @torch.no_grad()
    def read(self, index: int) -> tuple[Tensor, Tensor]:
        T_wc = self.ground_truth.T_wc[index]
        away = (self.centers - T_wc[:3, 3]).norm(dim=-1) - self.radii
        room = Room("building", [self.solids[i] for i in (away < SEEN).nonzero()[:, 0].tolist()], (), shaded=False)
        view = render(room, T_wc, self.K, self.size, antialias=False)
        return kinect(view.color.float(), view.depth.float(), view.normal.float(), self.K, 10**6 * self.seed + index)


def resident() -> float:
    """MB that this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Log:
    """Figures of a run, every so many frames."""

    def __init__(self, every: int) -> None:
        self.every, self.rows, self.stream = every, [], None
        self.before, self.began = {}, time.perf_counter()

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
        self.rows.append({
            "frames": done, "ms": sum(tracked.values()), "stages": stages, "resident_mb": resident(),
            "active": int(state.surfels.count[0]), "archive": sum(int(x.archive.count[0]) for x in closers),
            "stored": sum(x.count for x in stores), "files": sum(len(x.files) for x in stores),
            "keyframes": sum(len(x.keyframes) for x in closers), "loops": sum(len(x.loops) for x in closers),
            "submaps": len(submaps), "lost": int(not bool(state.tracking.ok[0])),
        })  # fmt: skip
        self.before = seconds
        print({name: value for name, value in self.rows[-1].items() if name != "stages"}, flush=True)


def growth(rows: list[dict], name: str) -> float | None:
    """The exponent p of a figure that grows as frames to the p, from the second row on; None of too few rows."""
    pairs = [(math.log(row["frames"]), math.log(row[name])) for row in rows[1:] if row[name] > 0]
    if len(pairs) < 2:
        return None
    x, y = torch.tensor(pairs, dtype=torch.float64).T
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def run(sequence: RGBDSequence, folder: Path, memory: float | None, every: int, compile: bool) -> dict:
    """Figures of one run; memory: MB of surfels, None for no limit."""
    store = None if memory is None else SurfelStore(folder, limit=1e6 * memory)
    relocalizer = Relocalizer(folder=None if memory is None else folder)
    log = Log(every)
    stream = Stream(
        gs.PointFusion(), sequence=sequence, on_frame=log, compile=compile, loops=LoopCloser(store=store),
        relocalizer=relocalizer,
    )  # fmt: skip
    log.stream = stream
    result = stream.run()
    before = resident()
    count = save_surfels(folder / "map.ply", [result.map[0], *([] if result.stored is None else result.stored())])
    error = evaluation.ate(sequence.ground_truth, result.localized)
    return {
        "memory_mb": memory, "rows": log.rows, "tracked": int(result.tracked.sum()), "loops": result.loops,
        "submaps": result.submaps, "surfels": count, "ate_cm": 100 * error.rmse,
        "export_mb": max(resident() - before, 0.0),
        "growth": {name: growth(log.rows, name) for name in ("ms", "resident_mb", "keyframes", "stored")},
        "last_to_first": log.rows[-1]["ms"] / log.rows[0]["ms"] if log.rows else None,
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
    runs = {}
    for limit in [memory, None] if unlimited else [memory]:
        with tempfile.TemporaryDirectory() as folder:
            runs["limited" if limit is not None else "unlimited"] = run(sequence, Path(folder), limit, every, compile)
    figures = {"frames": frames, "meters": meters, "laps": laps, "seed": seed, "runs": runs}
    save(name, figures, images=f"{size[1]}x{size[0]}, tracked as they are")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
