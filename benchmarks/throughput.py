"""PointFusion against Open3D on the same frames in the same run: `python -m benchmarks.throughput [--size 320x240]`.

Against its dense SLAM (`t.pipelines.slam`), and its hybrid RGB-D odometry, which only compares each frame with the one
before. Frames wait in memory, each system's in the form that it takes. They take turns, a block of frames each, so that
whatever else the machine does meets all alike; all are held to the same cores and threads. The first block warms up
and does not count. A ratio is that of the mean times of a frame in each block; reported is its median over the blocks,
with the lowest and the highest.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import mean, median

import tyro

BLOCK = 10  # frames
RIVALS = {"open3d": "#b2182b", "open3d_hybrid_odometry": "#ef8a62"}  # and their colors in the plot


@dataclass
class Contender:
    """One of the systems, and how long it took."""

    step: Callable[[object], object]  # returns the pose T_wc, (4, 4)
    frames: list
    seconds: dict[str, float]  # filled by the system, by stage
    poses: list = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)  # mean milliseconds of a frame

    def advance(self, start: int) -> None:
        """One block of frames; what came before the second does not count."""
        if start == BLOCK:
            self.blocks.clear()
            self.seconds.clear()
        spent = []
        for frame in self.frames[start : start + BLOCK]:
            began = time.perf_counter()
            self.poses.append(self.step(frame))
            spent.append(time.perf_counter() - began)
        self.blocks.append(1e3 * mean(spent))

    def figures(self) -> dict:
        counted = BLOCK * len(self.blocks)
        stages = {stage: 1e3 * spent / counted for stage, spent in self.seconds.items()}
        return {"milliseconds": {"median": median(self.blocks), "mean": mean(self.blocks), "stages": stages}}


def throughput(
    sequence: str = "synthetic:living_room",
    frames: int = 100,
    size: str | None = None,
    threads: int = 2,
    depth_max: float = 4.0,
    compile: bool = True,
    preset: str = "default",
    busy: int = 0,
) -> None:
    """Milliseconds per frame of each system, by stage, and how many times as fast ours is.

    Args:
        sequence: Folder of a sequence, or synthetic:NAME.
        frames: The first so many, at least two blocks of ten.
        size: Width x height to which all frames are shrunk beforehand, by a whole factor; default: as they are.
        threads: Cores and threads for each system.
        depth_max: How far Open3D looks, meters; less makes it faster, and on large rooms less accurate. Ours looks as
            far as the sensor does.
        compile: Let our kernels run compiled, as `run` does on long sequences; compiled in the first block.
        preset: Ours: default, fast or accurate.
        busy: Programs that want a core beside, as on a machine that others use too.
    """
    _pin(threads)
    import torch

    from benchmarks import open3d_slam
    from benchmarks.report import working_size
    from gradslam_ng import datasets, evaluation
    from gradslam_ng.compute.compiled import compilation, seconds_compiling
    from gradslam_ng.slam.runtime import keep_memory, share_cores
    from gradslam_ng.structures import Trajectory

    torch.set_num_threads(threads)
    source = datasets.load(sequence)
    source = source[: min(frames, len(source)) // BLOCK * BLOCK]
    if len(source) < 2 * BLOCK:
        raise ValueError(f"frames: expected at least {2 * BLOCK}, got {len(source)}")
    factor = 1 if size is None else _factor(source.size, size)
    loaded = [shrunk(source[i], factor) for i in range(len(source))]
    fusion, state = build(preset), None
    K, (height, width) = loaded[0].K, loaded[0].size
    dense = open3d_slam.DenseSLAM(K, (height, width), depth_max=depth_max)
    hybrid = open3d_slam.HybridOdometry(K, depth_max)
    theirs = [open3d_slam.Frame.of(frame) for frame in loaded]

    def fuse(frame) -> torch.Tensor:
        nonlocal state
        decide_threads()  # as a run does between frames
        state = fusion.step(state, frame)
        return state.T_wc[0].double()

    contenders = {
        "gradslam_ng": Contender(fuse, loaded, fusion.timer.seconds),
        "open3d": Contender(dense.step, theirs, dense.seconds),
        "open3d_hybrid_odometry": Contender(hybrid.step, theirs, hybrid.seconds),
    }
    sharing = share_cores(reserved=0)  # frames are in memory already
    with torch.no_grad(), compilation(compile, wait=True), keep_memory(), _disturbed(busy), sharing as decide_threads:
        for start in range(0, len(loaded), BLOCK):
            for contender in contenders.values():
                contender.advance(start)

    figures = {"sequence": source.name, "size": f"{width}x{height}"}
    figures |= {
        "working_size": working_size((height, width), fusion),
        "threads": threads,
        "busy": busy,
        "compiled": compile,
        "seconds_compiling": seconds_compiling(),
        "preset": preset,
    }
    settings = {"voxel_size": dense.voxel_size, "depth_max": depth_max}
    figures |= {"frames": len(loaded) - BLOCK, "open3d_settings": settings}
    figures |= {name: contender.figures() for name, contender in contenders.items()}
    for name, contender in contenders.items():
        if source.ground_truth is not None:
            trajectory = Trajectory(source.timestamps, torch.stack(contender.poses))
            figures[name]["ate_cm"] = 100 * evaluation.ate(source.ground_truth, trajectory).rmse
    blocks = {name: contender.blocks for name, contender in contenders.items()}
    figures["times_as_fast_as"] = {name: _ratio(blocks[name], blocks["gradslam_ng"]) for name in RIVALS}
    variants = {size: size, preset: preset != "default", f"{threads}_threads": threads != 2, f"{busy}_busy": busy}
    variants["plain"] = not compile
    _report(figures, blocks, "_".join(["throughput", source.name, *(name for name, on in variants.items() if on)]))


@contextlib.contextmanager
def _disturbed(programs: int) -> Iterator[None]:
    """So many programs beside, each of which wants a core for itself."""
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for program in beside:
            program.kill()


def build(preset: str = "default"):
    """The system that is measured."""
    from gradslam_ng import PointFusion

    return PointFusion(settings=preset)


def shrunk(frame, factor: int):
    """A frame with images smaller by a whole factor, as the systems do it inside."""
    if factor == 1:
        return frame
    from gradslam_ng import RGBDFrames
    from gradslam_ng.geometry import camera, images

    color, depth = (x[None] for x in (frame.color, frame.depth))
    color, depth = images.downsample_color(color, factor)[0], images.downsample_depth(depth, factor)[0]
    return RGBDFrames(color, depth, camera.scale_intrinsics(frame.K, 1 / factor), frame.T_wc, frame.timestamps)


def _factor(size: tuple[int, int], wanted: str) -> int:
    height, width = size
    for factor in range(1, min(size) + 1):
        if wanted == f"{width // factor}x{height // factor}" and width % factor == height % factor == 0:
            return factor
    raise ValueError(f"size: expected {width}x{height} divided by a whole number, got {wanted!r}")


def _ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def _pin(threads: int) -> None:
    """Start anew, held to so many cores and threads, unless that is done; libraries read it when they are loaded."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    if all(os.environ.get(name) == str(threads) for name in names):
        return
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < threads:
            raise ValueError(f"threads: this machine has {len(cores)} cores, fewer than {threads}")
        os.sched_setaffinity(0, cores[:threads])
    command = [sys.executable, "-m", "benchmarks.throughput", *sys.argv[1:]]
    os.execve(sys.executable, command, os.environ | dict.fromkeys(names, str(threads)))


