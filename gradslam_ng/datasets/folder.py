"""Loader of a plain folder of images, for a camera of one's own."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.datasets.camera_files import find_camera, unknown_camera
from gradslam_ng.datasets.files import FileSequence
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.image_files import (
    COLOR_ENDINGS,
    DEPTH_ENDINGS,
    find_images,
    match_numbers,
    match_places,
    visible_files,
    visible_paths,
)
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.recorded import FRAME_RATE
from gradslam_ng.datasets.text import by_number, per_frame_truth, read_pose_table, read_poses, read_trajectory
from gradslam_ng.datasets.tum import associate
from gradslam_ng.io.text import NoContent, read_lines

DEPTH_SCALE = 1000.0
COLOR_FOLDERS = ("color", "rgb", "image", "images")  # the first that is there counts
EPOCH = {13: 1e3, 16: 1e6, 19: 1e9}  # digits of milli-, micro- and nanoseconds since 1970, and of these in a second
# Of poses; the first that is there counts
TABLES = ("poses.txt", "groundtruth.txt", "traj.txt", "trajectory.txt", "trajectory.log")
LIKE_POSES = re.compile(r"pose|traj|ground_?truth|extrinsic|odometry")
MAX_DIFFERENCE = 0.02  # seconds between color and depth of a frame, where their names are times of their own
Images = dict[tuple[int, ...], Path]  # by the numbers in their names


class Folder(FileSequence):
    """A folder with `color/`, `depth/`, `intrinsics.txt` or `.json`, and optionally `poses.txt` or `poses/`.

    So record Open3D's recorders; `color/` may be called `rgb/`, `image/` or `images/` too, as HoloLens recordings of
    deep-video-mvs (Duzceker et al. 2021) have it, with `K.txt`.

    Color and depth files belong together by the numbers in their names, or by time where names are times of their own.
    Where names have several numbers, it is that which they share, as 12 in `cam0_0012.png` and `cam1_0012.png`. Time
    stamps are the names, where they are decimal numbers (seconds) or whole ones of 13, 16 or 19 digits (milli-, micro-,
    nanoseconds since 1970), else those of `poses.txt`, else the place in the sequence at `rate`. `poses.txt` is in the
    TUM format, or has one 4x4 pose for each frame, a line or four lines each; so may `groundtruth.txt`, `traj.txt`,
    `trajectory.txt` and `trajectory.log`. `poses/`, or `pose/`, has a text file for each frame.

    Depth is PNG, PGM or TIFF of 16 bit, divided by the depth scale, or float TIFF or `.npy`, in meters unless a scale
    is given.

    Args:
        folder: of the sequence.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels, of images without distortion; overrides the file's. Those of
            a camera whose file tells its distortion are undistorted on loading.
        depth_scale: units of the depth files in a meter; default: that of `intrinsics.json`, else 1000.
        rate: frames a second, where there are no time stamps.
        max_gap: the longest interval of `poses.txt` to interpolate across, seconds.

    Raises:
        ValueError: the camera is not known; no color belongs to a depth; poses do not fit the frames.
        FileNotFoundError: no frame has both its files.
    """

    layout = "folder"
    expected_files = (
        "color/ (or rgb/, images/), depth/ and intrinsics.txt, intrinsics.json or K.txt [poses.txt or poses/]"
    )

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        intrinsics: Intrinsics | None = None,
        depth_scale: float | None = None,
        rate: float = FRAME_RATE,
        max_gap: float = 0.1,
    ) -> None:
        folder = Path(folder)
        if not rate > 0:
            raise ValueError(f"rate: expected a positive number of frames a second, got {rate}")
        camera = find_camera(intrinsics, [folder])
        if camera is None:
            raise ValueError(unknown_camera(folder))
        color_folder = next(path for name in COLOR_FOLDERS if (path := folder / name).is_dir())
        color, depth = _images(color_folder, COLOR_ENDINGS), _images(folder / "depth", DEPTH_ENDINGS)
        are_times = all(map(_is_time, [*color.values(), *depth.values()]))
        color, depth = _paired_by_time(color, depth, camera.time_offset) if are_times else match_places(color, depth)
        depth, findings = match_numbers(list(color), depth, "depth images")
        if not color.keys() & depth.keys():
            first = next(iter(color.values())).name
            there = f"the number of one in {color_folder.name}/, such as {first}"
            raise ValueError(f"{folder}: no file in depth/ has {there}")
        timestamps, truth, note = _times_and_poses(folder, color, rate, camera.time_offset, findings)
        super().__init__(
            name=folder.resolve().name,
            layout=self.layout,
            color=list(color.values()),
            depth=[depth.get(key, folder / "depth" / f"{path.stem}.png") for key, path in color.items()],
            camera=camera,
            is_paired_by_time=are_times,
            timestamps=timestamps,
            depth_scale=depth_scale,
            default_scale=DEPTH_SCALE,
            max_gap=max_gap,
            notes=[note],
            findings=findings,
            **truth,
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        return (folder / "depth").is_dir() and any((folder / name).is_dir() for name in COLOR_FOLDERS)


def _images(folder: Path, endings: tuple[str, ...]) -> Images:
    """Images by number; names that are times are in order of time."""
    files = by_number(find_images(folder, endings))
    if all(_is_time(path) for path in files.values()):
        return dict(sorted(files.items(), key=lambda item: _time(item[1])))
    return files


def _paired_by_time(color: Images, depth: Images, time_offset: float) -> tuple[Images, Images]:
    """Images whose names are times, none of them of both kinds unless `time_offset`, what those of color are late, sets
    them apart, as pairs of neighbors under the numbers of color."""
    if color.keys() & depth.keys() and time_offset == 0:
        return color, depth
    color_times = [_time(path) - time_offset for path in color.values()]
    depth_times = [_time(path) for path in depth.values()]
    pairs = associate(color_times, depth_times, MAX_DIFFERENCE)
    if not pairs:
        return color, depth
    keys, depth_files = list(color), list(depth.values())
    return {keys[i]: color[keys[i]] for i, _ in pairs}, {keys[i]: depth_files[j] for i, j in pairs}


def _is_time(path: Path) -> bool:
    return re.fullmatch(r"\d+\.\d+", path.stem) is not None or (path.stem.isdecimal() and len(path.stem) in EPOCH)


def _time(path: Path) -> float:
    """Seconds, of a name that is a time."""
    return float(path.stem) if "." in path.stem else int(path.stem) / EPOCH[len(path.stem)]


def _times_and_poses(
    folder: Path, color: Images, rate: float, time_offset: float, findings: list[Finding]
) -> tuple[Tensor, dict[str, Any], str]:
    """Time stamps (L,), the ground truth as a Sequence takes it, and a note on where the times come from.

    Adds to `findings`.
    """
    timestamps = torch.arange(len(color), dtype=torch.float64) / rate
    note = f"time stamps: {rate:g} frames a second"
    named = bool(color) and all(_is_time(path) for path in color.values())
    if named:
        timestamps = torch.tensor([_time(path) - time_offset for path in color.values()], dtype=torch.float64)
        note = "time stamps: file names"
    files = _pose_files(folder)
    table = next((path for name in TABLES if (path := folder / name).is_file()), None)
    if table is None or (files and table.name != TABLES[0]):
        by_frame, found = _of_frames(color, files)
        findings += found or _unread_poses(folder, color, by_frame)
        poses = read_poses([by_frame.get(key) for key in color]) if files else []
        return timestamps, per_frame_truth(poses, timestamps) if files else {}, note
    try:
        if not _has_times(table):
            poses = read_pose_table(table)
            _check_count(table, len(poses), color)
            return timestamps, per_frame_truth(poses, timestamps) if poses else {}, note
        truth = read_trajectory(table)
        if named or truth is None:
            return timestamps, {} if truth is None else {"ground_truth": truth}, note
        _check_count(table, len(truth), color)
        return truth.timestamps, {"ground_truth": truth}, f"time stamps: {table.name}"
    except ValueError as error:
        if table.name == TABLES[0]:
            raise
        findings.append(Finding("warning", "poses.unread", f"{table.name} is not used as ground truth: {error}"))
        return timestamps, {}, note


def _check_count(table: Path, count: int, color: Images) -> None:
    """Raise ValueError for a table of poses that are not one for each frame, without anything that tells which."""
    if count not in (0, len(color)):
        raise ValueError(
            f"{table}: {count} poses for {len(color)} frames; expected one for each frame, or files whose names are "
            "their times beside poses that have times"
        )


def _pose_files(folder: Path) -> list[Path]:
    """The files of `poses/`, or `pose/`, one for each frame."""
    return visible_files(folder / "poses", ".txt") or visible_files(folder / "pose", ".txt")


def _of_frames(color: Images, files: list[Path]) -> tuple[Images, list[Finding]]:
    """Files of poses by the frames' keys, which may be one of the numbers in the names of color alone."""
    poses = by_number(files)
    if not poses.keys() & color.keys():
        named, poses = match_places(by_number(color.values()), poses)
        keys = {path: key for key, path in color.items()}
        poses = {keys[named[key]] if key in named else key: path for key, path in poses.items()}
    return match_numbers(list(color), poses, "poses")


def _unread_poses(folder: Path, color: Images, files: Images) -> list[Finding]:
    """That files may tell the ground truth, where none was read."""
    if files.keys() & color.keys():
        return []
    like = [path.name for path in visible_paths(folder) if LIKE_POSES.search(path.name.lower())]
    if not like:
        return []
    read = f"{TABLES[0]}, {TABLES[1]} and text files in poses/"
    text = f"{', '.join(like[:3])}: may tell the ground truth, and is not read; {read} are"
    return [Finding("note", "poses.unread", text)]


def _has_times(table: Path) -> bool:
    """Whether the lines of a file of poses begin with time stamps, as in the TUM format."""
    try:
        counts = Counter(len(line.words()) for line in read_lines(table, "poses").lines)
    except NoContent:
        return False
    return counts.most_common(1)[0][0] == 8
