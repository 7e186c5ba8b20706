"""Is the right place among the first? `python -m benchmarks.retrieval`: recall at 1, 5 and 10.

Places are every so many-th frame of a recording, questions the frames in the middle between two of them. A place is
right if the camera stood within 0.6 m and 30 degrees of it. Keyframes are found by tiny images and the greatest
correlation of all shifts; beside them stand tiny images as they are, and VLAD of SIFT (Jegou et al. 2010) with 16
words, learned from the places themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor
from torch.nn.functional import normalize

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng.geometry import images, se3
from gradslam_ng.places import sift, tiny_image_descriptor
from gradslam_ng.structures import RGBDFrames

DATA = gs.datasets.data_folder()
RECORDINGS = {  # folder, frames from place to place
    "office walk": ("hololens/office_walk", 6),
    "redkitchen": ("sevenscenes_tum/redkitchen", 20),
    "ICL kt3": ("icl/office_room_traj3_frei_png", 10),
}
NEAR = 0.6, math.radians(30)
RANKS = 1, 5, 10
WORDS, ROUNDS = 16, 8


@dataclass
class Row:
    """One way on one recording."""

    recording: str
    way: str
    places: int
    questions: int  # that have a right place
    recall: list[float]  # at each of RANKS


def local_descriptors(frame: RGBDFrames) -> Tensor:
    """(N, 128)."""
    return sift((255 * images.intensity(frame.color)[..., 0]).byte())[1]


def words(descriptors: Tensor) -> Tensor:
    """Centers (WORDS, D) of descriptors (N, D), by k-means."""
    generator = torch.Generator().manual_seed(0)
    centers = descriptors[torch.randperm(len(descriptors), generator=generator)[:WORDS]]
    for _ in range(ROUNDS):
        nearest = torch.cdist(descriptors, centers).argmin(1)
        sums = torch.zeros_like(centers).index_add_(0, nearest, descriptors)
        centers = sums / torch.bincount(nearest, minlength=WORDS).clamp(min=1)[:, None]
    return centers


def vlad(descriptors: Tensor, centers: Tensor) -> Tensor:
    """(WORDS * D,), of unit length: per word the sum of differences, each of unit length."""
    nearest = torch.cdist(descriptors, centers).argmin(1)
    sums = torch.zeros_like(centers).index_add_(0, nearest, descriptors - centers[nearest])
    return normalize(normalize(sums, dim=-1).flatten(), dim=-1)


def codes(frames: list[RGBDFrames], step: int) -> dict[str, Callable[[], Tensor]]:
    """By way, what gives the codes (L, S, D) of frames, every `step`-th of which is a place."""

    def of_words() -> Tensor:
        local = [local_descriptors(frame) for frame in frames]
        centers = words(torch.cat(local[::step]))
        return torch.stack([vlad(x, centers) for x in local])[:, None]

    def shifted() -> Tensor:
        return torch.stack([tiny_image_descriptor(system.preprocess(frame)) for frame in frames])

    system = gs.PointFusion()
    return {"tiny images, shifted": shifted, "tiny images": lambda: shifted()[:, :1], "VLAD": of_words}


@torch.no_grad()
def measure(name: str, data: Path) -> list[Row]:
    """All ways on a recording."""
    folder, step = RECORDINGS[name]
    whole = gs.datasets.load(data / folder)
    sequence = whole[:: step // 2]  # a place, a question, a place, ...
    frames = [sequence[i] for i in range(len(sequence))]
    T_wc = sequence.T_wc.double()
    known = T_wc.isfinite().flatten(1).all(-1)
    places, questions = (torch.arange(first, len(frames), 2) for first in (0, 1))
    places, questions = places[known[places]], questions[known[questions]]
    meters, radians = se3.distance(T_wc[questions][:, None], T_wc[places][None])
    right = (meters < NEAR[0]) & (radians < NEAR[1])
    asked = right.any(1)
    rows = []
    for way, code in codes(frames, 2).items():
        found = code()
        order = (found[questions] @ found[places, 0].mT).amax(1).argsort(1, descending=True)
        hits = right.gather(1, order)[asked]
        recall = [float(hits[:, :rank].any(1).double().mean()) for rank in RANKS]
        rows.append(Row(name, way, len(places), int(asked.sum()), recall))
    return rows


def main(data: Path = DATA) -> None:
    """Measure all recordings that are there."""
    torch.set_num_threads(1)
    rows = []
    for name, (folder, _) in RECORDINGS.items():
        if (data / folder).is_dir():
            rows += measure(name, data)
            print(*rows[-3:], sep="\n", flush=True)
    save("retrieval", {"rows": [asdict(row) for row in rows]}, images="as recorded", tracked="by half")


if __name__ == "__main__":
    tyro.cli(main)
