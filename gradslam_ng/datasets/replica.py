"""Replica (Straub et al. 2019), as rendered for iMAP and shipped by NICE-SLAM."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.datasets.camera import assumed
from gradslam_ng.datasets.camera_files import find_camera
from gradslam_ng.datasets.files import FileSequence
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.image_files import COLOR_ENDINGS, DEPTH_ENDINGS, find_images, has_images, match_numbers
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.recorded import FRAME_RATE
from gradslam_ng.datasets.text import by_number, per_frame_truth, read_pose_table, unknown_pose

CAMERA = (600.0, 600.0, 599.5, 339.5), (680, 1200)  # fx, fy, cx, cy, pixels, and height and width of the images
SCENE = re.compile(r"room_?[0-2]|office_?[0-4]")  # how folders of the data set are called
DEPTH_SCALE = 6553.5


class Replica(FileSequence):
    """A folder with `results/frame000000.jpg`, `results/depth000000.png` and `traj.txt`, one 4x4 pose a line.

    Camera and depth scale are those of `cam_params.json` in the folder or the one above it, else the data set's. Time
    stamps are the frame numbers at 30 Hz. Poses belong to the frames in their order where there is one for each, else
    to frame numbers, counted from 0.

    Args:
        folder: of the scene.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels; overrides the file's.
        depth_scale: units of the depth files in a meter; overrides the file's.

    Raises:
        ValueError: `traj.txt` or `cam_params.json` is not as described, or the poses do not fit the frames.
        FileNotFoundError: no frame has both its files.
    """

    layout = "replica"
    expected_files = "results/frame000000.jpg, results/depth000000.png [traj.txt; cam_params.json there or one above]"

    def __init__(
        self, folder: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        folder = Path(folder)
        results = folder / "results"
        color = by_number(find_images(results, COLOR_ENDINGS, "frame*"))
        depth = by_number(find_images(results, DEPTH_ENDINGS, "depth*"))
        depth, found = match_numbers(list(color), depth, "depth images")
        default = assumed(*CAMERA, "Replica", SCENE.fullmatch(folder.resolve().name) is not None)
        camera = find_camera(intrinsics, [folder, folder.resolve().parent], default)
        timestamps = torch.tensor([key[-1] for key in color], dtype=torch.float64) / FRAME_RATE
        poses, findings = _poses(folder / "traj.txt", [key[-1] for key in color])
        super().__init__(
            name=folder.resolve().name,
            layout=self.layout,
            color=list(color.values()),
            depth=[depth.get(key, results / f"depth{key[-1]:06d}.png") for key in color],
            camera=camera,
            timestamps=timestamps,
            depth_scale=depth_scale,
            default_scale=DEPTH_SCALE,
            notes=["time stamps: frame numbers at 30 Hz"],
            findings=[*found, *findings],
            **(per_frame_truth(poses, timestamps) if poses else {}),
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        return has_images(folder / "results", COLOR_ENDINGS, "frame*")


def _poses(path: Path, numbers: list[int]) -> tuple[list[Tensor], list[Finding]]:
    """The pose (4, 4) of each frame, by the order of the lines or the frames' numbers; none without a file."""
    if not path.is_file():
        return [], []
    poses = read_pose_table(path)
    if not poses or len(poses) == len(numbers):
        return poses, []
    if numbers[0] > 0 and numbers[-1] >= len(poses):
        raise ValueError(
            f"{path}: {len(poses)} poses for {len(numbers)} frames, numbered {numbers[0]} to {numbers[-1]}; expected "
            "one for each frame, or for each number from 0"
        )
    found = [Finding("note", "poses.by_number", f"{path.name}: line n is taken for the pose of frame n - 1")]
    if numbers[0] == 1:
        text = f"{path.name}: frames are numbered from 1; its first line is taken for frame 0, which is not there"
        found = [Finding("warning", "poses.by_number", text)]
    return [poses[number] if number < len(poses) else unknown_pose() for number in numbers], found
