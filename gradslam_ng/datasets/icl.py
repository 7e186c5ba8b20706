"""ICL-NUIM (Handa et al. 2014), in its TUM-compatible PNG form."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.datasets.files import FRAME_RATE, FileSequence
from gradslam_ng.datasets.intrinsics import Intrinsics, find_intrinsics
from gradslam_ng.datasets.text import inside, list_lines, pose, timestamp
from gradslam_ng.structures import Trajectory

CAMERA = (481.2, 480.0, 319.5, 239.5)  # fx, fy, cx, cy, pixels; fy is -480 in the data set's own y-up axes
Y_UP = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))


class ICL(FileSequence):
    """A folder with `associations.txt` and, where known, the poses as `*.gt.freiburg` or `*.gt.sim`.

    The data set's axes are x right, y up, z forward, for world and camera alike; poses are brought to ours, with y
    down, and its focal length fy = -480 to 480. Its time stamps count frames at 30 Hz and are turned to seconds. Its
    first frame, number 0, has no pose.

    Args:
        folder: of the sequence.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels; default `intrinsics.txt` in the folder, else the data set's.
        depth_scale: units of the depth files in a meter.
        max_gap: the longest interval of the ground truth to interpolate across, seconds.

    Raises:
        ValueError: a list is not as described, or names a file outside the folder.
        FileNotFoundError: the list is missing, or no frame has both its files.
    """

    layout = "icl"
    expected_files = "associations.txt and *.gt.freiburg or *.gt.sim [intrinsics.txt]"

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        intrinsics: Intrinsics | None = None,
        depth_scale: float = 5000.0,
        max_gap: float = 0.1,
    ) -> None:
        folder = Path(folder)
        K, note = find_intrinsics(intrinsics, folder, CAMERA, y_up=True)
        frames = _read_associations(folder / "associations.txt")
        super().__init__(
            name=folder.resolve().name,
            layout=self.layout,
            color=[color for _, color, _ in frames],
            depth=[depth for _, _, depth in frames],
            K=K,
            timestamps=torch.tensor([number for number, _, _ in frames], dtype=torch.float64) / FRAME_RATE,
            depth_scale=depth_scale,
            ground_truth=_read_ground_truth(folder),
            max_gap=max_gap,
            notes=[note, "time stamps: frame numbers at 30 Hz", "poses: turned from y up to y down"],
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        return (folder / "associations.txt").is_file() and _ground_truth_file(folder) is not None


def _read_associations(path: Path) -> list[tuple[float, Path, Path]]:
    """Frame number, color and depth file of lines `number file number file`; either file may be the first."""
    entries = []
    for line, words in list_lines(path):
        where = f"{path}, line {line}"
        if len(words) != 4:
            raise ValueError(f"{where}: expected 'number rgb/file number depth/file', got {' '.join(words)[:100]!r}")
        first, second = words[:2], words[2:]
        color, depth = (second, first) if first[1].startswith("depth") else (first, second)
        files = inside(path.parent, color[1], where), inside(path.parent, depth[1], where)
        entries.append((timestamp(depth[0], where), *files))
    if entries != sorted(entries, key=lambda entry: entry[0]):
        warnings.warn(f"{path}: time stamps out of order, sorted", stacklevel=3)
        entries.sort(key=lambda entry: entry[0])
    return entries


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
        numbers = torch.arange(1, len(T_up) + 1, dtype=torch.float64)  # the first pose is frame 1's, as in .gt.freiburg
    return Trajectory(numbers / FRAME_RATE, Y_UP @ T_up @ Y_UP)


def _read_sim(path: Path) -> Tensor:
    """(L, 4, 4) of a file of 3x4 matrices, three lines each, with empty lines between."""
    rows = list_lines(path)
    if not rows or len(rows) % 3:
        raise ValueError(f"{path}: expected poses of 3x4 numbers, three lines each; got {len(rows)} lines")
    poses = []
    for first in range(0, len(rows), 3):
        words = [word for _, row in rows[first : first + 3] for word in row]
        poses.append(pose(words, f"{path}, line {rows[first][0]}"))
    return torch.stack(poses)
