"""The camera in a JSON file, by the names that programs of the field give to its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from gradslam_ng.datasets.intrinsics import CameraFile, parse_distortion, parse_intrinsics
from gradslam_ng.io.text import read_json

# What a number may be called, by what it is called here.
NAMES = {
    "fx": ("fx", "fl_x"),
    "fy": ("fy", "fl_y"),
    "cx": ("cx", "ppx"),
    "cy": ("cy", "ppy"),
    "K": ("K", "camera_matrix"),
    "intrinsic_matrix": ("intrinsic_matrix",),  # Open3D's, column by column
    "width": ("width", "w", "image_width"),
    "height": ("height", "h", "image_height"),
    "depth_scale": ("depth_scale", "scale", "png_depth_scale", "depth_factor", "depth_map_factor"),
    "skew": ("skew",),
    "distortion": (
        "distortion", "distortion_coefficients", "distortion_coeffs", "dist_coeffs", "coeffs", "coefficients", "D",
    ),
    "model": ("model", "distortion_model", "camera_model"),
    **{name: (name,) for name in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")},
}  # fmt: skip
BROWN_CONRADY = ("brown-conrady", "brown_conrady", "plumb_bob", "radtan", "opencv")  # names of one model
NO_DISTORTION = ("none", "pinhole", "simple_pinhole")
ELEMENTS = ("fx", "skew", "cx", "fy", "cy")  # of K
NEAR = 0.7  # how alike an unknown name and a known one are, for one to be a slip of the other
FORM = 'JSON with "fx", "fy", "cx", "cy" or "K" (3x3), and optionally "width", "height", "distortion", "depth_scale"'


def read_camera_json(path: Path, y_up: bool = False) -> CameraFile:
    """The camera in a file, by itself or under "camera".

    K is "fx", "fy", "cx" and "cy", "K" (3x3), or Open3D's column-major "intrinsic_matrix"; "width" and "height" are
    those of its images. "distortion" is [k1, k2, p1, p2] or more, or {"model": ..., "coefficients": [...]}.

    Raises:
        ValueError: the file does not hold this, or has a name that is nearly one of these; names the file.
    """
    data = read_json(path, FORM)
    if isinstance(data, dict) and isinstance(data.get("camera"), dict):
        data = {name: value for name, value in data.items() if name != "camera"} | data["camera"]
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected {FORM}; got {str(data)[:100]}")
    values, unused = _by_name(data, path)
    try:
        numbers = _matrix(values)
        size = _size(values)
        scale = values.get("depth_scale")
        scale = None if scale is None else float(str(scale))  # which takes no truth value for a number
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ValueError(f"{path}: expected {FORM}; got {str(data)[:100]}") from None
    if size is not None and min(size) < 1:
        raise ValueError(f"{path}: expected a width and a height of the images, pixels, got {size[1]} and {size[0]}")
    K = parse_intrinsics(numbers, str(path), y_up)
    return CameraFile(K, size, _distortion(values, path), scale, unused)


def _by_name(data: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The values by our names, and the names that mean nothing here."""
    ours = {name: ours for ours, names in NAMES.items() for name in names}
    values: dict[str, Any] = {}
    unused = []
    for name, value in data.items():
        if name in ours:
            if ours[name] in values and values[ours[name]] != value:
                raise ValueError(f"{path}: {ours[name]} is given twice, the second time as {name!r}")
            values[ours[name]] = value
        elif near := get_close_matches(name.lower(), list(ours), 1, NEAR):
            raise ValueError(f"{path}: {name!r} is not known; is {near[0]!r} meant?")
        else:
            unused.append(name)
    return values, tuple(unused)


def _matrix(values: Mapping[str, Any]) -> Any:
    """K, or fx, fy, cx and cy."""
    if "K" in values:
        K = values["K"]
        return K["data"] if isinstance(K, dict) else K
    if "intrinsic_matrix" in values:
        matrix = np.asarray(values["intrinsic_matrix"], dtype=np.float64)
        return matrix if matrix.ndim == 2 else matrix.reshape(3, 3).T
    fx, skew, cx, fy, cy = (float(values.get("skew", 0) if name == "skew" else values[name]) for name in ELEMENTS)
    return [[fx, skew, cx], [0, fy, cy], [0, 0, 1]]


def _size(values: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width; KeyError where one of them is missing."""
    return (int(values["height"]), int(values["width"])) if values.keys() & {"width", "height"} else None


def _distortion(values: Mapping[str, Any], path: Path) -> tuple[float, ...] | None:
    """The coefficients of the lens; None where there are none."""
    given = values.get("distortion")
    model = values.get("model")
    if isinstance(given, dict):
        model, given = given.get("model", model or ""), given.get("coefficients", given.get("data"))
    elif given is None and any(values.get(name) for name in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")):
        given = [values.get(name, 0.0) for name in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")]
    model = BROWN_CONRADY[0] if model is None else str(model).lower().removeprefix("distortion.")
    if model in NO_DISTORTION or given is None or given == []:
        return None
    if isinstance(given, list) and all(value == 0 for value in given):
        return None  # whatever the model
    if model not in BROWN_CONRADY:
        names = ", ".join(BROWN_CONRADY)
        raise ValueError(f"{path}: distortion: expected the model none or {names}, got {model!r}")
    return parse_distortion(given, str(path))
