"""Replica (Straub et al. 2019), as rendered for iMAP and shipped by NICE-SLAM."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from gradslam_ng.datasets.files import FRAME_RATE, FileSequence
from gradslam_ng.datasets.intrinsics import Intrinsics, parse_intrinsics, read_intrinsics
from gradslam_ng.datasets.text import by_number, per_frame_truth, read_pose_table, unknown_pose

CAMERA = (600.0, 600.0, 599.5, 339.5)  # fx, fy, cx, cy, pixels, of images of 1200x680
DEPTH_SCALE = 6553.5


class Replica(FileSequence):
    """A folder with `results/frame000000.jpg`, `results/depth000000.png` and `traj.txt`, one 4x4 pose a line.

    Camera and depth scale are those of `cam_params.json` in the folder or the one above it, else the data set's. Time
    stamps are the frame numbers at 30 Hz.

    Args:
        folder: of the scene.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels; overrides the file's.
        depth_scale: units of the depth files in a meter; overrides the file's.

    Raises:
        ValueError: `traj.txt` or `cam_params.json` is not as described.
        FileNotFoundError: no frame has both its files.
    """

    layout = "replica"
    expected_files = "results/frame000000.jpg, results/depth000000.png [traj.txt; cam_params.json there or one above]"

    def __init__(
        self, folder: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        folder = Path(folder)
        K, scale, note = parse_intrinsics(CAMERA), DEPTH_SCALE, "camera: that of the data set"
        for path in (folder / "cam_params.json", folder.resolve().parent / "cam_params.json"):
            if path.is_file():
                K, file_scale = read_intrinsics(path)
                scale, note = DEPTH_SCALE if file_scale is None else file_scale, f"camera: {path}"
                break
        if intrinsics is not None:
            K, note = parse_intrinsics(intrinsics), "camera: as given"
        results = folder / "results"
        color, depth = by_number(results.glob("frame*.jpg")), by_number(results.glob("depth*.png"))
        timestamps = torch.tensor([key[-1] for key in color], dtype=torch.float64) / FRAME_RATE
        truth = folder / "traj.txt"
        poses = read_pose_table(truth) if truth.is_file() else []
        of_frame = [poses[key[-1]] if key[-1] < len(poses) else unknown_pose() for key in color]
        super().__init__(
            name=folder.resolve().name,
            layout=self.layout,
            color=list(color.values()),
            depth=[depth.get(key, results / f"depth{key[-1]:06d}.png") for key in color],
            K=K,
            timestamps=timestamps,
            depth_scale=scale if depth_scale is None else depth_scale,
            notes=[note, "time stamps: frame numbers at 30 Hz"],
            **(per_frame_truth(of_frame, timestamps) if poses else {}),
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        return any((folder / "results").glob("frame*.jpg"))
