"""Learned noise: a smoother that knows how far to trust each image, taught through its own solution.

The visual tracking task of Yi et al. 2021 ("Differentiable Factor Graph Optimization for Learning Smoothers", section
V-A; after Haarnoja et al. 2016), made here: a red disk on a spring moves among other disks, which often cover it. A
small network says where the disk is; a factor graph joins that with the law of motion. How much either is worth is
learned: one standard deviation for all images, or one for each, by a head of the network; by the surrogate loss through
the optimizer, or by the joint likelihood of the factors, or through an extended Kalman filter. An LSTM and its
bidirectional twin see the same features and know no law of motion.

In a second scene nothing covers the disk and it stays in the picture; instead images are grainy, the camera shakes, and
a steady wind, a different one in each sequence, pushes the disk without the law of motion knowing. There the
likelihood, which takes what the law leaves out for new in every step, is wrong about it, as it is on the recordings of
a car in Yi et al.

Every method starts from the simple one: noise by input from the constant noise found by the same loss, the LSTMs from
the network alone.

A fold takes about a minute and a quarter of one core in each scene.

    python -m demos.research.disk_tracking --out out
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
import tyro

from demos.research.disk_tracking.figure import draw
from demos.research.disk_tracking.scene import SCENES, simulate
from demos.research.disk_tracking.train import fold, table


def main(out: Path = Path("out"), folds: int = 10, sequences: int = 300, steps: int = 24, epochs: int = 12) -> dict:
    """Write disk_tracking.png and .json.

    Args:
        out: folder for both.
        folds: of the cross-validation.
        sequences: all together, in each scene.
        steps: in each.
        epochs: of every training.
    """
    began = time.perf_counter()
    tables, shown = {}, {}
    for scene in SCENES:
        truth, images = simulate(SCENES[scene], sequences, steps, torch.Generator().manual_seed(0))
        errors = []
        for k in range(folds):
            found, example = fold(truth, images, torch.arange(sequences) % folds == k, epochs, seed=k)
            errors.append(found)
            shown.setdefault(scene, example)
            print(f"{scene}, fold {k}:", found, flush=True)
        tables[scene] = table(errors)
    numbers = {"position error, pixels": tables, "folds": folds, "seconds": time.perf_counter() - began}
    out.mkdir(parents=True, exist_ok=True)
    (out / "disk_tracking.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "disk_tracking.png", tables, shown["in a crowd"])
    print(json.dumps(numbers, indent=2))
    return numbers


if __name__ == "__main__":
    tyro.cli(main)
