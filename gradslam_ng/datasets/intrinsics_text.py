"""The camera in a text file: numbers alone, or lines `name = value`."""

from __future__ import annotations

from pathlib import Path

from gradslam_ng.datasets.intrinsics import FORMS, CameraFile, parse_distortion, parse_intrinsics
from gradslam_ng.io.text import parse_numbers, read_lines, read_text


def read_camera_text(path: Path, y_up: bool = False) -> CameraFile:
    """The camera in a file of numbers: 3x3 or 4x4, or fx fy cx cy, perhaps followed by k1 k2 p1 p2 [k3] of the lens.

    Raises:
        ValueError: the file does not hold this; names it.
    """
    rows = [line.numbers(FORMS) for line in read_lines(path, FORMS).lines]
    numbers = [number for row in rows for number in row]
    if [len(row) for row in rows] == [2, 2]:  # a matrix cut short, not fx fy cx cy
        raise ValueError(f"{path}: expected {FORMS}; got a 2x2 matrix")
    if len(numbers) == 8 or (len(numbers) == 9 and len(rows) == 1 and numbers[6:] != [0, 0, 1]):
        distortion = parse_distortion(numbers[4:], str(path))
        return CameraFile(parse_intrinsics(numbers[:4], str(path), y_up), distortion=distortion)
    return CameraFile(parse_intrinsics(numbers, str(path), y_up))


def read_info(path: Path) -> CameraFile | None:
    """The depth camera in BundleFusion's `info.txt` or ScanNet's `sceneNNNN_NN.txt`; None where there is none in it.

    Raises:
        ValueError: a camera that is none; names the file.
    """
    lines = read_text(path, "lines 'name = value'").splitlines()
    values = {name.strip(): value for name, mark, value in (line.partition("=") for line in lines) if mark}
    if "m_calibrationDepthIntrinsic" in values:
        text, *names = values["m_calibrationDepthIntrinsic"], "m_depthHeight", "m_depthWidth", "m_depthShift"
    elif values.keys() >= {"fx_depth", "fy_depth", "mx_depth", "my_depth"}:
        text = " ".join(values[name] for name in ("fx_depth", "fy_depth", "mx_depth", "my_depth"))
        names = ["depthHeight", "depthWidth", "depthShift"]
    else:
        return None
    height, width, scale = (
        parse_numbers(values[name], f"{path}: {name}", "a number", (1,))[0] if name in values else None
        for name in names
    )
    size = (int(height), int(width)) if height and width else None
    return CameraFile(parse_intrinsics(text, str(path)), size, None, scale)
