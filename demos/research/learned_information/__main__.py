"""Learned information: how sure an alignment is, learned through the trajectory that is smoothed from many of them.

ICP aligns frames with those one, two, four and eight before; a factor graph joins all these motions. How much each is
worth is what its normal equations H say, in theory: in practice H knows nothing of errors that neighboring pixels
share, nor of a search that ended in the wrong place. A small network looks at each direction of H (its eigenvalue, how
much of it is a turn), at the overlap and at the residuals, and says by how much to trust it more or less. It is taught
by the surrogate loss (Yi et al. 2021) on random rooms: start at the truth, take two Gauss-Newton steps, ask that they
stay. Judged in rooms that it has not seen and on recordings, beside H itself, H divided by the variance of its
residuals, H under a robust kernel, and no weights at all. (A constant factor on H changes nothing: all factors are of
one kind.)

    python -m demos.research.learned_information --out out --real FOLDER_OF_RECORDINGS
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
import tyro

from demos.common.recordings import DATA, ratios, recordings
from demos.common.rooms import random_room
from demos.research.learned_information.figure import draw
from demos.research.learned_information.model import Edges, Hessian, Learned, Uniform
from demos.research.learned_information.train import clip, judge, recording, train

REAL = {"ICL office": slice(0, 100, 5), "TUM structure": slice(0, 240, 10), "7-Scenes kitchen": slice(0, 240, 10)}
SPEEDS = (2, 3, 4, 6)  # thirtieths of a second from one frame to the next


def main(
    out: Path = Path("out"),
    real: Path = DATA,
    size: tuple[int, int] = (60, 80),
    rooms: int = 16,
    unseen: int = 6,
    frames: int = 12,
    steps: int = 80,
    seeds: int = 2,
) -> dict:
    """Write learned_information.png and .json: each ATE, cm, and the mean over that with H itself.

    Args:
        out: folder for both.
        real: folder of recordings (see REAL); those that are not there are left out.
        size: image height and width.
        rooms: to train in.
        unseen: rooms to test in, every other one with a Kinect's noise instead of that trained with.
        frames: of each walk, of training and test.
        steps: of training.
        seeds: networks trained; the table has the mean of their errors.
    """
    began = time.perf_counter()
    taught = Edges.concatenate([clip(random_room(2000 + k), SPEEDS[k % 4], k, frames, size) for k in range(rooms)])
    models = {"H": Hessian(), "H / residual": Hessian(True), "none": Uniform(), "H, robust": Hessian()}
    for seed in range(seeds):
        torch.manual_seed(seed)
        models[f"learned {seed}"] = train(Learned().double(), taught, steps, 0.02, seed)
    tables = {"unseen rooms": {}, "recordings": {}}
    for k in range(unseen):
        edges = clip(random_room(k), SPEEDS[k // 2 % 4], 100 + k, frames, size, kinect=k % 2 == 1)
        name = f"room {k}, {SPEEDS[k // 2 % 4]} frames a step, {'Kinect' if k % 2 else 'as trained'}"
        tables["unseen rooms"][name] = judge(models, edges)
        print(name, tables["unseen rooms"][name], flush=True)
    for name, sequence in recordings(real, REAL):
        tables["recordings"][name] = judge(models, recording(sequence))
        print(name, tables["recordings"][name], flush=True)
    numbers = {
        "ATE, cm": tables,
        "mean ratio to H": {kind: ratios(rows, to="H") for kind, rows in tables.items() if rows},
        "seconds": time.perf_counter() - began,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "learned_information.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "learned_information.png", tables, taught, models["learned 0"])
    print(json.dumps(numbers["mean ratio to H"], indent=2))
    return numbers


if __name__ == "__main__":
    tyro.cli(main)
