"""What a differentiable PointFusion holds in memory: `python -m benchmarks.memory`.

Clips of the synthetic living room at 320x240 with given poses, float32, gradients to depth, color, K and every pose.
Extra memory is the peak of what all tensors hold through the forward and the backward pass, less the same without
gradients (and without the inputs' own gradients asked for); beside it the peak of the process, measured in a process of
its own. gradSLAM's figures are those of its own code on the same task.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng.datasets import Synthetic

FRAMES = (5, 20, 50)
GRADSLAM = {5: 180, 20: 1312, 50: 6920}  # MB
MARK = {5: 90, 20: 360, 50: 900}  # MB; half of it with checkpoint
MODES = ("no gradient", "plain", "checkpoint")


def clip(frames: int, size: tuple[int, int]) -> gs.RGBDFrames:
    """The first frames of the living room, rendered at their true poses."""
    sequence = Synthetic("living_room", frames=max(frames, 50), size=size, noise="kinect")
    views = gs.RGBDFrames.stack([sequence[i] for i in range(frames)])
    return gs.RGBDFrames(views.color, views.depth, views.K, sequence.T_wc[:frames].float())


def differentiate(frames: gs.RGBDFrames, mode: str) -> None:
    """Forward and, unless the mode says otherwise, backward."""
    inputs = [x.clone() for x in (frames.color, frames.depth, frames.K, frames.T_wc)]
    slam = gs.PointFusion("ground-truth")
    if mode == "no gradient":
        with torch.no_grad():
            slam(gs.RGBDFrames(*inputs))
        return
    map_, _ = slam(gs.RGBDFrames(*(x.requires_grad_() for x in inputs)), checkpoint=mode == "checkpoint")
    outputs = (map_.points, map_.normals, map_.colors, map_.radii, map_.confidences)
    sum(value.square().sum() for value in outputs).backward()


def tensors(act: Callable[..., None], *args) -> float:
    """Peak of what tensors hold during act(*args) beyond what they held before, MB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        act(*args)
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


def process(frames: gs.RGBDFrames, mode: str) -> float:
    """Peak of the process beyond what it was before, MB."""
    differentiate(clip(2, (24, 32)), mode)  # so that the libraries' code is there
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    differentiate(frames, mode)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e6


def training(steps: int) -> list[float]:
    """MB that the process has in use after each step of learning through 20 frames of 160x120."""
    frames, used = clip(20, (120, 160)), []
    depth = torch.nn.Parameter(frames.depth.clone())
    slam, optimizer = gs.PointFusion(), torch.optim.SGD([depth], lr=1e-6)
    for _ in range(steps):
        optimizer.zero_grad()
        map_, poses = slam(gs.RGBDFrames(frames.color, depth, frames.K, frames.T_wc))
        ((poses - frames.T_wc).square().sum() + map_.points.square().mean()).backward()
        optimizer.step()
        used.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return used


def _alone(function, *args):
    """function(*args) in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def main(frames: tuple[int, ...] = FRAMES, steps: int = 50) -> None:
    """Measure and print the table.

    Args:
        frames: Lengths of clips.
        steps: Of training, for the figure whether it grows.
    """
    rows = {}
    table = Table("frames", "", "extra, tensors [MB]", "extra, process [MB]", "mark [MB]", "gradSLAM [MB]")
    for length in frames:
        views = clip(length, (240, 320))
        peaks = {mode: (_alone(tensors, differentiate, views, mode), _alone(process, views, mode)) for mode in MODES}
        for mode in MODES[1:]:
            extra, beyond = (there - here for there, here in zip(peaks[mode], peaks["no gradient"], strict=True))
            mark = MARK.get(length, 18 * length) / (2 if mode == "checkpoint" else 1)
            rows[f"{length} {mode}"] = {"tensors_mb": extra, "process_mb": beyond, "mark_mb": mark}
            theirs = str(GRADSLAM.get(length, "")) if mode == "plain" else ""
            table.add_row(str(length), mode, f"{extra:.0f}", f"{beyond:.0f}", f"{mark:.0f}", theirs)
    Console().print(table)
    used = _alone(training, steps)
    warm = min(3, steps - 1)
    grown = {"steps": steps, "after_warm_up_mb": used[warm], "most_after_mb": max(used[warm:]), "last_mb": used[-1]}
    Console().print(f"training: {grown}")
    save("memory", {"rows": rows, "training": grown}, images="320x240, training 160x120")


if __name__ == "__main__":
    tyro.cli(main)
