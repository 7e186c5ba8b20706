"""What does a frame cost while the camera is lost? `python -m benchmarks.lost_frames`.

Sixty frames of redkitchen, then 25 of another recording, where the camera is lost: too few for a new submap. Images are
in memory. Milliseconds of processor time of a frame by `on_frame`, tracked ones from the tenth on; and with more places
known, whose descriptors are random.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean

import torch
import tyro
from torch import Tensor

import gradslam_ng as gs
from benchmarks.report import save
from benchmarks.trust_scenes import Picked
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.places import Relocalizer
from gradslam_ng.slam import State

DATA = gs.datasets.data_folder()
FOLDERS = "sevenscenes_tum/redkitchen", "icl/office_room_traj3_frei_png"
TRACKED, LOST, FIRST = 60, 25, 10  # frames; those before the tenth do not count
PLACES = 0, 100, 1000  # more


@dataclass
class Row:
    """One run."""

    places: int
    tracked_ms: float  # of a frame, in the mean
    lost_ms: float
    first_lost_ms: float  # of the frame in which the camera is lost
    lost: int


class Interrupted(Picked):
    """The beginning of a recording, then frames of another one, taken as if by the same camera; decoded once."""

    def __init__(self, first: RGBDSequence, other: RGBDSequence) -> None:
        super().__init__(first, list(range(TRACKED + LOST)))
        self.frames = [first[i] for i in range(TRACKED)] + [other[30 + i] for i in range(LOST)]

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        return self.frames[index].color, self.frames[index].depth


def measure(sequence: RGBDSequence, places: int, compile: bool) -> Row:
    """One run, with so many places more."""
    relocalizer, at = Relocalizer(), [time.process_time()]

    def add_places(index: int, state: State) -> None:
        if index == TRACKED - 1:
            keyframes = relocalizer.keyframes
            rows = torch.nn.functional.normalize(torch.randn(places, len(keyframes.descriptors[0])), dim=-1)
            for row in rows.to(keyframes.descriptors[0]):
                keyframes.add(0, keyframes.T_wk[0], row)
                keyframes.images.append(keyframes.images[0])
        at.append(time.process_time())

    result = gs.PointFusion().run(sequence, add_places, compile, relocalizer=relocalizer)
    spent = [1000 * (b - a) for a, b in pairwise(at)]
    lost = int((~result.tracked[TRACKED:]).sum())
    return Row(places, mean(spent[FIRST : TRACKED - 1]), mean(spent[TRACKED:]), spent[TRACKED], lost)


def main(data: Path = DATA, compile: bool = True) -> None:
    """Measure with few and many places.

    Args:
        data: Folder of the recordings; default: what GRADSLAM_NG_DATA names.
        compile: Use compiled kernels.
    """
    torch.set_num_threads(1)
    sequence = Interrupted(*(gs.datasets.load(data / folder) for folder in FOLDERS))
    measure(sequence, 0, compile)  # compiles
    rows = []
    for places in PLACES:
        rows.append(measure(sequence, places, compile))
        print(rows[-1], flush=True)
    measured = {"compiled": compile, "rows": [asdict(row) for row in rows]}
    save("lost_frames", measured, images="640x480", tracked="320x240")


if __name__ == "__main__":
    tyro.cli(main)
