"""PointFusion against Open3D's dense SLAM on the same frames in the same run: `python -m benchmarks.throughput`.

Frames wait in memory, each system's in the form that it takes. The two take turns, a block of frames each, so that
whatever else the machine does meets both alike; both are held to the same cores and threads. The first block warms up
and does not count. The ratio is that of the mean times of a frame in each block; reported is its median over the
blocks, with the lowest and the highest.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean, median

import tyro

BLOCK = 10  # frames


@dataclass
class Contender:
    """One of the two systems, and how long it took."""

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
    threads: int = 2,
    depth_max: float = 4.0,
    compile: bool = True,
) -> None:
    """Milliseconds per frame of both systems, by stage, and their ratio.

    Args:
        sequence: Folder of a sequence, or synthetic:NAME.
        frames: The first so many, at least two blocks of ten.
        threads: Cores and threads for either system.
        depth_max: How far Open3D looks, metres; less makes it faster, and on large rooms less accurate. Ours looks as
            far as the sensor does.
        compile: Let our hot functions run compiled, as `run` does on long sequences; compiled in the first block.
    """
    _pin(threads)
    import torch

    from benchmarks import open3d_slam
    from gradslam_ng import PointFusion, datasets, evaluation
    from gradslam_ng.hot import compiling
    from gradslam_ng.structures import Trajectory

    torch.set_num_threads(threads)
    source = datasets.load(sequence)
    source = source[: min(frames, len(source)) // BLOCK * BLOCK]
    if len(source) < 2 * BLOCK:
        raise ValueError(f"frames: expected at least {2 * BLOCK}, got {len(source)}")
    loaded = [source[i] for i in range(len(source))]
    fusion, state = PointFusion(), None
    dense = open3d_slam.DenseSLAM(source.K, source.size, depth_max=depth_max)

    def fuse(frame) -> torch.Tensor:
        nonlocal state
        state = fusion.step(state, frame)
        return state.T_wc[0].double()

    contenders = {
        "gradslam_ng": Contender(fuse, loaded, fusion.seconds),
        "open3d": Contender(dense.step, [open3d_slam.Frame.of(frame) for frame in loaded], dense.seconds),
    }
    with torch.no_grad(), compiling(compile):
        for start in range(0, len(loaded), BLOCK):
            for contender in contenders.values():
                contender.advance(start)

    figures = {"sequence": source.name, "size": f"{source.size[1]}x{source.size[0]}"}
    figures |= {"threads": threads, "compiled": compile}
    settings = {"voxel_size": dense.voxel_size, "depth_max": depth_max}
    figures |= {"frames": len(loaded) - BLOCK, "open3d_settings": settings}
    figures |= {name: contender.figures() for name, contender in contenders.items()}
    for name, contender in contenders.items():
        if source.ground_truth is not None:
            trajectory = Trajectory(source.timestamps, torch.stack(contender.poses))
            figures[name]["ate_cm"] = 100 * evaluation.ate(source.ground_truth, trajectory).rmse
    ratios = [b / a for a, b in zip(*(contender.blocks for contender in contenders.values()), strict=True)]
    figures["times_as_fast"] = {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)}
    _report(figures, {name: contender.blocks for name, contender in contenders.items()})


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


def _report(figures: dict, blocks: dict[str, list[float]]) -> None:
    """Print the figures and leave them as JSON and as a plot."""
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

    from benchmarks.report import save

    title = f"{figures['sequence']}, {figures['size']}, {figures['threads']} cores"
    table = Table("", "ms a frame", "by stage", "ATE [cm]", title=title)
    figure = Figure(figsize=(7, 3.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, color in (("open3d", "#b2182b"), ("gradslam_ng", "#2166ac")):
        spent, error = figures[name]["milliseconds"], figures[name].get("ate_cm")
        stages = ", ".join(f"{stage} {ms:.0f}" for stage, ms in spent["stages"].items())
        table.add_row(name, f"{spent['median']:.1f}", stages, "" if error is None else f"{error:.2f}")
        middles = [BLOCK * (i + 1.5) for i in range(len(blocks[name]))]
        axes.plot(middles, blocks[name], "o-", ms=4, color=color, label=name)
    console = Console()
    console.print(table)
    ratio = figures["times_as_fast"]
    console.print(f"{ratio['median']:.2f} times as fast ({ratio['lowest']:.2f} to {ratio['highest']:.2f} by block)")
    path = save(f"throughput_{figures['sequence']}", figures)
    axes.set(xlabel="frame", ylabel="ms a frame", ylim=(0, None), title=title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path.with_suffix(".png"))
    console.print(f"written: {path}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(throughput)
