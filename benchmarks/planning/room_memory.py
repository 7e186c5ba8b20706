"""What a plan with its gradient to depth holds in memory: `python -m benchmarks.planning.room_memory`.

The task of the demo plan_in_room: the living room, images of 128 x 96 in double precision. Each number of frames in a
process of its own; peak of the process through forward and backward pass, and beyond what it was before.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
from pathlib import Path

import torch
import tyro

from benchmarks.report import save
from demos.plan_in_room import Task, differentiate, living_room


def measure(frames: int, size: tuple[int, int]) -> dict[str, float]:
    """MB, of this process."""
    torch.set_num_threads(1)
    task = Task(living_room(frames, size), (-1.6, 0.4), (1.6, 0.3), radius=0.15)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    differentiate(task)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"peak_mb": peak, "beyond_mb": peak - before}


def main(frames: tuple[int, ...] = (6, 12, 24), size: tuple[int, int] = (96, 128)) -> None:
    """Measure.

    Args:
        frames: Numbers of frames.
        size: Image height and width.
    """
    rows = {}
    for count in frames:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows[str(count)] = pool.apply(measure, (count, size))
        print(count, rows[str(count)], flush=True)
    save("planning_room_memory", {"rows": rows}, images=f"{size[1]}x{size[0]}")


if __name__ == "__main__":
    tyro.cli(main)
