"""What does refinement after a run bring? `python -m benchmarks.refinement [--only NAME]`.

ATE before and after, the misfit of surfels held out, and sharpness: every second frame but those held out is fused at
the poses of the run and at the refined ones, and the median difference in depth between the map and the frames held
out, seen from their poses, is taken. Time is that of the refinement beside that of the run, in one process.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import save, stored
from gradslam_ng import evaluation
from gradslam_ng.datasets import RGBDSequence, Synthetic
from gradslam_ng.refinement import refine
from gradslam_ng.refinement.keyframes import frames_of_run
from gradslam_ng.refinement.propagation import fuse_again
from gradslam_ng.rendering import predict_surfels
from gradslam_ng.structures import Trajectory
from gradslam_ng.structures.origin import relative_to_origin

DATA = gs.datasets.data_folder()
RECORDINGS = {  # folder, frames
    "ICL office kt3": ("icl/office_room_traj3_frei_png", 100),
    "TUM fr3 structure_notexture_far": ("tum/rgbd_dataset_freiburg3_structure_notexture_far", 250),
    "7-Scenes redkitchen": ("sevenscenes_tum/redkitchen", 200),
}
RENDERED = {"living room, clean": "none", "living room, Kinect noise": "kinect"}
FRAMES = 100  # of a rendered room, of 300 on its path
HELD_OUT, FUSED = 10, 2  # every so many-th frame


@dataclass
class Row:
    """One recording."""

    recording: str
    frames: int
    keyframes: int
    taken: bool
    ate_cm: tuple[float, float]  # before and after
    ate_scale_free_cm: tuple[float, float]
    misfit: tuple[float, float]  # where it was refused, what refined poses would have had
    sharpness_mm: tuple[float, float]
    times_the_run: float  # what refinement took


def open_sequence(name: str, data: Path) -> RGBDSequence | None:
    """A recording or a rendered room; None where it is not there."""
    if name in RENDERED:
        return Synthetic("living_room", frames=300, size=(480, 640), noise=RENDERED[name])[:FRAMES]
    folder, frames = RECORDINGS[name]
    return gs.datasets.load(data / folder)[:frames] if (data / folder).is_dir() else None


@torch.no_grad()
def sharpness(system: gs.PointFusion, sequence: RGBDSequence, trajectory: Trajectory, tracked: torch.Tensor) -> float:
    """Median difference in depth, mm, of frames held out to the map that others make."""
    frames = frames_of_run(trajectory.timestamps, sequence)
    number = torch.arange(len(tracked))
    held = tracked & (number % HELD_OUT == HELD_OUT // 2)
    origin = trajectory.T_wc[0, :3, 3]
    T_oc = relative_to_origin(trajectory.T_wc, origin, torch.float64)
    map_ = fuse_again(system, sequence, frames, T_oc, tracked & ~held & (number % FUSED == 0))
    differences = []
    for i in held.nonzero()[:, 0].tolist():
        live = system.preprocess(sequence[frames[i]])
        view = predict_surfels(map_, T_oc[i : i + 1].float(), live.surface.K, live.surface.size, 1.0)
        both = (view.weights > 0.5) & (live.surface.weights > 0)
        differences.append((view.vertices[..., 2] - live.surface.vertices[..., 2]).abs()[both])
    return 1e3 * float(torch.cat(differences).median())


def sharpness_at_truth(sequence: RGBDSequence) -> float:
    """Sharpness, mm, at the poses that a recording tells."""
    truth = sequence.ground_truth
    assert truth is not None
    T_wc, known = truth.at(sequence.timestamps)
    T_wc = torch.where(known[:, None, None], T_wc, T_wc[known][0])
    return sharpness(gs.PointFusion(), sequence, Trajectory(sequence.timestamps, T_wc), known)


def measure(name: str, sequence: RGBDSequence) -> Row:
    """A run, its refinement, and both maps."""
    system = gs.PointFusion()
    begun = time.perf_counter()
    result = system.run(sequence, compile=False)
    ran = time.perf_counter()
    found = refine(system, sequence, result)
    refined = time.perf_counter()
    both = (found.before, found.result)
    ate, free = (
        [100 * evaluation.ate(sequence.ground_truth, one.localized, align=align).rmse for one in both]
        for align in ("se3", "sim3")
    )
    sharp = [sharpness(system, sequence, one.trajectory, one.tracked) for one in both[: 1 + found.taken]]
    misfit = found.misfit or (float("nan"), float("nan"))
    return Row(
        name, len(result.tracked), found.keyframes, found.taken, (ate[0], ate[1]), (free[0], free[1]), misfit,
        (sharp[0], sharp[-1]), (refined - ran) / (ran - begun),
    )  # fmt: skip


def main(data: Path = DATA, only: str = "", truth: bool = False) -> None:
    """Measure all, or those recordings whose name contains `only`; rows of the others stay.

    Args:
        data: folder of the recordings.
        only: part of a name.
        truth: print the sharpness at the poses that recordings tell, and measure nothing else.
    """
    torch.set_num_threads(1)
    rows = {row["recording"]: row for row in stored("refinement").get("rows", [])}
    for name in (*RECORDINGS, *RENDERED):
        if only not in name:
            continue
        sequence = open_sequence(name, data)
        if sequence is None:
            print(f"{name}: left out, it is not below {data}")
            continue
        if truth:
            print(f"{name}: {sharpness_at_truth(sequence):.2f} mm at the poses told", flush=True)
            continue
        rows[name] = asdict(measure(name, sequence))
        print(rows[name], flush=True)
        ordered = [rows[each] for each in (*RECORDINGS, *RENDERED) if each in rows]
        save("refinement", {"rows": ordered}, images="640x480", tracked="320x240")


if __name__ == "__main__":
    tyro.cli(main)
