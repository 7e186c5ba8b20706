"""A frame of several sequences at once against that of one: `python -m benchmarks.batches`.

PointFusion, compiled, on one thread. Batches take turns, a frame each, in one process, so that whatever else the
machine does meets all alike; milliseconds are of the processor. A ratio is that of the same frame in a batch and alone:
reported is the median over frames and rounds, with the lowest and the highest.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

import gradslam_ng as gs
from benchmarks.report import save
from benchmarks.scaling import VIEWS, views
from benchmarks.throughput import build
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.datasets import Synthetic

WARM_UP = 6  # frames
MARKS = {2: 1.9, 8: 7.0}  # times one


def rounds(sequences: tuple[int, ...], repeats: int, width: int) -> dict[int, list[float]]:
    """By batch, milliseconds of each frame that counts, of all rounds but the first."""
    recorded = Synthetic("living_room", frames=VIEWS, size=(480, 640), noise="kinect")
    frames = gs.RGBDFrames.stack([recorded[i] for i in range(VIEWS)])
    batches = {batch: views(width, batch, frames) for batch in sequences}
    spent: dict[int, list[float]] = {batch: [] for batch in sequences}
    for number in range(1 + repeats):
        systems: dict[int, Any] = {batch: build() for batch in sequences}
        states: dict[int, Any] = dict.fromkeys(sequences)
        for i in range(VIEWS):
            for batch, system in systems.items():
                system.factor = 1
                began = time.process_time()
                states[batch] = system.step(states[batch], batches[batch][i])
                if number and i >= WARM_UP:
                    spent[batch].append(1e3 * (time.process_time() - began))
    return spent


@torch.no_grad()
def main(sequences: tuple[int, ...] = (1, 2, 4, 8), repeats: int = 5, width: int = 320) -> None:
    """Measure and print the table.

    Args:
        sequences: Batches, the first of which is what others are compared with.
        repeats: Rounds over the frames that count.
        width: Of the images, 4:3.
    """
    torch.set_num_threads(1)
    with compilation(wait=True):
        spent = rounds(sequences, repeats, width)
    table, rows = Table("sequences", "ms", "times one", "lowest", "highest", "mark"), []
    for batch, times in spent.items():
        ratios = [many / one for one, many in zip(spent[sequences[0]], times, strict=True)]
        row = {"batch": batch, "ms": median(times), "times_one": median(ratios)}
        row |= {"lowest": min(ratios), "highest": max(ratios), "mark": MARKS.get(batch)}
        rows.append(row)
        table.add_row(*("" if value is None else f"{value:.3g}" for value in row.values()))
    Console().print(table)
    save("batches", {"rounds": repeats, "rows": rows}, images=f"{width}x{width * 3 // 4}", threads=1)


if __name__ == "__main__":
    tyro.cli(main)
