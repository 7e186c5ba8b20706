"""What closing loops is worth, and whether one is ever false: `python -m benchmarks.loops [--only NAME]`.

Rendered: a room walked around twice and a corridor there and back, twice, with Kinect noise; two scenes that look like
themselves elsewhere, where a loop by looks alone would be false. Recordings: those below --data, which have no loops.
Each is run without and with `LoopCloser` (of a volume, `VolumeLoopCloser`): ATE, time, and every loop accepted against
the true motion between its two keyframes. A loop is false if it is off by more than 5 cm or 3 degrees. A keyframe is a
true revisit if one at least `window` frames older lies within 0.3 m and 20 degrees; it is recalled if it or one of its
five neighbors on either side closed a loop. Time is that of the processor, of all threads, and what tracking waits for
loops.

Marks: ATE with loops at most half of that without and at most 1 cm; no false loop, recall at least 80%; where there are
no loops, ATE within 2% and the frame rate within 10%. Rendering takes half a second a frame (--cache keeps the frames).
"""

from __future__ import annotations

import functools
import json
import math
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import RESULTS, save, stored
from gradslam_ng.datasets import RGBDSequence, Synthetic
from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser, VolumeLoopCloser

DATA = gs.datasets.data_folder()
RENDERED = {"corridor": ("loop", 1500), "living_room": ("loop", 1500), "twins": ("orbit", 800), "doors": ("orbit", 800)}
RECORDED = {
    "TUM fr3 structure_notexture_far": "tum/rgbd_dataset_freiburg3_structure_notexture_far",
    "7-Scenes redkitchen": "sevenscenes_tum/redkitchen",
    "ICL office kt3": "icl/office_room_traj3_frei_png",
}
FALSE = 0.05, 3.0  # meters and degrees
NEAR = 0.3, 20.0  # a revisit
NEIGHBORS = 5


class CachedSequence(RGBDSequence):
    """A sequence whose frames are kept in two files, made where they are missing."""

    def __init__(self, source: RGBDSequence, folder: Path, name: str) -> None:
        super().__init__(
            name=source.name, layout="memory", K=source.K, size=source.size, timestamps=source.timestamps,
            ground_truth=source.ground_truth, T_wc=source.T_wc,
        )  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{name}_{what}.npy" for what in ("color", "depth")]
        if not all(path.exists() for path in paths):
            frames = [source.read(index) for index in range(len(source))]
            np.save(paths[0], torch.stack([255 * color for color, _ in frames]).round().byte().numpy())
            np.save(paths[1], torch.stack([depth[..., 0] for _, depth in frames]).numpy())
        self.color, self.depth = (np.load(path, mmap_mode="r") for path in paths)

    def read(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        color, depth = (torch.from_numpy(images[index].copy()) for images in (self.color, self.depth))
        return color.float() / 255, depth[..., None]


def main(
    only: str = "", data: Path = DATA, cache: Path = RESULTS / "frames", size: tuple[int, int] = (240, 320),
    factor: int = 1, stop: int | None = None, photometric: bool = True, compile: bool = True,
    system: Literal["PointFusion", "KinectFusion"] = "PointFusion",
) -> None:  # fmt: skip
    """Every sequence without and with loops.

    Args:
        only: Sequences whose name contains this.
        data: Folder of the recordings.
        cache: Folder where rendered frames are kept.
        size: Image height and width of the rendered ones.
        factor: By which those are shrunk before tracking.
        stop: Frames of each to run.
        photometric: Track brightness too.
        compile: Use the compiled twins of hot functions.
        system: Whose loops.
    """
    variant = (f", {system}" if system != "PointFusion" else "") + (", shape alone" if not photometric else "")
    run = functools.partial(compare_runs, system, photometric, compile)
    figures = stored("loops")
    for name, (route, frames) in RENDERED.items():
        if only in name:
            source = Synthetic(name, frames=frames, size=size, noise="kinect", path=route)
            sequence = CachedSequence(source, cache, f"{name}_{route}_{frames}_{size[0]}")[:stop]
            figures[name + variant] = {"size": size, "factor": factor} | run(sequence, factor)
            print(name + variant, json.dumps(figures[name + variant], indent=1), flush=True)
            save("loops", figures, images="as in the rows", tracked="as in the rows, recordings 320x240")
    for name, folder in RECORDED.items():
        if only in name and (data / folder).is_dir():
            figures[name + variant] = run(gs.datasets.load(data / folder)[:stop], None)
            print(name + variant, json.dumps(figures[name + variant], indent=1), flush=True)
            save("loops", figures, images="as in the rows", tracked="as in the rows, recordings 320x240")


def compare_runs(system: str, photometric: bool, compile: bool, sequence: RGBDSequence, factor: int | None) -> dict:
    """The figures of one sequence, without loops and with them."""
    rows, closer = {}, LoopCloser()
    closing = closer if system == "PointFusion" else VolumeLoopCloser(closer)
    for name, loops in (("without", None), ("with", closing)):
        slam = getattr(gs, system)(odometry=gs.odometry.ProjectiveICP(photometric=photometric), factor=factor)
        began = time.process_time()
        result = slam.run(sequence, loops=loops, compile=compile)
        rows[name] = {
            "frames": len(result.trajectory),
            "ate_cm": 100 * gs.evaluation.ate(sequence.ground_truth, result.trajectory).rmse,
            "lost": int((~result.tracked).sum()),
            "ms_wall": sum(result.milliseconds.values()),
            "ms_wall_loops": result.milliseconds.get("loops", 0.0),
            "ms_processor": 1e3 * (time.process_time() - began) / len(result.trajectory),
        }
    return rows | {"loops": judge_loops(closer, sequence)}


def judge_loops(closer: LoopCloser, sequence: RGBDSequence) -> dict:
    """How true the loops are, and how many of those there were have been found."""
    T_wk = sequence.T_wc[closer.keyframes.frames]
    errors = []
    for loop in closer.loops:
        meters, radians = se3.distance(se3.inverse(T_wk[loop.i]) @ T_wk[loop.j], loop.T_ij)
        errors.append((float(meters), math.degrees(float(radians))))
    frames = torch.tensor(closer.keyframes.frames)
    meters, radians = se3.distance(T_wk[:, None], T_wk[None])
    near = (meters < NEAR[0]) & (radians < math.radians(NEAR[1]))
    revisits = (near & (frames[:, None] - frames[None] > closer.window)).any(-1).nonzero()[:, 0].tolist()
    recalled = [j for j in revisits if any(abs(loop.j - j) <= NEIGHBORS for loop in closer.loops)]
    false = sum(meters > FALSE[0] or degrees > FALSE[1] for meters, degrees in errors)
    return {
        "keyframes": len(frames),
        "accepted": len(errors),
        "false": false,
        "precision": 1 - false / len(errors) if errors else None,
        "revisits": len(revisits),
        "recall": len(recalled) / len(revisits) if revisits else None,
        "worst_cm": 100 * max((meters for meters, _ in errors), default=0.0),
        "worst_degrees": max((degrees for _, degrees in errors), default=0.0),
        "median_cm": 100 * float(np.median([meters for meters, _ in errors])) if errors else 0.0,
    }


if __name__ == "__main__":
    tyro.cli(main)
