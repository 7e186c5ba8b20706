"""7-Scenes (Shotton et al. 2013): one folder `seq-XX` of a scene."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from gradslam_ng.datasets.files import FRAME_RATE, FileSequence
from gradslam_ng.datasets.intrinsics import Intrinsics, find_intrinsics
from gradslam_ng.datasets.sequence import STRUCTURED_LIGHT_RANGE
from gradslam_ng.datasets.text import by_number, per_frame_truth, read_poses

CAMERA = (585.0, 585.0, 320.0, 240.0)  # fx, fy, cx, cy, pixels, of the depth camera
NO_DEPTH = 65535


class SevenScenes(FileSequence):
    """A folder with `frame-000000.color.png` (or `.jpg`), `frame-000000.depth.png` and `frame-000000.pose.txt`.

    The data set's color images are as the Kinect took them, not registered to the depth images: their colors lie some
    pixels off. Poses are KinectFusion's estimates, camera to world. Time stamps are the frame numbers at 30 Hz.

    Args:
        folder: of the sequence.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels; default `intrinsics.txt` in the folder, else the data set's.
        depth_scale: units of the depth files in a meter.

    Raises:
        ValueError: a pose is not as described; names the file.
        FileNotFoundError: no frame has both its files.
    """

    layout = "sevenscenes"
    expected_files = "frame-000000.color.png, frame-000000.depth.png [frame-000000.pose.txt]"
    max_depth = STRUCTURED_LIGHT_RANGE

    def __init__(
        self, folder: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float = 1000.0
    ) -> None:
        folder = Path(folder)
        K, note = find_intrinsics(intrinsics, folder, CAMERA)
        color, depth = by_number(folder.glob("frame-*.color.*")), by_number(folder.glob("frame-*.depth.png"))
        poses = by_number(folder.glob("frame-*.pose.txt"))
        timestamps = torch.tensor([key[-1] for key in color], dtype=torch.float64) / FRAME_RATE
        super().__init__(
            name="-".join(folder.resolve().parts[-2:]),
            layout=self.layout,
            color=list(color.values()),
            depth=[depth.get(key, folder / f"frame-{key[-1]:06d}.depth.png") for key in color],
            K=K,
            timestamps=timestamps,
            depth_scale=depth_scale,
            no_depth=NO_DEPTH,
            notes=[note, "time stamps: frame numbers at 30 Hz"],
            **(per_frame_truth(read_poses([poses.get(key) for key in color]), timestamps) if poses else {}),
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        return any(folder.glob("frame-*.depth.png"))
