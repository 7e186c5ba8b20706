"""The camera in a JSON file, or two: that of depth, and that of color where it is another; and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.intrinsics import CameraFile, ColorCamera
from gradslam_ng.datasets.intrinsics_names import CameraReader
from gradslam_ng.geometry import se3
from gradslam_ng.io.text import read_json

FORM = 'JSON with "fx", "fy", "cx", "cy" or "K" (3x3), and optionally "width", "height", "distortion", "depth_scale"'
TWO = ("color", "T_color_depth", "time_offset")  # what tells of a color camera beside that of depth
OWN = (*TWO, "depth_distortion")  # what only files of this form tell


def read_camera_json(path: Path, y_up: bool = False) -> CameraFile:
    """The camera in a file, by itself or in a table within, as under "camera".

    K is "fx", "fy", "cx" and "cy", "K" (3x3), or Open3D's column-major "intrinsic_matrix"; "width" and "height" are
    those of its images. "distortion" is [k1, k2, p1, p2] or more, or {"model": ..., "coefficients": [...]}.

    Where color images are not registered to depth the file has "T_color_depth" (4x4, meters, from the depth camera to
    the color camera) and "color", a table of that camera, where its K, size or distortion are others; "time_offset",
    seconds, is what time stamps of color are more than those of depth of the same moment. "depth_distortion", two
    numbers, 1/m, is what is added to inverse depth, see `geometry.depth_distortion`.

    Raises:
        ValueError: the file does not hold this, or several cameras, or has a name that is nearly one of these; names
            the file.
    """
    data = read_json(path, FORM)
    if not isinstance(data, Mapping) or not (data.keys() & {"T_color_depth", "time_offset", "depth_distortion"}):
        return _read_one(path, data, y_up)
    depth = _read_one(path, {name: value for name, value in data.items() if name not in OWN}, y_up)
    distortion = _depth_distortion(path, data.get("depth_distortion"))
    time_offset = _time_offset(path, data.get("time_offset", 0.0))
    depth = replace(depth, time_offset=time_offset, depth_distortion=distortion)
    if "T_color_depth" not in data:
        if "color" in data:
            raise ValueError(f'{path}: expected "T_color_depth" beside "color"')
        return depth
    color = depth if data.get("color") is None else _read_one(path, data["color"], y_up)
    T = _rigid(path, data["T_color_depth"])
    camera = ColorCamera(color.K, T, color.size, color.distortion, color.lens_model)
    return replace(depth, color=camera, unused=(*depth.unused, *(f"color.{name}" for name in color.unused)))


def _read_one(path: Path, data: Any, y_up: bool) -> CameraFile:
    cameras = CameraReader(path, form=FORM, y_up=y_up).read(data)
    if not cameras:
        raise ValueError(f"{path}: expected {FORM}; got {str(data)[:100]}")
    if len(cameras) > 1:
        raise ValueError(f"{path}: expected one camera, got {len(cameras)} that differ")
    return cameras[0]


def _time_offset(path: Path, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f"{path}: time_offset: expected seconds, got {str(value)[:100]}")
    return float(value)


def _depth_distortion(path: Path, value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        first, second = (float(number) for number in value)
    except (TypeError, ValueError):
        first = second = np.nan
    if not (np.isfinite(first) and np.isfinite(second)):
        raise ValueError(f"{path}: depth_distortion: expected two numbers, 1/m, got {str(value)[:100]}")
    return first, second


def _rigid(path: Path, value: Any) -> Tensor:
    """(4, 4) float64; ValueError where it is no rigid motion."""
    try:
        T = torch.as_tensor(np.asarray(value, dtype=np.float64)).reshape(4, 4)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        T = torch.full((4, 4), torch.nan, dtype=torch.float64)
    if not bool(se3.is_rigid(T, tol=1e-3)):
        raise ValueError(f"{path}: T_color_depth: expected a rigid motion, 4x4, got {str(value)[:200]}")
    return T


def format_camera(camera: CameraFile) -> dict[str, Any]:
    """What `read_camera_json` reads, for `json.dumps`."""
    found = _format_one(camera)
    if camera.depth_scale is not None:
        found["depth_scale"] = camera.depth_scale
    if camera.depth_distortion is not None:
        found["depth_distortion"] = list(camera.depth_distortion)
    if camera.color is not None:
        found |= {"color": _format_one(camera.color), "T_color_depth": camera.color.T_color_depth.tolist()}
    return found | ({"time_offset": camera.time_offset} if camera.time_offset else {})


def _format_one(camera: CameraFile | ColorCamera) -> dict[str, Any]:
    found: dict[str, Any] = {"K": camera.K.tolist()}
    if camera.size is not None:
        found |= {"width": camera.size[1], "height": camera.size[0]}
    if camera.distortion is not None:
        found["distortion"] = {"model": camera.lens_model, "coefficients": list(camera.distortion)}
    return found
