"""ICL-NUIM (Handa et al. 2014), in its TUM-compatible PNG form."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.datasets.files import FRAME_RATE, FileSequence, inside, list_lines, matrix, number
from gradslam_ng.datasets.intrinsics import Intrinsics, intrinsics_beside, parse_intrinsics
from gradslam_ng.structures import Trajectory

CAMERA = (481.2, 480.0, 319.5, 239.5)  # fx, fy, cx, cy, pixels; fy is -480 in the data set's own y-up axes
Y_UP = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))


class ICL(FileSequence):
    """A folder with `associations.txt` and, where known, the poses as `*.gt.freiburg` or `*.gt.sim`.

    The data set's axes are x right, y up, z forward, for world and camera alike; poses are brought to ours, with y down. Its
    time stamps count frames at 30 Hz and are turned to seconds. Its first frame, number 0, has no pose.

    Args:
        folder: of the sequence.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels; default `intrinsics.txt` in the folder, else the data set's camera.
        depth_scale: units of the depth files in a metre.
        max_gap: the longest interval of the ground truth to interpolate across, seconds.

    Raises:
        ValueError: a list is not as described (names file and line), or names a file outside the folder.
        FileNotFoundError: the list or every image is missing.
    """

    layout = "icl"

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        intrinsics: Intrinsics | None = None,
        depth_scale: float = 5000.0,
        max_gap: float = 0.1,
    ) -> None:
        folder = Path(folder)
        K = intrinsics_beside(folder) if intrinsics is None else parse_intrinsics(intrinsics)
        frames, color, depth = _read_associations(folder / "associations.txt")
        super().__init__(
            name=folder.resolve().name,
            layout=self.layout,
            color=color,
            depth=depth,
            K=parse_intrinsics(CAMERA) if K is None else K,
            timestamps=torch.tensor(frames, dtype=torch.float64) / FRAME_RATE,
            depth_scale=depth_scale,
            ground_truth=_read_ground_truth(folder),
            max_gap=max_gap,
        )

    @staticmethod
    def recognises(folder: Path) -> bool:
        return (folder / "associations.txt").is_file() and _ground_truth_file(folder) is not None


def _read_associations(path: Path) -> tuple[list[float], list[Path], list[Path]]:
    """Frame numbers in order, colour and depth files of lines `number file number file`; the data set has either file first."""
    entries = []
    for line, words in list_lines(path):
        where = f"{path}, line {line}"
        if len(words) != 4:
            raise ValueError(f"{where}: expected 'number rgb/file number depth/file', got {' '.join(words)[:100]!r}")
        first, second = words[:2], words[2:]
        if first[1].startswith("depth"):
            first, second = second, first
        entries.append((number(first[0], where), inside(path.parent, first[1], where), inside(path.parent, second[1], where)))
    if [entry[0] for entry in entries] != sorted(entry[0] for entry in entries):
        warnings.warn(f"{path}: time stamps out of order, sorted", stacklevel=3)
        entries.sort(key=lambda entry: entry[0])
    return [entry[0] for entry in entries], [entry[1] for entry in entries], [entry[2] for entry in entries]


def _ground_truth_file(folder: Path) -> Path | None:
    return next((path for kind in ("*.gt.freiburg", "*.gt.sim") for path in sorted(folder.glob(kind))), None)


def _read_ground_truth(folder: Path) -> Trajectory | None:
    """The poses in our axes and in seconds: with F = diag(1, -1, 1), T becomes F T F."""
    path = _ground_truth_file(folder)
    if path is None:
        return None
    if path.suffix == ".freiburg":
        given = Trajectory.load(path)
        numbers, T_up = given.timestamps, given.T_wc
    else:
        T_up = _read_sim(path)
        numbers = torch.arange(1, len(T_up) + 1, dtype=torch.float64)  # as in .gt.freiburg, the first pose is of frame 1
    return Trajectory(numbers / FRAME_RATE, Y_UP @ T_up @ Y_UP)


def _read_sim(path: Path) -> Tensor:
    """(L, 4, 4) of a file of 3x4 matrices, three lines each, with empty lines between."""
    rows = list_lines(path)
    if not rows or len(rows) % 3:
        raise ValueError(f"{path}: expected poses of 3x4 numbers, three lines each; got {len(rows)} lines")
    poses = []
    for first in range(0, len(rows), 3):
        words = [word for _, row in rows[first : first + 3] for word in row]
        poses.append(matrix(words, f"{path}, line {rows[first][0]}"))
    return torch.stack(poses)
