"""What a frame is bound by: bytes that its loops move, and calls of compiled functions: `python -m benchmarks.bound`.

Bytes are those of all tensors that compiled functions are given and return: the least that is moved, but for maps that
are gathered from, which count whole. What memory gives is measured by copying between tensors that no cache holds. What
calls cost is a frame of images an eighth as wide, on which loops take next to nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
import tyro
from rich.console import Console

from benchmarks.report import save, working_size
from benchmarks.throughput import build, shrunk
from gradslam_ng import datasets
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.compute.kernel_files import Version
from gradslam_ng.compute.tree import tree_leaves

WARM_UP = 10  # frames
COPIED = 2**26  # numbers, 256 MB
SHRUNK = 8


@dataclass
class Count:
    """Calls of compiled functions, and the bytes that they are given and return."""

    calls: int = 0
    bytes: int = 0
    frames: list[float] = field(default_factory=list)  # seconds

    def add(self, tensors: list[torch.Tensor], result: Any) -> None:
        moved = {x.data_ptr(): x.numel() * x.element_size() for x in (*tensors, *tree_leaves(result))}
        self.calls += 1
        self.bytes += sum(moved.values())


def bound(sequence: str = "synthetic:living_room", frames: int = 60, threads: int = 1, preset: str = "default") -> None:
    """Milliseconds of a frame, beside those of moving its bytes and of its calls alone.

    Args:
        sequence: Folder of a sequence, or synthetic:NAME.
        frames: The first so many, more than ten.
        threads: Of torch.
        preset: default, fast or accurate.
    """
    torch.set_num_threads(threads)
    source = datasets.load(sequence)
    loaded = [source[i] for i in range(min(frames, len(source)))]
    if len(loaded) <= WARM_UP:
        raise ValueError(f"frames: expected more than {WARM_UP}, got {len(loaded)}")
    whole, counted = run(loaded, preset), run(loaded, preset, count=True)
    small = run([shrunk(frame, SHRUNK) for frame in loaded], preset)
    later, rate = len(loaded) - WARM_UP, copy_rate()
    figures: dict[str, Any] = {
        "sequence": source.name,
        "preset": preset,
        "frame_ms": 1e3 * median(whole.frames),
        "calls": counted.calls / later,
        "megabytes": counted.bytes / later / 1e6,
        "gigabytes_per_second": rate / 1e9,
        "memory_ms": 1e3 * counted.bytes / later / rate,
        "calls_ms": 1e3 * median(small.frames),
    }
    figures["times_the_sum"] = figures["frame_ms"] / (figures["memory_ms"] + figures["calls_ms"])
    console = Console()
    console.print(figures)
    height, width = loaded[0].size
    tracked = working_size((height, width), build(preset))
    path = save(f"bound_{source.name}", figures, images=f"{width}x{height}", tracked=tracked, threads=threads)
    console.print(f"written: {path}", soft_wrap=True)


def run(frames: list, preset: str, count: bool = False) -> Count:
    """All frames, those that warm up left out."""
    system, state, found = build(preset), None, Count()
    call = Version.__call__

    def noted(self: Version, tensors: list[torch.Tensor]) -> Any:
        given = list(tensors)
        result = call(self, tensors)
        found.add(given, result)
        return result

    with torch.no_grad(), compilation(wait=True):
        for i, frame in enumerate(frames):
            if count and i == WARM_UP:
                Version.__call__ = noted  # type: ignore[method-assign]
            began = time.perf_counter()
            try:
                state = system.step(state, frame)
            finally:
                if i == len(frames) - 1:
                    Version.__call__ = call  # type: ignore[method-assign]
            if i >= WARM_UP:
                found.frames.append(time.perf_counter() - began)
    return found


def copy_rate() -> float:
    """Bytes read and written in a second."""
    source, target = torch.ones(COPIED), torch.empty(COPIED)
    spent = []
    for _ in range(5):
        began = time.perf_counter()
        target.copy_(source)
        spent.append(time.perf_counter() - began)
    return 2 * source.numel() * source.element_size() / min(spent)


if __name__ == "__main__":
    tyro.cli(bound)
