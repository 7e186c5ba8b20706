"""Learned weights: a small network looks at a frame and says how far to trust each of its depths, for tracking.

It is trained end to end: frames from random rooms, with noise that grows with range and slant, are aligned by ICP under
the network's weights, and the error of the pose goes back through ICP into the network. Nobody tells it the noise.
Judged by trajectories in rooms and on recordings that it has not seen, beside a constant (the one of six with which
tracking in training rooms is best) and a model made by hand (Nguyen et al. 2012), all within PointFusion at 160 pixels
across.

    python -m demos.research.learned_weights --out out --real FOLDER_OF_RECORDINGS
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
import tyro

from demos.common.recordings import DATA, ratios, recordings
from demos.common.rooms import random_room
from demos.research.learned_weights.figure import draw, exponents
from demos.research.learned_weights.model import Constant, Network
from demos.research.learned_weights.train import best_constant, clip, judge, train, training_pairs
from gradslam_ng.datasets.synthetic.rooms import room
from gradslam_ng.preprocessing import axial_noise

REAL = {"ICL office": slice(0, 100), "TUM structure": slice(0, 240, 2), "7-Scenes kitchen": slice(0, 300, 2)}
UNSEEN = {
    "living room": (partial(room, "living_room"), 0),
    "living room, elsewhere": (partial(room, "living_room"), 1),
    "random room 1": (partial(random_room, 1), 0),
    "random room 2": (partial(random_room, 2), 0),
}


def main(
    out: Path = Path("out"),
    real: Path = DATA,
    size: tuple[int, int] = (120, 160),
    rooms: int = 40,
    steps: int = 150,
    seeds: int = 1,
    frames: int = 40,
) -> dict:
    """Write learned_weights.png and .json: each ATE, cm, and for each kind of place the mean over a constant's.

    Args:
        out: folder for both.
        real: folder of recordings (see REAL); those that are not there are left out.
        size: image height and width.
        rooms: to train in.
        steps: of training.
        seeds: networks trained, each from its own start, on its own pairs and noise.
        frames: of each test in a room not seen in training.
    """
    pairs = training_pairs(rooms, 4, size)
    constant = best_constant(min(rooms, 3), max(frames // 2, 3), size)
    models = {"constant": Constant(constant), "made by hand": axial_noise}
    for seed in range(seeds):
        torch.manual_seed(seed)
        models[f"learned {seed}"] = train(Network(constant), pairs, steps, 0.02, seed)
        print(f"seed {seed}: range^p, cosine^-q:", exponents(models[f"learned {seed}"], size), flush=True)
    learned = [name for name in models if name.startswith("learned")]

    tables = {"unseen rooms": {}, "recordings": {}}
    for name, (place, seed) in UNSEEN.items():
        tables["unseen rooms"][name] = judge(models, *clip(place(), seed, frames, size))
        print(name, tables["unseen rooms"][name], flush=True)
    for name, sequence in recordings(real, REAL):
        views = (sequence[i] for i in range(len(sequence)))
        tables["recordings"][name] = judge(models, views, sequence.ground_truth)
        print(name, tables["recordings"][name], flush=True)
    numbers = {
        "constant, m": constant,
        "ATE, cm": tables,
        "mean ratio to constant": {k: ratios(v, to="constant") for k, v in tables.items() if v},
        "grows with range^p / cosine^q": {name: exponents(models[name], size) for name in learned},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "learned_weights.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "learned_weights.png", models["learned 0"], tables, size)
    print(json.dumps(numbers, indent=2))
    return numbers


if __name__ == "__main__":
    tyro.cli(main)
