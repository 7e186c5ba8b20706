"""Raw data of Polycam, as its app exports it in developer mode: `keyframes/` of a phone with a depth sensor."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.axes import flip_camera_axes
from gradslam_ng.datasets.camera import Camera
from gradslam_ng.datasets.camera_files import with_given
from gradslam_ng.datasets.files import ImageFiles
from gradslam_ng.datasets.image_files import visible_files
from gradslam_ng.datasets.images import load_depth
from gradslam_ng.datasets.intrinsics import Intrinsics, parse_intrinsics
from gradslam_ng.datasets.recorded import FRAME_RATE
from gradslam_ng.datasets.text import parse_poses, per_frame_truth, pose
from gradslam_ng.datasets.transforms import varied_focal
from gradslam_ng.io.text import BadLine, read_json

FORM = 'JSON with "fx", "fy", "cx", "cy", "width", "height" and "t_00" to "t_23"'
MICROSECONDS = 1e6
USUAL_STEP = (1e-3, 30.0)  # seconds between keyframes


class Polycam(ImageFiles):
    """A folder with `keyframes/images`, `cameras` and `depth`, or what Polycam corrected of them, which goes first.

    Depth (256x192, millimeters) is smaller than color; where a confidence image has the least level, it is left out.

    Args:
        folder: of the recording, or its `keyframes/`.
        intrinsics: overrides the cameras of color.
        depth_scale: units in a meter; default 1000.

    Raises:
        ValueError: a camera file is not as described.
    """

    layout = "polycam"
    expected_files = "keyframes/images/, keyframes/cameras/ and keyframes/depth/ of Polycam's raw data"

    def __init__(
        self, folder: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        frames = _keyframes(Path(folder))
        cameras = _first_folder(frames, "corrected_cameras", "cameras")
        images = _first_folder(frames, *(("corrected_images",) if "corrected" in cameras.name else ()), "images")
        depth = {path.stem: path for path in visible_files(frames / "depth", ".png")}
        confidence = {path.stem: path for path in visible_files(frames / "confidence", ".png")}
        color = {path.stem: path for path in visible_files(images)}
        files = sorted(visible_files(cameras, ".json"), key=lambda path: (len(path.stem), path.stem))
        files = [path for path in files if path.stem in depth and path.stem in color]
        if not files:
            raise ValueError(f"{frames}: no camera has an image and a depth image of its name")
        self.confidence = [confidence.get(path.stem) for path in files]
        told = [read_json(path, FORM) for path in files]
        camera, findings = _camera(told, files[0])
        timestamps = _timestamps(files)
        poses = parse_poses(told, _pose, "keyframes")
        super().__init__(
            name=Path(folder).resolve().name,
            layout=self.layout,
            color=[color[path.stem] for path in files],
            depth=[depth[path.stem] for path in files],
            camera=with_given(camera, intrinsics),
            depth_scale=depth_scale,
            timestamps=timestamps,
            notes=[f"{images.name} and {cameras.name}"],
            findings=findings,
            **per_frame_truth([flip_camera_axes(T) for T in poses], timestamps),
        )

    @staticmethod
    def recognizes(path: Path) -> bool:
        frames = _keyframes(path)
        has_cameras = (frames / "cameras").is_dir() or (frames / "corrected_cameras").is_dir()
        return has_cameras and (frames / "depth").is_dir()

    def decode_depth(self, index: int) -> np.ndarray:
        return without_guesses(super().decode_depth(index), self.confidence[index])


def without_guesses(depth: np.ndarray, confidence: Path | None) -> np.ndarray:
    """Depth (H, W), 0 where an image of ARKit's confidence is 0, the least of three levels; all of it without one."""
    if confidence is None or not confidence.is_file():
        return depth
    level = load_depth(confidence)
    if level.shape != depth.shape:
        raise ValueError(f"{confidence}: is {level.shape[:2]}, expected {depth.shape[:2]} as depth")
    return np.where(level > 0, depth, 0).astype(depth.dtype)


def _keyframes(folder: Path) -> Path:
    return folder / "keyframes" if (folder / "keyframes").is_dir() else folder


def _first_folder(frames: Path, *names: str) -> Path:
    return next((frames / name for name in names if (frames / name).is_dir()), frames / names[-1])


def _camera(told: list, first: Path) -> tuple[Camera, list]:
    """The camera of the medians of all, and a finding where they differ much."""
    try:
        rows = [[float(each[name]) for name in ("fx", "fy", "cx", "cy")] for each in told]
        size = int(told[0]["height"]), int(told[0]["width"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{first.parent}: expected files of {FORM}") from None
    values = torch.tensor(rows, dtype=torch.float64)
    K = parse_intrinsics(values.median(dim=0).values.tolist(), str(first))
    return Camera(K, first.parent.name, size), varied_focal(values[:, 0])


def _pose(told: dict) -> Tensor:
    """The pose (4, 4) in a camera file, in OpenGL's axes; BadLine where it is none."""
    try:
        numbers = [float(told[f"t_{row}{column}"]) for row in range(3) for column in range(4)]
    except (KeyError, TypeError, ValueError):
        raise BadLine(f"expected {FORM}") from None
    return pose(numbers, "camera")


def _timestamps(files: list[Path]) -> Tensor:
    """Seconds (L,): the names of the files are microseconds; where they are not, numbers of frames at 30 Hz."""
    if all(path.stem.isdecimal() for path in files):
        times = torch.tensor([int(path.stem) for path in files], dtype=torch.float64) / MICROSECONDS
        if len(times) > 1 and USUAL_STEP[0] <= float(times.diff().median()) <= USUAL_STEP[1]:
            return times
    return torch.arange(len(files), dtype=torch.float64) / FRAME_RATE
