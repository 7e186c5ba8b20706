"""The camera in a text file: numbers alone, or lines `name = value`."""

from __future__ import annotations

import re
from pathlib import Path

from gradslam_ng.datasets.intrinsics import FORMS, CameraFile, parse_intrinsics
from gradslam_ng.datasets.intrinsics_names import CameraReader
from gradslam_ng.datasets.lens import LENGTHS, parse_distortion, parse_lens
from gradslam_ng.io.text import parse_numbers, read_lines, read_text

NAMED = re.compile(r"([A-Za-z_]\w*)(?:\s*[:=]\s*|\s+)([-+.\d\[(].*)$")
COLMAP = re.compile(r"\d+\s+[A-Z][A-Z_]+\s+\d")  # cameras.txt: number, model, width, height, parameters
COLMAP_MODELS = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "OPENCV_FISHEYE": ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4"),
}
NAMED_FORM = "K, or fx, fy, cx and cy, a line 'name = value' each"


def read_camera_text(path: Path, y_up: bool = False) -> CameraFile:
    """The camera in a file of numbers: 3x3 or 4x4, or fx fy cx cy, perhaps followed by k1 k2 p1 p2 [k3] of the lens.

    The numbers may have names, `fx = 525` on one line and the next on others, as in JSON.

    Raises:
        ValueError: the file does not hold this; names it.
    """
    named = [line.text for line in read_lines(path, FORMS, column_names=False).lines if re.search(r"\d", line.text)]
    if named and NAMED.match(named[0]):
        return _read_named(path, named, y_up)
    lines = read_lines(path, FORMS).lines
    if COLMAP.match(lines[0].text):
        return _read_colmap(path, [line.text.split() for line in lines])
    rows = [line.numbers(FORMS) for line in lines]
    numbers = [number for row in rows for number in row]
    lengths = [len(row) for row in rows]
    if lengths == [2, 2]:  # a matrix cut short, not fx fy cx cy
        raise ValueError(f"{path}: expected {FORMS}; got a 2x2 matrix")
    is_row = len(rows) == 1 and len(numbers) - 4 in LENGTHS and not _is_matrix(numbers)
    if is_row or len(numbers) == 8 or (lengths[0] == 4 and sum(lengths[1:]) in LENGTHS and len(lengths) == 2):
        numbers, lens = numbers[:4], numbers[4:]
    elif lengths[:3] == [3, 3, 3]:
        numbers, lens = numbers[:9], numbers[9:]
    else:
        lens = []
    return CameraFile(parse_intrinsics(numbers, str(path), y_up), distortion=parse_distortion(lens, str(path)))


def _read_colmap(path: Path, rows: list[list[str]]) -> CameraFile:
    """The one camera in COLMAP's `cameras.txt`, whose first pixel has its center at (0.5, 0.5); ours at (0, 0)."""
    form = f"one camera of {', '.join(COLMAP_MODELS)}, as COLMAP writes it"
    model, numbers = rows[0][1], rows[0][2:]
    names = ("width", "height", *COLMAP_MODELS.get(model, ()))
    if model not in COLMAP_MODELS or any(row[1:] != rows[0][1:] for row in rows) or len(numbers) != len(names):
        raise ValueError(f"{path}: expected {form}, got {len(rows)}, the first {' '.join(rows[0])[:100]!r}")
    values = dict(zip(names, parse_numbers(" ".join(numbers), str(path), form), strict=True))
    focal = [values["f" if "f" in values else name] for name in ("fx", "fy")]
    K = parse_intrinsics([*focal, values["cx"] - 0.5, values["cy"] - 0.5], str(path))
    size = int(values["height"]), int(values["width"])
    lens = parse_lens(values | {"distortion_model": model}, str(path))
    return CameraFile(K, size, lens.coefficients, lens_model=lens.model)


def _is_matrix(numbers: list[float]) -> bool:
    """Whether numbers of a row are a matrix of 3x3, 3x4 or 4x4, whose third row is known."""
    columns = 3 if len(numbers) == 9 else 4
    return numbers[2 * columns : 2 * columns + 3] == [0, 0, 1]


def _read_named(path: Path, lines: list[str], y_up: bool) -> CameraFile:
    """The camera of lines `name = numbers`."""
    table: dict[str, float | list[float]] = {}
    for text in lines:
        found = NAMED.match(text)
        numbers = parse_numbers(found[2] if found else text, f"{path}: {text[:40]!r}", NAMED_FORM)
        name = found[1] if found else ""
        if name in table or not found:
            raise ValueError(f"{path}: expected {NAMED_FORM}, {'each once, ' if found else ''}got {text[:100]!r}")
        table[name] = numbers[0] if len(numbers) == 1 else numbers
    cameras = CameraReader(path, form=NAMED_FORM, y_up=y_up).read(table)
    if not cameras:
        raise ValueError(f"{path}: expected {NAMED_FORM}; got {', '.join(table)}")
    return cameras[0]


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