def _report(figures: dict, blocks: dict[str, list[float]], stem: str) -> None:
    """Print the figures and leave them as JSON and as a plot."""
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

    from benchmarks.report import save

    title = f"{figures['sequence']}, {figures['size']}, {figures['threads']} cores"
    table = Table("", "ms a frame", "by stage", "ATE [cm]", title=title)
    figure = Figure(figsize=(7, 3.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, color in (RIVALS | {"gradslam_ng": "#2166ac"}).items():
        spent, error = figures[name]["milliseconds"], figures[name].get("ate_cm")
        stages = ", ".join(f"{stage} {ms:.0f}" for stage, ms in spent["stages"].items())
        table.add_row(name, f"{spent['median']:.1f}", stages, "" if error is None else f"{error:.2f}")
        middles = [BLOCK * (i + 1.5) for i in range(len(blocks[name]))]
        axes.plot(middles, blocks[name], "o-", ms=4, color=color, label=name)
    console = Console()
    console.print(table)
    for name, ratio in figures["times_as_fast_as"].items():
        spread = f"({ratio['lowest']:.2f} to {ratio['highest']:.2f} by block)"
        console.print(f"{ratio['median']:.2f} times as fast as {name} {spread}")
    path = save(stem, figures, images=figures["size"], tracked=figures["working_size"], threads=figures["threads"])
    axes.set(xlabel="frame", ylabel="ms a frame", ylim=(0, None), title=title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path.with_suffix(".png"))
    console.print(f"written: {path}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(throughput)
