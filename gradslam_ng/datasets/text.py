"""Text files of recordings: lists of files, time stamps and poses; files told apart by their numbers."""

from __future__ import annotations

import math
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from gradslam_ng.io.text import BadLine, Line, NoContent, parse_each, parse_number, read_lines
from gradslam_ng.structures import Trajectory

NOT_RIGID = 0.05  # a written rotation that stretches by more than this is none
MATRIX = "a pose as 4x4 numbers"
GAP = re.compile(r"[\s,;]+")  # between the words of a list
WORD = re.compile(r""""[^"]*"|'[^']*'|[^\s,;]+""")
TRAILING_COMMENT = re.compile(r"\s(?:#|//|%).*")

Entry = TypeVar("Entry")
Item = TypeVar("Item")


def read_list(path: Path, form: str, parse: Callable[[Line], Entry]) -> list[Entry]:
    """The lines of a list, each parsed; those that cannot be are left out with a warning.

    form: what a line holds, for messages.

    Raises:
        FileNotFoundError, ValueError: no such file; no line, or more than half of them cannot be read.
    """
    lines = read_lines(path, form).lines
    parsed, bad = parse_each(lines, parse)
    if bad:
        warnings.warn(f"{len(bad)} of {len(lines)} lines left out, the first: {bad[0]}", stacklevel=3)
    return [entry for entry in parsed if entry is not None]


def timestamp_and_rest(line: Line, form: str) -> tuple[float, str]:
    """The time stamp that a line begins with, and what follows; BadLine where it is not finite or nothing follows."""
    first, *rest = GAP.split(line.text, maxsplit=1)
    if len(rest) == 0 or rest[0] == "":
        raise BadLine(f"{line.where}: expected {form}, got {line.text[:100]!r}")
    if re.match(r"\d+,\d+\s", line.text):
        raise BadLine(f"{line.where}: expected {form}, with a decimal point, got {line.text[:100]!r}")
    return timestamp(first.strip("\"'"), line.where), rest[0]


