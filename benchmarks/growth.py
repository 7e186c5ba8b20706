"""A thousand frames of looking back and forth: do time and memory stay? `python -m benchmarks.growth`."""

from __future__ import annotations

import resource
import time

import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng.datasets import Synthetic
from gradslam_ng.hot import compiling


@torch.no_grad()
def main(frames: int = 1000, cycle: int = 200, compile: bool = True) -> None:
    """Track a cycle of looking there and back, over and over.

    Args:
        frames: In all.
        cycle: Frames rendered, kept in memory and shown again and again.
        compile: Use the compiled twins of hot functions.
    """
    sequence = Synthetic("living_room", frames=cycle, size=(240, 320), noise="kinect", path="back_and_forth")
    views = [sequence[i] for i in range(cycle)]
    views += views[::-1]  # so that the last meets the first
    slam, state, times, sizes, memory = gs.PointFusion(), None, [], [], []
    with compiling(compile):
        for i in range(frames):
            began = time.perf_counter()
            state = slam.step(state, views[i % len(views)])
            times.append(1e3 * (time.perf_counter() - began))
            sizes.append(int(state.map.count[0]))
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    warm = len(views)  # everything has been seen once
    first, last = (sorted(t)[50] for t in (times[warm : warm + 100], times[-100:]))
    figures = {
        "ms_first_100_after_warm_up": first, "ms_last_100": last, "ratio": last / first,
        "surfels_after_warm_up": sizes[warm], "surfels_at_the_end": sizes[-1],
        "peak_memory_mb_after_warm_up": memory[warm], "peak_memory_mb_at_the_end": memory[-1],
    }  # fmt: skip
    print("\n".join(f"{name}: {value:.2f}" for name, value in figures.items()))
    save("growth", {"frames": frames, **figures})


if __name__ == "__main__":
    tyro.cli(main)
