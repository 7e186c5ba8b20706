"""What a GPU makes of it, in one command of less than ten minutes: `python -m benchmarks.gpu`.

For every system and preset, on frames of the synthetic living room: whether its frames are captured as a CUDA graph
(`slam/graphed_step.py`), milliseconds of a frame, how far poses are from those of the CPU, memory; batches of clips;
forward and backward. What no longer fits into its time is left out, which is said. Without a GPU it runs on the CPU, of
which its figures are then, and nothing is captured.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng.datasets import Synthetic
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.slam.graphed_step import GraphedStep
from gradslam_ng.slam.settings import PRESETS
from gradslam_ng.slam.system import System

SYSTEMS: tuple[type[System], ...] = (gs.PointFusion, gs.KinectFusion, gs.ICPSLAM, gs.ICPOdometry)
BACKWARD = ("unroll", "implicit", "implicit-gn", "detach")
WARM_UP = 5  # frames that do not count: what is loaded and captured when first used


class Refusals(logging.Handler):
    """Why frames were not captured."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(device: torch.device, act: Callable[[], Any]) -> tuple[Any, float]:
    """What comes of it, and its time, seconds."""
    synchronize(device)
    began = time.perf_counter()
    result = act()
    synchronize(device)
    return result, time.perf_counter() - began


def memory(device: torch.device) -> float | None:
    """The most that tensors held on a GPU since the last call, MB."""
    if device.type != "cuda":
        return None
    most = torch.cuda.max_memory_allocated(device) / 1e6
    torch.cuda.reset_peak_memory_stats(device)
    return most


@torch.no_grad()
def track(system: System, frames: gs.RGBDFrames) -> tuple[torch.Tensor, list[float], bool]:
    """Poses (L, 4, 4) of frames (B, L) of the first clip, seconds of each frame, and whether they were captured."""
    device = frames.depth.device
    recorder = system.graph_recorder() if device.type == "cuda" else None
    step = GraphedStep(system, record=recorder) if recorder is not None else system.step
    state, poses, seconds = None, [], []
    for i in range(frames.shape[1]):
        state, spent = timed(device, lambda i=i, state=state: step(state, frames[:, i]))
        poses.append(state.T_wc[0].cpu())
        seconds.append(spent)
    return torch.stack(poses), seconds, isinstance(step, GraphedStep) and step.works


def of_systems(frames: gs.RGBDFrames, device: torch.device) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row for each system and preset."""
    there = frames.to(device)
    for kind in SYSTEMS:
        for name in PRESETS:
            if name == "soft" and kind is gs.ICPOdometry:
                continue
            memory(device)
            poses, seconds, captured = track(kind(settings=name).to(device), there)
            few = min(WARM_UP + 5, frames.shape[1])
            expected, _, _ = track(kind(settings=name), frames[:, :few])
            off = (poses[:few] - expected)[:, :3, 3].norm(dim=-1).max()
            figures = {"captured": captured, "ms": 1e3 * median(seconds[WARM_UP:]), "mb": memory(device)}
            yield f"{kind.__name__}, {name}", figures | {"mm_from_cpu": 1e3 * float(off)}


def of_batches(frames: gs.RGBDFrames, device: torch.device) -> Iterator[tuple[str, dict[str, Any]]]:
    """Frames of several clips at a time; all are of the one that is there."""
    for batch in (1, 2, 8):
        clips = frames.map(lambda x, batch=batch: x.expand(batch, *x.shape[1:])).to(device)
        memory(device)
        _, seconds, captured = track(gs.PointFusion().to(device), clips)
        yield f"{batch} clips", {"captured": captured, "ms": 1e3 * median(seconds[WARM_UP:]), "mb": memory(device)}


def train(frames: gs.RGBDFrames, backward: str) -> torch.Tensor:
    """Forward and backward; the gradient of depth."""
    depth = frames.depth.clone().requires_grad_()
    slam = gs.PointFusion(ProjectiveICP(backward=backward)).to(depth.device)
    map_, T_wc = slam(replace(frames, depth=depth))
    loss = T_wc.square().sum() + map_.points.square().mean()
    return torch.autograd.grad(loss, depth)[0]


def of_training(frames: gs.RGBDFrames, device: torch.device) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row for each way back through alignment."""
    there = frames.to(device)
    for way in BACKWARD:
        expected = train(frames, way)
        train(there, way)
        memory(device)
        found, seconds = timed(device, lambda way=way: train(there, way))
        off = float((found.cpu() - expected).norm() / expected.norm())
        yield f"backward, {way}", {"ms": 1e3 * seconds, "mb": memory(device), "gradient_from_cpu": off}


def main(size: str = "640x480", frames: int = 40, training_size: str = "160x120", minutes: float = 9.0) -> None:
    """Measure, print a table and write benchmarks/results/gpu.json.

    Args:
        size: Width x height of images that are tracked.
        frames: Of the clip.
        training_size: Width x height of images that gradients go back to.
        minutes: After which nothing more is begun.
    """
    began, refusals = time.perf_counter(), Refusals()
    logging.getLogger("gradslam_ng").addHandler(refusals)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clips = clip(size, frames), clip(training_size, min(frames, 8))
    rows: dict[str, dict[str, Any]] = {}
    complete = True
    for measure, given in ((of_systems, clips[0]), (of_batches, clips[0]), (of_training, clips[1])):
        for name, figures in measure(given, device):
            rows[name] = figures
            print(name, json.dumps(figures), flush=True)
            if time.perf_counter() - began > 60 * minutes:
                complete = False
                break
    table = Table("", "captured", "ms", "MB", "from the CPU")
    for name, row in rows.items():
        off = row.get("mm_from_cpu", row.get("gradient_from_cpu"))
        table.add_row(
            name, *("" if x is None else f"{x:.4g}" for x in (row.get("captured"), row["ms"], row["mb"], off))
        )
    Console().print(table, *refusals.said, "" if complete else "stopped: out of time", sep="\n")
    figures = {
        "rows": rows,
        "not_captured_because": refusals.said,
        "complete": complete,
        "training_size": training_size,
    }
    save("gpu" if device.type == "cuda" else "gpu_on_cpu", figures, images=size)


def clip(size: str, frames: int) -> gs.RGBDFrames:
    """(1, L), of a walk through a rendered room, with the noise of a Kinect."""
    width, height = map(int, size.split("x"))
    sequence = Synthetic("living_room", frames=max(50, frames), size=(height, width), noise="kinect")
    read = gs.RGBDFrames.stack([sequence[i] for i in range(frames)])
    return gs.RGBDFrames(read.color, read.depth, read.K)[None]


if __name__ == "__main__":
    tyro.cli(main)
