"""Recordings of Stray Scanner: a video, depth and confidence images, and the poses of a phone with a depth sensor."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from gradslam_ng.datasets.camera import Camera
from gradslam_ng.datasets.camera_files import with_given
from gradslam_ng.datasets.image_files import visible_files
from gradslam_ng.datasets.images import load_depth
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.intrinsics_text import read_camera_text
from gradslam_ng.datasets.polycam import without_guesses
from gradslam_ng.datasets.recorded import FRAME_RATE, RecordedSequence
from gradslam_ng.datasets.text import by_number
from gradslam_ng.datasets.video import VideoFrames
from gradslam_ng.geometry import se3
from gradslam_ng.io.text import parse_each, read_lines
from gradslam_ng.structures import Trajectory

FORM = "lines 'timestamp, frame, x, y, z, qx, qy, qz, qw'"
FILES = ("rgb.mp4", "camera_matrix.csv")


class StrayScanner(RecordedSequence):
    """A folder with `rgb.mp4`, `depth/`, `camera_matrix.csv` and `odometry.csv`, perhaps `confidence/`.

    Depth (256x192, millimeters) is smaller than the video, and belongs to it by number; where confidence has the least
    level, it is left out. Poses are in our axes already.

    Args:
        folder: of the recording.
        intrinsics: overrides the camera of the video.
        depth_scale: units in a meter; default 1000.

    Raises:
        ValueError: a file is not as described.
    """

    layout = "stray"
    expected_files = "rgb.mp4, depth/, camera_matrix.csv and odometry.csv of Stray Scanner"

    def __init__(
        self, folder: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        folder = Path(folder)
        self.video = VideoFrames(folder / FILES[0])
        depth = by_number(visible_files(folder / "depth"))
        confidence = by_number(visible_files(folder / "confidence"))
        self.numbers = [key[-1] for key in depth]
        self.depth = list(depth.values())
        self.confidence = [confidence.get(key) for key in depth]
        truth, times = _odometry(folder / "odometry.csv")
        known = [times.get(number, number / FRAME_RATE) for number in self.numbers]
        told = read_camera_text(folder / FILES[1])
        super().__init__(
            name=folder.resolve().name,
            layout=self.layout,
            camera=with_given(Camera(told.K, FILES[1]), intrinsics),
            depth_scale=depth_scale,
            timestamps=torch.tensor(known, dtype=torch.float64),
            ground_truth=truth,
        )

    @staticmethod
    def recognizes(path: Path) -> bool:
        return all((path / name).is_file() for name in FILES) and (path / "depth").is_dir()

    def decode_color(self, index: int) -> np.ndarray:
        return self.video.read(self.numbers[index])

    def decode_depth(self, index: int) -> np.ndarray:
        return without_guesses(load_depth(self.depth[index]), self.confidence[index])


def _odometry(path: Path) -> tuple[Trajectory | None, dict[int, float]]:
    """The poses in a file, and the time of each frame by its number; nothing without a file."""
    if not path.is_file():
        return None, {}
    parsed, _ = parse_each(read_lines(path, FORM).lines, lambda line: line.numbers(FORM)[:9])
    rows = torch.tensor([row for row in parsed if row is not None and len(row) == 9], dtype=torch.float64)
    if not len(rows):
        raise ValueError(f"{path}: expected {FORM}, got no such line")
    times = dict(zip(rows[:, 1].long().tolist(), rows[:, 0].tolist(), strict=True))
    q = rows[:, 5:] / rows[:, 5:].norm(dim=-1, keepdim=True)
    return Trajectory(rows[:, 0], se3.from_quaternion(rows[:, 2:5], q)), times
