"""`transforms.json`, as nerfstudio, instant-ngp and NeRFCapture write it: images, depth, camera and OpenGL poses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.axes import flip_camera_axes
from gradslam_ng.datasets.camera import Camera
from gradslam_ng.datasets.camera_files import with_given
from gradslam_ng.datasets.depth_scale import DEFAULT
from gradslam_ng.datasets.files import ImageFiles
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.image_files import COLOR_ENDINGS
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.intrinsics_names import CameraReader
from gradslam_ng.datasets.recorded import FRAME_RATE
from gradslam_ng.datasets.text import inside, parse_poses, per_frame_truth, pose
from gradslam_ng.io.text import read_json

FORM = 'JSON with "frames", each with "file_path", "depth_file_path" and "transform_matrix", and "fl_x", "fl_y", ...'
DEPTH_NAMES = ("depth_file_path", "depth_path")
SCALES = ("integer_depth_scale", "depth_unit_scale_factor")  # meters of a unit
FOCAL = ("fl_x", "fl_y", "cx", "cy")
# What says nothing of the camera.
OTHERS = (
    *("frames", "applied_transform", "applied_scale", "ply_file_path", "aabb", "aabb_scale", "enable_depth_loading"),
    *("depth_integer_scale", "depth_source"),  # of NeRFCapture's app, always 1 and none
)
CORNER = 0.5  # pixels: nerfstudio and instant-ngp count from the corner of the first pixel, not from its center
VARIED = 0.02  # relative difference of focal lengths within a recording, from which one camera is not all of it


class Transforms(ImageFiles):
    """A folder with `transforms.json`; depth may be smaller than color, as a phone's is.

    Poses are brought from OpenGL's axes to ours; the world stays as it is. Frames without depth are left out. Where
    each frame has a camera of its own, that of their medians is taken.

    Args:
        folder: with `transforms.json`, or that file.
        intrinsics: overrides the camera of color.
        depth_scale: units of integer depth in a meter; default: the file's, else 1000.

    Raises:
        ValueError: the file is not as described, names a file outside its folder, or no frame has depth.
    """

    layout = "transforms"
    expected_files = "transforms.json with depth_file_path [images/, depth/]"

    def __init__(
        self, folder: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        path = Path(folder) if Path(folder).is_file() else Path(folder) / "transforms.json"
        data = read_json(path, FORM)
        frames, findings = _frames_with_depth(data, path)
        color = [_color_file(path, str(frame["file_path"])) for frame in frames]
        depth = [inside(path.parent, str(depth_name(frame)), str(path)) for frame in frames]
        camera, varied = _camera(data, frames, path)
        poses = parse_poses(frames, lambda frame: _pose(frame, str(path)), "frames")
        timestamps, note = _timestamps(frames)
        scale = next((float(data[name]) for name in SCALES if data.get(name)), 0.0)
        super().__init__(
            color=color,
            depth=depth,
            name=path.resolve().parent.name,
            layout=self.layout,
            camera=with_given(camera, intrinsics),
            depth_scale=depth_scale,
            default_scale=1 / scale if scale > 0 else 1000.0,
            default_source=path.name if scale > 0 else DEFAULT,
            timestamps=timestamps,
            notes=[note],
            findings=[*findings, *(varied if intrinsics is None else [])],
            **per_frame_truth([flip_camera_axes(T) for T in poses], timestamps),
        )

    @staticmethod
    def recognizes(path: Path) -> bool:
        return (path / "transforms.json").is_file() or (path.is_file() and path.name == "transforms.json")


def depth_name(frame: dict[str, Any]) -> str | None:
    """The file of a frame's depth."""
    return next((str(frame[name]) for name in DEPTH_NAMES if frame.get(name)), None)


def _color_file(path: Path, name: str) -> Path:
    """The image of a name, which NeRFCapture and instant-ngp write without its ending."""
    file = inside(path.parent, name, str(path))
    files = (Path(f"{file}{ending}") for ending in ("", *COLOR_ENDINGS))
    return next((found for found in files if found.is_file()), file)


def _frames_with_depth(data: Any, path: Path) -> tuple[list[dict[str, Any]], list[Finding]]:
    """The frames that have depth, and what is odd about the others."""
    frames = data.get("frames") if isinstance(data, dict) else None
    if not isinstance(frames, list) or not all(isinstance(f, dict) and f.get("file_path") for f in frames):
        raise ValueError(f"{path}: expected {FORM}; got {str(data)[:100]}")
    kept = [frame for frame in frames if depth_name(frame)]
    if not kept:
        raise ValueError(f"{path}: expected depth_file_path in its frames, got none: a recording without depth")
    if len(kept) == len(frames):
        return kept, []
    text = f"{len(frames) - len(kept)} of {len(frames)} frames have no depth, and are left out"
    return kept, [Finding("warning", "files.missing", text)]


def _camera(data: dict[str, Any], frames: list[dict[str, Any]], path: Path) -> tuple[Camera, list[Finding]]:
    """The camera of the file, or of the median of its frames' own."""
    shared = {name: value for name, value in data.items() if name not in (*OTHERS, *SCALES)}
    own = [frame for frame in frames if all(name in frame for name in FOCAL)]
    findings = []
    if own:
        try:
            values = torch.tensor([[float(frame[name]) for name in FOCAL] for frame in own], dtype=torch.float64)
        except (TypeError, ValueError):
            raise ValueError(f"{path}: expected numbers for {', '.join(FOCAL)} of its frames") from None
        sizes = {name: own[0][name] for name in ("w", "h") if name in own[0]}
        shared |= sizes | dict(zip(FOCAL, values.median(dim=0).values.tolist(), strict=True))
        findings = varied_focal(values[:, 0])
    cameras = CameraReader(path, form=FORM).read(shared)
    if len(cameras) != 1:
        raise ValueError(f"{path}: expected one camera ({', '.join(FOCAL)}), got {len(cameras)}")
    told = cameras[0]
    shift = torch.tensor([[0, 0, CORNER], [0, 0, CORNER], [0, 0, 0]], dtype=told.K.dtype)
    return Camera(told.K - shift, path.name, told.size, told.distortion, lens_model=told.lens_model), findings


def varied_focal(focal: Tensor) -> list[Finding]:
    """A finding where focal lengths (L,), pixels, of a recording differ more than one camera can stand for."""
    middle = float(focal.median())
    spread = float(focal.max() - focal.min()) / middle if middle > 0 else 0.0
    if not spread > VARIED:
        return []
    text = f"focal lengths of the frames differ by {spread:.1%}; all are taken to have the median, {middle:.1f} pixels"
    return [Finding("warning", "camera.varies", text)]


def _pose(frame: dict[str, Any], where: str) -> Tensor:
    """The pose (4, 4) in a frame, in OpenGL's axes; BadLine where it is none."""
    try:
        numbers = np.asarray(frame.get("transform_matrix", []), dtype=np.float64).ravel().tolist()
    except (TypeError, ValueError):
        numbers = []
    return pose(numbers, where)


def _timestamps(frames: list[dict[str, Any]]) -> tuple[Tensor, str]:
    """Seconds (L,), and a note on where they come from."""
    try:
        times = torch.tensor([float(frame["timestamp"]) for frame in frames], dtype=torch.float64)
    except (KeyError, TypeError, ValueError):
        times = torch.zeros(0, dtype=torch.float64)
    if len(times) and bool(times.isfinite().all()) and bool((times.diff() > 0).all()):
        return times, "time stamps: those of the frames"
    return torch.arange(len(frames), dtype=torch.float64) / FRAME_RATE, "time stamps: numbers of frames at 30 Hz"
