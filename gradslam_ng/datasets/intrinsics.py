"""Camera intrinsics and lens distortion of a sequence: from an option, a text file or a JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.io.text import parse_numbers, read_json, read_lines

Intrinsics = Tensor | np.ndarray | Sequence[float] | str

FORMS = "K as 3x3, or four numbers fx fy cx cy"
JSON_FORM = 'JSON with "fx", "fy", "cx", "cy" or "K" (3x3), and optionally "depth_scale"'
BROWN_CONRADY = ("brown-conrady", "brown_conrady", "plumb_bob", "radtan", "opencv")  # names of one model


def parse_intrinsics(value: Intrinsics, where: str = "intrinsics", y_up: bool = False) -> Tensor:
    """K (3, 3) float64, pixels, of a 3x3 or 4x4 matrix, of fx, fy, cx, cy, or of a text of such, as "525,525,320,240".

    With `y_up` fy may be negative, as in axes with y up, and is brought to ours.

    Raises:
        ValueError: another shape, numbers that are not finite, or a focal length that is not positive; names `where`.
    """
    try:
        numbers = parse_numbers(value, where, FORMS) if isinstance(value, str) else value
        values = torch.as_tensor(np.asarray(numbers, dtype=np.float64))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: expected {FORMS}; got {str(value)[:100]!r}") from None
    if values.shape == (4,):
        fx, fy, cx, cy = values.tolist()
        K = values.new_tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    elif values.shape in ((9,), (3, 3)):
        K = values.reshape(3, 3).clone()
    elif values.shape in ((16,), (4, 4)):
        K = values.reshape(4, 4)[:3, :3].clone()
    else:
        raise ValueError(f"{where}: expected {FORMS}; got shape {tuple(values.shape)}")
    if y_up:
        K[1, 1] = K[1, 1].abs()
    lower = torch.stack([K[1, 0], K[2, 0], K[2, 1], K[2, 2]]).tolist()
    if not bool(K.isfinite().all()) or K[0, 0] <= 0 or K[1, 1] <= 0 or lower != [0, 0, 0, 1]:
        form = "positive focal lengths and a matrix [fx s cx; 0 fy cy; 0 0 1]"
        raise ValueError(f"{where}: expected {form}; got {K.tolist()}")
    return K


def read_intrinsics(path: Path, y_up: bool = False) -> tuple[Tensor, float | None]:
    """K (3, 3) of an intrinsics file, and the depth scale, units in a meter, None where the file does not tell.

    A `.txt` holds 3x3 (or 4x4) numbers, or fx fy cx cy. A `.json` holds "fx", "fy", "cx", "cy" or "K" (3x3), or
    Open3D's column-major "intrinsic_matrix", by itself or under "camera"; it may hold "depth_scale" or "scale".

    Raises:
        ValueError: the file does not hold this; names it.
    """
    if path.suffix.lower() != ".json":
        rows = [line.numbers(FORMS) for line in read_lines(path, FORMS).lines]
        if [len(row) for row in rows] == [2, 2]:  # a matrix cut short, not fx fy cx cy
            raise ValueError(f"{path}: expected {FORMS}; got a 2x2 matrix")
        return parse_intrinsics([number for row in rows for number in row], str(path), y_up), None
    data = _read_camera(path)
    try:
        if "K" in data:
            numbers = data["K"]
        elif "intrinsic_matrix" in data:
            numbers = np.asarray(data["intrinsic_matrix"], dtype=np.float64).reshape(3, 3).T
        else:
            numbers = [data[key] for key in ("fx", "fy", "cx", "cy")]
        scale = data.get("depth_scale", data.get("scale"))
        scale = None if scale is None else float(scale)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ValueError(f"{path}: expected {JSON_FORM}; got {str(data)[:100]}") from None
    return parse_intrinsics(numbers, str(path)), scale


def _read_camera(path: Path) -> dict[str, Any]:
    """The object of a JSON file, or the one under "camera" in it."""
    data = read_json(path, JSON_FORM)
    data = data.get("camera", data) if isinstance(data, dict) else data
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected {JSON_FORM}; got {str(data)[:100]}")
    return data


def read_distortion(path: Path) -> tuple[float, ...] | None:
    """Coefficients k1, k2, p1, p2, k3, ... of the lens (Brown-Conrady, OpenCV's order) in a `.json`; None without any.

    They are "distortion": [k1, k2, p1, p2] or more, beside the intrinsics, or {"model": ..., "coefficients": [...]}.

    Raises:
        ValueError: another model, or not 4, 5, 8, 12 or 14 finite numbers; names the file.
    """
    if path.suffix.lower() != ".json":
        return None
    given = _read_camera(path).get("distortion")
    model = BROWN_CONRADY[0]
    if isinstance(given, dict):
        model, given = str(given.get("model", "")).lower(), given.get("coefficients")
    if model == "none" or given is None or given == []:
        return None
    if model not in BROWN_CONRADY:
        raise ValueError(f"{path}: distortion: expected the model none or {', '.join(BROWN_CONRADY)}, got {model!r}")
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.full(1, np.nan)
    if values.ndim != 1 or len(values) not in (4, 5, 8, 12, 14) or not np.isfinite(values).all():
        raise ValueError(f"{path}: distortion: expected k1, k2, p1, p2 and perhaps k3 or more, got {str(given)[:100]}")
    return tuple(values.tolist()) if values.any() else None


def find_intrinsics(
    given: Intrinsics | None, folder: Path, default: Intrinsics | None = None, y_up: bool = False
) -> tuple[Tensor, str] | None:
    """K as given, else of `intrinsics.txt` in the folder, else the data set's, and a note on which; None if none."""
    path = folder / "intrinsics.txt"
    if given is not None:
        return parse_intrinsics(given, y_up=y_up), "camera: as given"
    if path.is_file():
        return read_intrinsics(path, y_up)[0], "camera: intrinsics.txt"
    return None if default is None else (parse_intrinsics(default), "camera: that of the data set")
