"""A step of training, plain and within `compilation()`: `python -m benchmarks.training`.

Forward and backward of PointFusion over clips of the synthetic living room, gradients to depth through poses and map.
Plain and compiled steps take turns in one process, on one thread, and the processor's time counts; the first two of
each, in which versions are loaded or made, do not. Beside them the forward pass without gradients, that in which they
are recorded, what tensors hold at most, and how far both gradients are from that of the same images in double
precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import gradslam_ng as gs
from benchmarks.memory import tensors
from benchmarks.report import save
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.datasets import Synthetic

FEW = 3  # frames in which what tensors hold is measured: what is recorded for that of eight takes 12 GB
KNOWN_POSES = "known-poses"  # nothing is aligned: the map alone is differentiated
BACKWARD = ("unroll", "implicit", "detach", KNOWN_POSES)


def clips(batch: int, length: int, size: tuple[int, int], dtype: torch.dtype) -> gs.RGBDFrames:
    """Clips (B, L) one after the other, with the noise of a Kinect."""
    sequence = Synthetic("living_room", frames=max(50, batch * length), size=size, noise="kinect")
    frames = gs.RGBDFrames.stack([sequence[i] for i in range(batch * length)])
    images = (x.to(dtype).unflatten(0, (batch, length)) for x in (frames.color, frames.depth, frames.K, frames.T_wc))
    return gs.RGBDFrames(*images)


def system(backward: str) -> gs.PointFusion:
    return gs.PointFusion("ground-truth" if backward == KNOWN_POSES else gs.odometry.ProjectiveICP(backward=backward))


def forward(frames: gs.RGBDFrames, backward: str) -> tuple[Tensor, Tensor]:
    """The forward pass of a step: depth, and the loss."""
    depth = frames.depth.clone().requires_grad_()
    map_, T_wc = system(backward)(replace(frames, depth=depth))
    return depth, T_wc.square().sum() + map_.points.square().mean()


def train(frames: gs.RGBDFrames, backward: str) -> Tensor:
    """One step; the gradient of depth."""
    depth, loss = forward(frames, backward)
    loss.backward()
    assert depth.grad is not None
    return depth.grad


@torch.no_grad()
def look(frames: gs.RGBDFrames, backward: str) -> None:
    """The forward pass alone."""
    system(backward)(frames)


def timed(act: Callable[[], object]) -> float:
    """Seconds of the processor."""
    began = time.process_time()
    act()
    return time.process_time() - began


def in_double(frames: gs.RGBDFrames) -> gs.RGBDFrames:
    return frames.map(Tensor.double)


def apart(a: Tensor, b: Tensor) -> float:
    """Relative to the length of b."""
    return float((a.double() - b).norm() / b.norm())


def compare(frames: gs.RGBDFrames, backward: str, repeats: int, compiled: bool) -> dict[str, float]:
    """Medians of steps that take turns, seconds; and how far the compiled gradient is off, relative to its length."""
    ways = ("plain", "compiled") if compiled else ("plain",)
    acts: dict[str, Callable[..., object]] = {"_forward": look, "_recorded": forward, "": train}
    seconds: dict[str, list[float]] = {name + act: [] for name in ways for act in acts}
    for _ in range(2 + repeats):
        for name in ways:
            with compilation(name == "compiled", wait=True):
                for act, function in acts.items():
                    seconds[name + act].append(timed(partial(function, frames, backward)))
    figures = {name: median(times[2:]) for name, times in seconds.items()}
    few = frames[:, :FEW]
    figures["plain_mb"] = tensors(train, few, backward)
    plain, exact = train(frames, backward), train(in_double(frames), backward)
    figures["plain_error"] = apart(plain, exact)
    if compiled:
        with compilation(wait=True):
            figures["compiled_mb"] = tensors(train, few, backward)
            found = train(frames, backward)
        figures["difference"], figures["compiled_error"] = apart(found, plain), apart(found, exact)
        figures["times_as_fast"] = figures["plain"] / figures["compiled"]
        figures["recorded_of_forward"] = figures["compiled_recorded"] / figures["compiled_forward"]
        figures["step_of_forward"] = figures["compiled"] / figures["compiled_forward"]
    return figures


def main(
    batch: int = 4,
    length: int = 8,
    size: str = "160x120",
    repeats: int = 5,
    backward: tuple[str, ...] = BACKWARD,
    float64: bool = False,
    compiled: bool = True,
) -> None:
    """Measure and print the table.

    Args:
        batch: Clips.
        length: Frames of each.
        size: Width x height.
        repeats: Steps that count.
        backward: Ways back through alignment, and known-poses, with those of the recording in its place.
        float64: In double precision.
        compiled: Compare with compiled functions; all that are missing are compiled first, which takes minutes.
    """
    torch.set_num_threads(1)
    width, height = map(int, size.split("x"))
    posed = clips(batch, length, (height, width), torch.float64 if float64 else torch.float32)
    names = ("plain", "compiled", "times_as_fast", "recorded_of_forward", "step_of_forward", "difference")
    names += ("plain_error", "compiled_error", "plain_mb", "compiled_mb")
    table, rows = Table("backward", *(name.replace("_", " ") for name in names)), {}
    for way in backward:
        frames = posed if way == KNOWN_POSES else replace(posed, T_wc=None)
        rows[way] = compare(frames, way, repeats, compiled)
        table.add_row(way, *(f"{rows[way].get(name, float('nan')):.3g}" for name in names))
    Console().print(table)
    figures = {"batch": batch, "length": length, "precision": "float64" if float64 else "float32", "rows": rows}
    save("training_float64" if float64 else "training", figures, images=size, threads=1)


if __name__ == "__main__":
    tyro.cli(main)
