"""Visual odometry of a wheeled robot: how far to trust each image, taught through a smoother's own solution.

The second task of Yi et al. 2021 ("Differentiable Factor Graph Optimization for Learning Smoothers", section V-B; there
a car on the roads of KITTI), on ground of our own: a robot drives through ten rendered halls. A small network says from
an image and its difference to the one before how fast the robot drives and turns; a factor graph on SE(2) joins that
with the law of motion. Somebody crosses in front of the camera now and then, the light goes out, wheels slip: how much
an image or the law is worth is learned, as constants or by input, by the surrogate loss through the optimizer (of the
pose or of the velocity), from the joint likelihood of the factors, or through an extended Kalman filter. An LSTM and
its bidirectional twin see the same features, and integrate the velocities they say.

All are taught on stretches of 20 steps of nine drives and of their mirror images, and tested on the tenth over 20 and
100 steps.

    python -m demos.research.visual_odometry --out out
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
import tyro

from demos.research.visual_odometry.figure import draw
from demos.research.visual_odometry.scene import record
from demos.research.visual_odometry.train import fold, table


def main(out: Path = Path("out"), folds: int = 10, drives: int = 10, steps: int = 401, epochs: int = 15) -> dict:
    """Write visual_odometry.png and .json.

    Args:
        out: folder for both.
        folds: drives that are held out, one after the other.
        drives: all together, each in a hall of its own.
        steps: of each drive, five a second; at least 101.
        epochs: of the network's training; the smoothers take two thirds of it, the LSTMs twice as many.
    """
    began = time.process_time()
    recorded = [record(seed, steps) for seed in range(drives)]
    print(f"{drives} drives rendered, {time.process_time() - began:.0f} s", flush=True)
    errors, shown = [], {}
    for k in range(min(folds, drives)):
        found, example = fold(recorded, k, epochs)
        errors.append(found)
        shown = shown or example
        print(f"fold {k}, {time.process_time() - began:.0f} s:", json.dumps(found), flush=True)
    rows = table(errors)
    numbers = {"error of the last pose": rows, "folds": len(errors), "seconds": time.process_time() - began}
    out.mkdir(parents=True, exist_ok=True)
    (out / "visual_odometry.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "visual_odometry.png", rows, shown)
    print(json.dumps(numbers, indent=2))
    return numbers


if __name__ == "__main__":
    with torch.random.fork_rng():
        tyro.cli(main)
