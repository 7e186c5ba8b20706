"""Does tracking hold over wide steps? `python -m benchmarks.wide_steps [--only NAME]`: a walk, and recordings thinned.

Every so many-th frame of real recordings, by PointFusion as `run` does it, by its steps alone (no local features, a
lost camera stays where it was), and, as a peer, by OpenCV alone: SIFT, depth, PnP with RANSAC from frame to frame.
Errors are ATE RMSE after SE(3) alignment over all frames, those lost included, at the pose where they were left. A
frame is wrong if it moved by more than 5 cm or 5 degrees other than the truth since the frame before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import record
from gradslam_ng import evaluation
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.structures import Trajectory

DATA = gs.datasets.data_folder()
RECORDINGS = {  # folder, frames, steps
    "office walk": ("hololens/office_walk", 150, (1, 2, 3)),
    "redkitchen": ("sevenscenes_tum/redkitchen", 300, (10, 15, 20, 30)),
    "ICL kt3": ("icl/office_room_traj3_frei_png", 100, (10, 25)),
    "TUM fr3": ("tum/rgbd_dataset_freiburg3_structure_notexture_far", 250, (15, 30)),
}
WRONG = 0.05, 5.0  # meters and degrees

Method = Callable[[RGBDSequence], tuple[Trajectory, torch.Tensor]]  # poses, and `TrackingStatus` of each


@dataclass
class Row:
    """One method on one recording thinned to every `step`-th frame."""

    recording: str
    step: int
    method: str
    frames: int
    lost: int
    uncertain: int
    wrong: int  # of the frames called tracked
    ate_cm: float


def with_features(sequence: RGBDSequence) -> tuple[Trajectory, torch.Tensor]:
    """As `gradslam-ng run` does it."""
    result = gs.PointFusion().run(sequence, compile=False)
    return result.trajectory, result.statuses


def steps_alone(sequence: RGBDSequence) -> tuple[Trajectory, torch.Tensor]:
    """Frame by frame, each from the pose expected at constant velocity."""
    system, state, poses, statuses = gs.PointFusion(), None, [], []
    with torch.no_grad():
        for i in range(len(sequence)):
            state = system.step(state, sequence[i])
            poses.append(state.T_wc[0].double())
            statuses.append(state.tracking.status[0])
    return Trajectory(sequence.timestamps, torch.stack(poses)), torch.stack(statuses)


def opencv(sequence: RGBDSequence) -> tuple[Trajectory, torch.Tensor]:
    """SIFT, depth, PnP with RANSAC, from frame to frame."""
    detector, matcher = cv2.SIFT.create(1000, contrastThreshold=0.01), cv2.BFMatcher()
    poses, statuses, before = [np.eye(4)], [TrackingStatus.TRACKED], None
    for i in range(len(sequence)):
        frame = sequence[i]
        K, depth = frame.K.numpy().astype(float), frame.depth[..., 0].numpy()
        gray = cv2.cvtColor((255 * frame.color.numpy()).astype(np.uint8), cv2.COLOR_RGB2GRAY)
        keypoints, descriptors = detector.detectAndCompute(gray, None)
        pixels = np.array([k.pt for k in keypoints], float).reshape(-1, 2)
        u, v = (
            pixels.round().astype(int).T.clip(0, size - 1)[k] for k, size in ((0, gray.shape[1]), (1, gray.shape[0]))
        )
        z = depth[v, u][:, None]
        points = np.concatenate([(pixels - K[:2, 2]) / K[[0, 1], [0, 1]] * z, z], 1)
        if before is not None:
            T = _pnp(matcher, before, (pixels, descriptors), K)
            poses.append(poses[-1] @ (np.eye(4) if T is None else T))
            statuses.append(TrackingStatus.NO_OVERLAP if T is None else TrackingStatus.TRACKED)
        before = points, descriptors
    return Trajectory(sequence.timestamps, torch.tensor(np.stack(poses))), torch.tensor(statuses)


def _pnp(matcher, before, now, K: np.ndarray) -> np.ndarray | None:
    pairs = [pair for pair in matcher.knnMatch(now[1], before[1], k=2) if len(pair) == 2]
    good = [a for a, b in pairs if a.distance < 0.8 * b.distance and before[0][a.trainIdx, 2] > 0]
    if len(good) < 8:
        return None
    known, seen = before[0][[m.trainIdx for m in good]], now[0][[m.queryIdx for m in good]]
    found, rotation, translation, inliers = cv2.solvePnPRansac(known, seen, K, None, reprojectionError=2.0)
    if not found or inliers is None or len(inliers) < 8:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(rotation)[0], translation[:, 0]
    return np.linalg.inv(T)


METHODS: dict[str, Method] = {"with features": with_features, "steps alone": steps_alone, "OpenCV": opencv}


def measure(name: str, step: int, method: str, data: Path) -> Row:
    """One row of the table."""
    folder, frames, _ = RECORDINGS[name]
    sequence = gs.datasets.load(data / folder)[:frames:step]
    trajectory, statuses = METHODS[method](sequence)
    rpe = evaluation.rpe(sequence.ground_truth, trajectory)
    wrong = (rpe.translation.errors > WRONG[0]) | (rpe.rotation.errors > WRONG[1])
    tracked = TrackingStatus.is_tracked(statuses)
    called_right = ((statuses[1:] == TrackingStatus.TRACKED) & tracked[:-1])[-len(wrong) :]
    return Row(
        recording=name, step=step, method=method, frames=len(sequence),
        lost=int((~tracked).sum()), uncertain=int(TrackingStatus.is_uncertain(statuses).sum()),
        wrong=int((wrong & called_right).sum()),
        ate_cm=100 * evaluation.ate(sequence.ground_truth, trajectory).rmse,
    )  # fmt: skip


def main(data: Path = DATA, only: str | None = None) -> None:
    """Measure all, or one recording; each row is saved when it is done, in place of the one that was there.

    Args:
        data: folder of the recordings.
        only: name of a recording.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for name, (folder, _, steps) in RECORDINGS.items():
        if only not in (None, name):
            continue
        if not (data / folder).is_dir():
            print(f"{name}: left out, no folder {data / folder}")
            continue
        for step in steps:
            for method in METHODS:
                print(row := asdict(measure(name, step, method, data)), flush=True)
                images = "as in docs/datasets.md, 540 to 640 pixels"
                record("wide_steps", ("recording", "step", "method"), [row], images=images)


if __name__ == "__main__":
    tyro.cli(main)
