"""7-Scenes (Shotton et al. 2013): one folder `seq-XX` of a scene; BundleFusion's recordings (Dai et al. 2017)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from gradslam_ng.datasets.camera import assumed
from gradslam_ng.datasets.camera_files import find_camera
from gradslam_ng.datasets.files import FileSequence
from gradslam_ng.datasets.image_files import (
    COLOR_ENDINGS,
    DEPTH_ENDINGS,
    find_images,
    has_images,
    match_numbers,
    visible_files,
)
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.recorded import FRAME_RATE
from gradslam_ng.datasets.sequence import STRUCTURED_LIGHT_RANGE
from gradslam_ng.datasets.text import by_number, per_frame_truth, read_poses

CAMERA = (585.0, 585.0, 320.0, 240.0), (480, 640)  # fx, fy, cx, cy, pixels, of the depth camera, and its images' size
SCENES = ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs")
DEPTH_SCALE = 1000.0
NO_DEPTH = 65535


class SevenScenes(FileSequence):
    """A folder with `frame-000000.color.png` (or `.jpg`), `frame-000000.depth.png` and `frame-000000.pose.txt`.

    The data set's color images are as the Kinect took them, not registered to the depth images: their colors lie some
    pixels off. Poses are KinectFusion's estimates, camera to world. Time stamps are the frame numbers at 30 Hz.

    The camera is that of `intrinsics.txt` or `.json`, or BundleFusion's `info.txt`, in the folder or the one above it,
    else the data set's.

    Args:
        folder: of the sequence.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels; overrides the file's.
        depth_scale: units of the depth files in a meter; default: the camera file's, else 1000.

    Raises:
        ValueError: a pose is not as described; names the file.
        FileNotFoundError: no frame has both its files.
    """

    layout = "sevenscenes"
    expected_files = "frame-000000.color.png, frame-000000.depth.png [frame-000000.pose.txt]"
    max_depth = STRUCTURED_LIGHT_RANGE

    def __init__(
        self, folder: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        folder = Path(folder)
        color = by_number(find_images(folder, COLOR_ENDINGS, "frame-*.color"))
        depth = by_number(find_images(folder, DEPTH_ENDINGS, "frame-*.depth"))
        place = folder.resolve()
        is_certain = place.parent.name.lower() in SCENES and re.fullmatch(r"seq-\d\d", place.name) is not None
        default = assumed(*CAMERA, "7-Scenes", is_certain)
        camera = find_camera(intrinsics, [folder, place.parent], default)
        depth, depth_findings = match_numbers(list(color), depth, "depth images")
        poses, pose_findings = match_numbers(list(color), by_number(visible_files(folder, ".pose.txt")), "poses")
        timestamps = torch.tensor([key[-1] for key in color], dtype=torch.float64) / FRAME_RATE
        super().__init__(
            name="-".join(place.parts[-2:]),
            layout=self.layout,
            color=list(color.values()),
            depth=[depth.get(key, folder / f"frame-{key[-1]:06d}.depth.png") for key in color],
            camera=camera,
            timestamps=timestamps,
            depth_scale=depth_scale,
            default_scale=DEPTH_SCALE,
            no_depth=NO_DEPTH,
            findings=[*depth_findings, *pose_findings],
            notes=["time stamps: frame numbers at 30 Hz"],
            **(per_frame_truth(read_poses([poses.get(key) for key in color]), timestamps) if poses else {}),
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        return has_images(folder, DEPTH_ENDINGS, "frame-*.depth")
