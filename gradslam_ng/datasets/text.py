"""Text files of recordings: lists of files, time stamps and poses; files told apart by their numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.structures import Trajectory

NOT_RIGID = 0.05  # a written rotation that stretches by more than this is none


def list_lines(path: Path) -> list[tuple[int, list[str]]]:
    """The words of every line of a text file with its line number; `#` starts a comment."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    words = [(number, line.partition("#")[0].split()) for number, line in enumerate(lines, start=1)]
    return [(number, row) for number, row in words if row]


def inside(folder: Path, name: str, where: str) -> Path:
    """The file `name` of a list, which must lie in the folder; ValueError where `..`, a root or a link leaves it."""
    root = folder.resolve()
    if not (root / name).resolve().is_relative_to(root):
        raise ValueError(f"{where}: {name!r} leaves the sequence folder {folder}; refused")
    return folder / name


def timestamp(word: str, where: str) -> float:
    """A finite number; ValueError tells where one was expected."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: expected a time stamp, got {word[:100]!r}")
    return value


def pose(words: Sequence[str], where: str) -> Tensor:
    """The rigid motion (4, 4) float64 of 16 or 12 numbers, row by row; NaN throughout where one is not finite: lost.

    The rotation is the one nearest to what is written, which rounding and chained products leave a little off.
    """
    try:
        values = torch.tensor([float(word) for word in words], dtype=torch.float64)
    except ValueError:
        values = torch.zeros(0)
    if len(values) not in (12, 16):
        raise ValueError(f"{where}: expected a pose as 4x4 numbers, got {' '.join(words)[:100]!r}")
    if not bool(values.isfinite().all()):
        return unknown_pose()
    T = torch.eye(4, dtype=torch.float64)
    T[:3] = values[:12].reshape(3, 4)
    U, scale, V_t = torch.linalg.svd(T[:3, :3])
    if bool((scale - 1).abs().max() > NOT_RIGID) or torch.linalg.det(U @ V_t) < 0:
        raise ValueError(f"{where}: expected a rigid motion, got {' '.join(words)[:100]!r}")
    T[:3, :3] = U @ V_t
    return T


def unknown_pose() -> Tensor:
    """A pose (4, 4) of NaN."""
    return torch.full((4, 4), math.nan, dtype=torch.float64)


def read_pose(path: Path | None) -> Tensor:
    """The pose (4, 4) in a file of its own; NaN where there is no file."""
    if path is None:
        return unknown_pose()
    return pose([word for _, row in list_lines(path) for word in row], str(path))


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
