"""What is left of a training when it is shared by two processes: `python -m benchmarks.distributed`.

The training of `demos.train_distributed` twice: by one process, and by two with half the clips each whose gradients are
averaged, as `DistributedDataParallel` does. Both take turns here in one process, so that nothing differs but how many
clips are worked on at once. How far weights are apart at the end, at most, is measured in several ways, for several
orders of the clips; and how far gradients are apart, relative to their length, in the first two steps and at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import gradslam_ng as gs
from benchmarks.report import save
from demos import train_distributed
from demos.common.clips import EMBEDDED, shrunk
from demos.depth_bias import bent
from gradslam_ng.odometry import ProjectiveICP

WIDTH, FRAMES, EVERY, LENGTH = 20, 13, 4, 2  # as in the test
CPU = torch.device("cpu")
Descent = Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True)
class Way:
    """How a training is done."""

    descent: Descent | None = None  # None: that of the demo
    backward: str = "implicit-gn"  # through tracking
    dtype: torch.dtype = torch.float32
    mean_in_double: bool = False  # of both processes' gradients
    clip_by_clip: bool = False  # by the one process, too: no clips are worked on at once


WAYS = {
    "as the demo": Way(),
    "in double precision": Way(dtype=torch.float64),
    "gradients averaged in double precision": Way(mean_in_double=True),
    "Adam with eps 0.1": Way(lambda loss: torch.optim.Adam(loss.parameters(), lr=1e-3, betas=(0.8, 0.95), eps=0.1)),
    "gradient descent, rate 0.001": Way(lambda loss: torch.optim.SGD(loss.parameters(), lr=1e-3)),
    "gradient descent, rate 0.01": Way(lambda loss: torch.optim.SGD(loss.parameters(), lr=1e-2)),
    "no gradient through tracking": Way(backward="detach"),
    "clip by clip": Way(clip_by_clip=True),
}


class Side:
    """One of the two trainings."""

    def __init__(self, way: Way, size: tuple[int, int], steps: int) -> None:
        start = train_distributed.Training.start(size, steps=steps, device=CPU, dtype=way.dtype)
        self.loss, self.descent = start.loss, start.descent
        odometry = ProjectiveICP(photometric=False, iterations=(3, 3), rotation_iterations=0, backward=way.backward)
        self.loss.slam = gs.PointFusion(odometry, factor=1)
        if way.descent is not None:
            self.descent = way.descent(self.loss)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.descent, steps)

    def gradient(self, clips: gs.RGBDFrames) -> Tensor:
        """Of all weights, one after the other."""
        self.descent.zero_grad()
        self.loss(clips).backward()
        return torch.cat([x.grad.flatten() for x in self.loss.parameters() if x.grad is not None])

    def step(self, gradient: Tensor) -> Tensor:
        """The weights after a step down a gradient."""
        sizes = [x.numel() for x in self.loss.parameters()]
        for x, part in zip(self.loss.parameters(), gradient.split(sizes), strict=True):
            x.grad = part.view_as(x).clone()
        self.descent.step()
        self.schedule.step()
        return torch.cat([x.detach().flatten() for x in self.loss.parameters()])


def compare(way: Way, seed: int, steps: int) -> dict[str, float]:
    """Both trainings, step by step."""
    images = shrunk(gs.datasets.load(EMBEDDED)[:FRAMES], WIDTH).to(dtype=way.dtype)
    clips = train_distributed.Clips(
        gs.RGBDFrames(images.color, bent(images.depth), images.K), length=LENGTH, every=EVERY
    )
    one, two = Side(way, images.size, steps), Side(way, images.size, steps)

    def plan(rank: int, size: int, batch: int) -> list[list[int]]:
        group = train_distributed.Group(rank, size, CPU)
        return train_distributed.batches(clips, group, batch=batch, first=0, steps=steps, seed=seed)

    def gradient(side: Side, parts: list[list[int]]) -> Tensor:
        found = [side.gradient(gs.RGBDFrames.stack([clips[i] for i in part])) for part in parts]
        precise = torch.float64 if way.mean_in_double else way.dtype
        return torch.stack([x.to(precise) for x in found]).mean(0).to(way.dtype)

    apart = []
    for whole, *halves in zip(plan(0, 1, 2), plan(0, 2, 1), plan(1, 2, 1), strict=True):
        alone = gradient(one, [[i] for i in whole] if way.clip_by_clip else [whole])
        together = gradient(two, halves)
        apart.append(float((alone - together).norm() / alone.norm()))
        weights, others = one.step(alone), two.step(together)
    figures = {"weights": float((weights - others).abs().max()), "largest weight": float(weights.abs().max())}
    return figures | {"first step": apart[0], "second step": apart[1], "at most": max(apart)}


def main(steps: int = 20, seeds: int = 8, threads: int = 1) -> None:
    """Print and keep the table.

    Args:
        steps: Of each training.
        seeds: Orders of the clips.
        threads: Of torch.
    """
    torch.set_num_threads(threads)
    columns = ("weights", "largest weight", "first step", "second step", "at most")
    table, rows = Table("", *columns, title="most over orders of the clips"), {}
    for name, way in WAYS.items():
        found = [compare(way, seed, steps) for seed in range(seeds)]
        rows[name] = {column: max(figures[column] for figures in found) for column in columns}
        table.add_row(name, *(f"{rows[name][column]:.0e}" for column in columns))
    Console().print(table)
    save("distributed", {"steps": steps, "seeds": seeds, "rows": rows}, images="32x24", threads=threads)


if __name__ == "__main__":
    tyro.cli(main)