def timestamp(word: str, where: str) -> float:
    """A finite number; BadLine tells where one was expected."""
    try:
        value = parse_number(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadLine(f"{where}: expected a time stamp, got {word[:100]!r}")
    return value


def inside(folder: Path, name: str, where: str) -> Path:
    """The file `name` of a list, which must lie in the folder; ValueError where `..` or a root leaves it.

    Links count as what they stand for, wherever that is: who owns the folder made them.
    """
    if not Path(os.path.abspath(folder / name)).is_relative_to(os.path.abspath(folder)):
        raise ValueError(f"{where}: {name!r} leaves the sequence folder {folder}; refused")
    return folder / name


def listed_file(folder: Path, text: str, where: str) -> Path:
    """The file of a folder that the end of a list's line names.

    Names may hold blanks, `#` and quotes, be quoted, and be followed by other columns or a comment: of what the text
    may mean, longest first, it is what is there; where nothing is, the first word that has an ending, else the text.

    Raises:
        ValueError: it lies outside the folder.
    """
    for name in _names(text):
        path = inside(folder, name, where)
        if path.is_file():
            return path
    words = WORD.findall(TRAILING_COMMENT.sub("", text))
    name = next((word for word in words[:1] if re.search(r"\.\w+['\"]?$", word)), text.strip())
    return inside(folder, name.strip("\"'").replace("\\", "/"), where)


def _names(text: str) -> Iterator[str]:
    """What a text may mean as the name of a file, longest first."""
    text = text.strip()
    ends = [len(text), *(gap.start() for gap in reversed(list(GAP.finditer(text))))]
    for end in ends:
        name = text[:end]
        yield name
        if name[:1] in ("'", '"') and name[-1:] == name[:1]:
            yield name[1:-1]
            yield name[1:-1].replace("\\", "/")
        if "\\" in name:
            yield name.replace("\\ ", " ")  # as a shell has it
            yield name.replace("\\", "/")  # as Windows has it
        if not name.isascii():
            yield from (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
            yield os.fsdecode(name.encode("cp1252", errors="ignore"))  # unpacked as an archive of Windows has it


def pose(numbers: Sequence[float], where: str) -> Tensor:
    """The rigid motion (4, 4) float64 of 16 or 12 numbers, row by row; NaN throughout where it is not known.

    It is not known where a number is not finite, or the rotation is zero. The rotation is the one nearest to what is
    written, which rounding and chained products leave a little off.

    Raises:
        BadLine: another number of numbers, no rigid motion, or one written column by column.
    """
    values = torch.tensor(numbers, dtype=torch.float64)
    if len(values) not in (12, 16):
        raise BadLine(f"{where}: expected {MATRIX}, got {len(values)} numbers")
    T = torch.eye(4, dtype=torch.float64)
    T[:3] = values[:12].reshape(3, 4)
    if not bool(values.isfinite().all()) or not bool(T[:3, :3].any()):
        return unknown_pose()
    U, scale, V_t = torch.linalg.svd(T[:3, :3])
    if bool((scale - 1).abs().max() > NOT_RIGID) or torch.linalg.det(U @ V_t) < 0:
        raise BadLine(f"{where}: expected a rigid motion, got {' '.join(f'{x:g}' for x in numbers)[:100]!r}")
    last = values[12:]
    if bool(last[:3].any()):
        raise BadLine(
            f"{where}: expected 0 0 0 1 in the last row, got {last.tolist()}; is it written column by column?"
        )
    T[:3, :3] = U @ V_t
    return T


def unknown_pose() -> Tensor:
    """A pose (4, 4) of NaN."""
    return torch.full((4, 4), math.nan, dtype=torch.float64)


def read_pose(path: Path | None) -> Tensor:
    """The pose (4, 4) in a file of its own; NaN where there is no file, or nothing in it; BadLine as of `pose`."""
    if path is None:
        return unknown_pose()
    try:
        lines = read_lines(path, MATRIX).lines
    except NoContent:
        return unknown_pose()
    except (ValueError, OSError) as error:
        raise BadLine(str(error)) from None
    return pose([number for line in lines for number in line.numbers(MATRIX)], str(path))


def read_poses(paths: Sequence[Path | None]) -> list[Tensor]:
    """The poses (4, 4) in files of their own, NaN where there is no file, or none that can be read, with a warning.

    Raises:
        ValueError: more than half of the files cannot be read; names the first.
    """
    return parse_poses(paths, read_pose, "frames")


def read_pose_table(path: Path) -> list[Tensor]:
    """The poses (4, 4) of a file with one a line, or four lines each, NaN where one is not known or cannot be read,
    with a warning. Above each four lines there may be one of whole numbers, as in Redwood's trajectory.log.

    Raises:
        ValueError: more than half of the poses cannot be read, or of those of four lines a line is lost; names the
            first.
    """
    try:
        lines = read_lines(path, f"lines of {MATRIX}").lines
    except NoContent as error:
        warnings.warn(f"{error}; no pose is known", stacklevel=3)
        return []
    counts = [len(line.words()) for line in lines]
    if 2 * counts.count(4) > len(lines):
        return parse_poses(_blocks(lines, counts), _pose_of_block, f"poses of {path.name}")
    return parse_poses(lines, lambda line: pose(line.numbers(MATRIX, (12, 16)), line.where), f"lines of {path.name}")


def _blocks(lines: Sequence[Line], counts: Sequence[int]) -> list[Sequence[Line]]:
    """Lines of four numbers by four, without those above each four; ValueError where that does not come out even."""
    has_header = counts[0] != 4
    size = 4 + has_header
    expected = [counts[0], 4, 4, 4, 4] if has_header else [4] * 4
    blocks = [lines[start : start + size] for start in range(0, len(lines), size)]
    for start, block in zip(range(0, len(lines), size), blocks, strict=True):
        if list(counts[start : start + size]) != expected:
            raise ValueError(f"{block[0].where}: expected {MATRIX}, four lines for each, got {block[0].text[:100]!r}")
    return [block[has_header:] for block in blocks]


def _pose_of_block(block: Sequence[Line]) -> Tensor:
    """The pose of four lines."""
    return pose([number for line in block for number in line.numbers(MATRIX)], block[0].where)


def parse_poses(items: Sequence[Item], parse: Callable[[Item], Tensor], what: str) -> list[Tensor]:
    """The poses (4, 4) that `parse` makes of items, NaN for those it raises BadLine for. One warning counts all NaN.

    Raises:
        BadLine: more than half of the items are bad.
    """
    poses, bad = parse_each(items, parse)
    found = [unknown_pose() if T_wc is None else T_wc for T_wc in poses]
    lost = sum(bool(T_wc.isnan().any()) for T_wc in found)
    if lost:
        unread = f"; {len(bad)} cannot be read, the first: {bad[0]}" if bad else ""
        warnings.warn(f"{lost} of {len(found)} {what} have no pose{unread}", stacklevel=4)
    return found


def read_trajectory(path: Path) -> Trajectory | None:
    """The ground truth in the TUM format, None with a warning where the file has no pose."""
    try:
        if len(trajectory := Trajectory.load(path)):
            return trajectory
        warnings.warn(f"{path}: no pose is known", stacklevel=3)
    except NoContent as error:
        warnings.warn(f"{error}; no pose is known", stacklevel=3)
    return None


def per_frame_truth(poses: Sequence[Tensor], timestamps: Tensor) -> dict[str, Any]:
    """Ground truth given frame by frame, as a Sequence takes it: the known poses in time, and T_wc (L, 4, 4)."""
    T_wc = torch.stack(list(poses))
    known = T_wc.isfinite().all(-1).all(-1)
    return {"ground_truth": Trajectory(timestamps[known], T_wc[known]), "T_wc": T_wc}


def by_number(files: Iterable[Path]) -> dict[tuple[int, ...], Path]:
    """Files by the numbers in their names, in that order: `depth_0012.png` is (12,), `17.25.png` is (17, 25).

    Raises:
        ValueError: two files have the same numbers; names them.
    """
    found: dict[tuple[int, ...], Path] = {}
    for path in sorted(files):
        key = tuple(int(digits) for digits in re.findall(r"\d+", path.stem))
        if key in found:
            raise ValueError(f"{found[key]} and {path.name}: expected one file for each frame number")
        found[key] = path
    return dict(sorted(found.items()))
