"""Where a sequence's camera comes from: an option, a text file or a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence as Numbers
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Intrinsics = Tensor | np.ndarray | Numbers[float] | str

FORMS = "K as 3x3, or four numbers fx fy cx cy"


def parse_intrinsics(value: Intrinsics, where: str = "intrinsics") -> Tensor:
    """K (3, 3) float64, pixels, from a 3x3 or 4x4 matrix, from fx fy cx cy, or from a text of either such as "525,525,320,240".

    Raises:
        ValueError: another shape, numbers that are not finite, or a focal length that is not positive; names `where`.
    """
    try:
        numbers = value.replace(",", " ").split() if isinstance(value, str) else value
        values = torch.as_tensor(np.asarray(numbers, dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected {FORMS}; got {str(value)[:100]!r}") from None
    if values.numel() == 4:
        fx, fy, cx, cy = values.flatten()
        K = values.new_tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    elif values.shape in ((9,), (3, 3)):
        K = values.reshape(3, 3)
    elif values.shape in ((16,), (4, 4)):
        K = values.reshape(4, 4)[:3, :3]
    else:
        raise ValueError(f"{where}: expected {FORMS}; got shape {tuple(values.shape)}")
    if not bool(K.isfinite().all()) or K[0, 0] <= 0 or K[1, 1] <= 0 or K[2].tolist() != [0, 0, 1] or K[1, 0] != 0:
        raise ValueError(
            f"{where}: expected positive focal lengths and a matrix [fx s cx; 0 fy cy; 0 0 1]; got {K.tolist()}"
        )
    return K


def read_intrinsics(path: Path) -> tuple[Tensor, float | None]:
    """K (3, 3) and the depth scale (units in a metre; None where not told) of an intrinsics file.

    A `.txt` holds 3x3 (or 4x4), or fx fy cx cy. A `.json` holds "fx", "fy", "cx", "cy" or "K" (3x3), or Open3D's column-major
    "intrinsic_matrix", by itself or under "camera", and may hold "depth_scale" or "scale".

    Raises:
        ValueError: the file does not hold this; names it.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".json":
        lines = [line.partition("#")[0] for line in text.splitlines()]
        return parse_intrinsics(" ".join(lines), str(path)), None
    try:
        data = json.loads(text)
        data = data.get("camera", data)
        if "K" in data:
            numbers = data["K"]
        elif "intrinsic_matrix" in data:
            numbers = np.asarray(data["intrinsic_matrix"], dtype=np.float64).reshape(3, 3).T
        else:
            numbers = [data[key] for key in ("fx", "fy", "cx", "cy")]
        scale = data.get("depth_scale", data.get("scale"))
        scale = None if scale is None else float(scale)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f'{path}: expected JSON with "fx", "fy", "cx", "cy" or "K" (3x3), got {text[:100]!r}') from None
    return parse_intrinsics(numbers, str(path)), check_depth_scale(scale, str(path))


def check_depth_scale(scale: float | None, where: str) -> float | None:
    """The scale itself, if it can be one."""
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"{where}: expected a positive depth scale (units in a metre), got {scale}")
    return scale


def intrinsics_beside(folder: Path) -> Tensor | None:
    """K of `intrinsics.txt` in the folder, if there is one."""
    path = folder / "intrinsics.txt"
    return read_intrinsics(path)[0] if path.is_file() else None
