"""Does a run hold for a hurried camera, and for parts in the wrong order? `python -m benchmarks.hurried [--only ROW]`.

A living room with Kinect noise at a hand's speed; every third and every sixth frame of it, each color image the mean of
the frames around it, as an exposure of two thirds of the time between two would show it, and one frame in ten left out.
And the second half of the office walk before the first one: submaps must be joined. Errors are ATE RMSE of all frames,
those lost included, after SE(3) alignment; ratios are to the whole recording, undisturbed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import record
from benchmarks.robustness import Bench
from benchmarks.trust_scenes import HURRIED_FRAMES, Hurried, Picked
from gradslam_ng import evaluation
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.datasets.synthetic import Synthetic

DATA = gs.datasets.data_folder()
CACHE = Path("out/hurried")
SIZE = (240, 320)
WALK = "hololens/office_walk", 150  # folder, frames


@dataclass
class Row:
    """One disturbance."""

    name: str
    frames: int
    lost: int
    submaps: int  # not joined with each other, the map among them
    ate_cm: float
    undisturbed_cm: float
    mark: float  # at most so many times that


def living_room() -> RGBDSequence:
    """The room at a hand's speed, rendered once."""
    scene = partial(Synthetic, "living_room", frames=HURRIED_FRAMES, size=SIZE, noise="kinect")
    return Bench(gs.PointFusion, Path(), CACHE, False).rendered(f"living_room_{HURRIED_FRAMES}", scene)


def walk(data: Path) -> RGBDSequence:
    """The office walk."""
    folder, frames = WALK
    return gs.datasets.load(data / folder)[:frames]


def swapped(sequence: RGBDSequence) -> RGBDSequence:
    """The second half, then the first one."""
    half = len(sequence) // 2
    return Picked(sequence, [*range(half, len(sequence)), *range(half)], seconds=0.2)


def track(sequence: RGBDSequence) -> tuple[gs.slam.Result, float]:
    """A run, and its ATE in cm."""
    result = gs.PointFusion().run(sequence, compile=False)
    return result, 100 * evaluation.ate(sequence.ground_truth, result.trajectory).rmse


def measure(name: str, undisturbed: float, disturbed: RGBDSequence, mark: float) -> Row:
    """One row; undisturbed: the ATE of the whole, cm."""
    result, found = track(disturbed)
    lost = int((~result.tracked).sum())
    return Row(name, len(result.statuses), lost, len(result.submaps), found, undisturbed, mark)


def rows(data: Path) -> dict[str, Callable[[], Row]]:
    """All of them by name."""

    undisturbed = cache(lambda: track(living_room())[1])

    def hurried(name: str, speed: int, mark: float) -> Row:
        return measure(name, undisturbed(), Hurried(living_room(), speed), mark)

    def in_wrong_order(name: str) -> Row:
        return measure(name, track(walk(data))[1], swapped(walk(data)), 1.2)

    found: dict[str, Callable[[], Row]] = {}
    for speed, mark in ((3, 2.0), (6, 4.0)):
        name = f"living room, {speed} times as fast"
        found[name] = partial(hurried, name, speed, mark)
    if (data / WALK[0]).is_dir():
        found["office walk, second half first"] = partial(in_wrong_order, "office walk, second half first")
    return found


def main(data: Path = DATA, only: str = "") -> None:
    """Measure all, or some; each row is saved when it is done.

    Args:
        data: Folder of the recordings; default: what GRADSLAM_NG_DATA names.
        only: Rows whose name contains this.
    """
    torch.set_num_threads(1)
    for name, make in rows(data).items():
        if only in name:
            print(row := make(), flush=True)
            images = "rendered 320x240, office walk 540x360"
            record("hurried", ("name",), [asdict(row)], images=images, tracked="walk by half")


if __name__ == "__main__":
    tyro.cli(main)
