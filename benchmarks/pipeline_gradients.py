"""What the gradient of a whole system costs, and how near cheaper ones come: `python -m benchmarks.pipeline_gradients`.

Four frames at 320x240, gradients of poses and map to depth, color, K and poses. Processor time of one thread, the
least of several runs that take turns. The deviation is that of the gradient of the poses to the depth, relative to
"unroll", which differentiates what was computed.
"""

from __future__ import annotations

import time
from collections import defaultdict

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import gradslam_ng as gs
from benchmarks.memory import clip
from benchmarks.report import save
from gradslam_ng import optim
from gradslam_ng.odometry import ProjectiveICP

ODOMETERS = {"icp": lambda: "icp", "ground-truth": lambda: "ground-truth"} | {
    f"gradicp {mode}": lambda mode=mode: ProjectiveICP(backward=mode) for mode in optim.BACKWARD
}
CASES = [(gs.PointFusion, name) for name in ODOMETERS] + [
    (system, "gradicp unroll") for system in (gs.ICPSLAM, gs.ICPOdometry)
]


def run(system: type, odometer: str, frames: gs.RGBDFrames) -> tuple[float, float, Tensor]:
    """Seconds forward and backward, and the gradient of the poses to the depth."""
    inputs = [x.clone().requires_grad_() for x in (frames.color, frames.depth, frames.K, frames.T_wc)]
    slam = system(ODOMETERS[odometer]())
    began = time.process_time()
    map_, poses = slam(gs.RGBDFrames(*inputs))
    between = time.process_time()
    maps = (map_.points, map_.normals, map_.colors, map_.radii, map_.confidences)
    loss = poses.square().sum() + sum(value.square().sum() for value in maps)
    loss.backward(retain_graph=True)
    ended = time.process_time()
    weight = torch.randn(poses.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((weight * poses).sum(), inputs[1], allow_unused=True)
    return between - began, ended - between, torch.zeros_like(frames.depth) if gradient is None else gradient


def main(runs: int = 5) -> None:
    """Measure and print the table.

    Args:
        runs: Of each case.
    """
    torch.set_num_threads(1)
    frames, times, gradients = clip(12, (240, 320))[::3], defaultdict(list), {}
    for _ in range(runs):
        for case in CASES:
            *seconds, gradients[case] = run(*case, frames)
            times[case].append(seconds)
    table, rows = Table("system", "odometry", "forward [ms]", "backward [ms]", "backward / forward", "deviation"), {}
    exact = gradients[gs.PointFusion, "gradicp unroll"]
    for system, odometer in CASES:
        forward, backward = (1e3 * min(part) for part in zip(*times[system, odometer], strict=True))
        row = {"forward_ms": forward, "backward_ms": backward, "ratio": backward / forward}
        if system is gs.PointFusion and odometer.startswith("gradicp"):
            row["deviation"] = ((gradients[system, odometer] - exact).norm() / exact.norm()).item()
        rows[f"{system.__name__} {odometer}"] = row
        numbers = (f"{forward:.0f}", f"{backward:.0f}", f"{backward / forward:.2f}", f"{row.get('deviation', 0):.1e}")
        table.add_row(system.__name__, odometer, *numbers)
    Console().print(table)
    save("pipeline_gradients", {"rows": rows}, images="320x240")


if __name__ == "__main__":
    tyro.cli(main)
