"""ICL-NUIM (Handa et al. 2014), in its TUM-compatible PNG form."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.datasets.camera import assumed
from gradslam_ng.datasets.camera_files import find_camera
from gradslam_ng.datasets.files import FileSequence
from gradslam_ng.datasets.image_files import visible_files
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.recorded import FRAME_RATE
from gradslam_ng.datasets.text import WORD, listed_file, parse_poses, pose, read_list, read_trajectory, timestamp
from gradslam_ng.io.text import BadLine, Line, NoContent, is_number, read_lines
from gradslam_ng.structures import Trajectory

# fx, fy, cx, cy, pixels, and height and width of the images; fy is -480 in the data set's own y-up axes
CAMERA = (481.2, 480.0, 319.5, 239.5), (480, 640)
OF_DATA_SET = re.compile(r"(?:livingroom|traj)[0-3]n?\.gt\.", re.IGNORECASE)  # how its ground truth is called
DEPTH_SCALE = 5000.0
Y_UP = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
SIM_FORM = "poses of 3x4 numbers, three lines each"
LIST_FORM = "'number rgb/file number depth/file'"


class ICL(FileSequence):
    """A folder with `associations.txt` and, where known, the poses as `*.gt.freiburg` or `*.gt.sim`.

    The data set's axes are x right, y up, z forward, for world and camera alike; poses are brought to ours, with y
    down, and its focal length fy = -480 to 480. Its time stamps count frames at 30 Hz and are turned to seconds. Its
    first frame, number 0, has no pose.

    Args:
        folder: of the sequence.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels; default `intrinsics.txt` in the folder, else the data set's.
        depth_scale: units of the depth files in a meter; default: the camera file's, else 5000.
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
        depth_scale: float | None = None,
        max_gap: float = 0.1,
    ) -> None:
        folder = Path(folder)
        truth = _ground_truth_file(folder)
        default = assumed(*CAMERA, "ICL-NUIM", truth is not None and OF_DATA_SET.match(truth.name) is not None)
        camera = find_camera(intrinsics, [folder], default, y_up=True)
        frames = _read_associations(folder / "associations.txt")
        super().__init__(
            name=folder.resolve().name,
            layout=self.layout,
            color=[color for _, color, _ in frames],
            depth=[depth for _, _, depth in frames],
            camera=camera,
            timestamps=torch.tensor([number for number, _, _ in frames], dtype=torch.float64) / FRAME_RATE,
            depth_scale=depth_scale,
            default_scale=DEPTH_SCALE,
            ground_truth=_read_ground_truth(folder),
            max_gap=max_gap,
            notes=["time stamps: frame numbers at 30 Hz", "poses: turned from y up to y down"],
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        return (folder / "associations.txt").is_file() and _ground_truth_file(folder) is not None


def _read_associations(path: Path) -> list[tuple[float, Path, Path]]:
    """Frame number, color and depth file of lines `number file number file`; either file may be the first."""
    entries = read_list(path, LIST_FORM, _parse_pair)
    if entries != sorted(entries, key=lambda entry: entry[0]):
        warnings.warn(f"{path}: time stamps out of order, sorted", stacklevel=3)
        entries.sort(key=lambda entry: entry[0])
    return entries


def _parse_pair(line: Line) -> tuple[float, Path, Path]:
    """Frame number, color and depth file of a line; names with blanks are those between which the second number is."""
    words = list(WORD.finditer(line.text))
    numbers = [word for word in words[2:-1] if is_number(word[0].strip("\"'"))]
    if not numbers:
        raise BadLine(f"{line.where}: expected {LIST_FORM}, got {line.text[:100]!r}")
    for second in numbers:
        texts = line.text[words[1].start() : second.start()], line.text[second.end() :].lstrip(" \t,;")
        files = [listed_file(line.path.parent, text, line.where) for text in texts]
        if all(file.is_file() for file in files):
            break
    stamps = [timestamp(word[0].strip("\"'"), line.where) for word in (words[0], second)]
    is_depth_first = texts[0].strip("\"' ").startswith("depth")
    color, depth = reversed(files) if is_depth_first else files
    return stamps[0 if is_depth_first else 1], color, depth


def _ground_truth_file(folder: Path) -> Path | None:
    found = [path for ending in (".gt.freiburg", ".gt.sim") for path in visible_files(folder, ending)]
    return found[0] if found else None


def _read_ground_truth(folder: Path) -> Trajectory | None:
    """The poses in our axes and in seconds: with F = diag(1, -1, 1), T becomes F T F."""
    path = _ground_truth_file(folder)
    if path is None:
        return None
    if path.suffix == ".freiburg":
        given = read_trajectory(path)
        if given is None:
            return None
        numbers, T_up = given.timestamps, given.T_wc
    else:
        try:
            T_up = _read_sim(path)
        except NoContent as error:
            warnings.warn(f"{error}; no pose is known", stacklevel=2)
            return None
        numbers = torch.arange(1, len(T_up) + 1, dtype=torch.float64)  # the first pose is frame 1's, as in .gt.freiburg
    return Trajectory(numbers / FRAME_RATE, Y_UP @ T_up @ Y_UP)


def _read_sim(path: Path) -> Tensor:
    """(L, 4, 4) of a file of 3x4 matrices, three lines each, empty lines between; NaN for one that is not whole."""
    rows = read_lines(path, SIM_FORM).lines
    blocks: list[list[Line]] = []
    for row in rows:
        if not blocks or len(blocks[-1]) == 3 or row.number > blocks[-1][-1].number + 1:
            blocks.append([])
        blocks[-1].append(row)
    is_gapless = rows[-1].number - rows[0].number == len(rows) - 1
    if is_gapless and len(rows) % 3:  # which of the lines is missing, and so which belong together, cannot be told
        raise ValueError(f"{path}: expected {SIM_FORM}, got {len(rows)} lines")
    return torch.stack(parse_poses(blocks, _parse_sim_pose, f"poses of {path.name}"))


def _parse_sim_pose(rows: list[Line]) -> Tensor:
    """The pose (4, 4) of three lines."""
    return pose([number for row in rows for number in row.numbers("4 numbers", (4,))], rows[0].where)
