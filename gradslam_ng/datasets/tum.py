"""TUM RGB-D (Sturm et al. 2012), and whatever is recorded in its layout."""

from __future__ import annotations

import bisect
import heapq
import itertools
import os
import re
import warnings
from pathlib import Path

import torch

from gradslam_ng.datasets.camera import Camera
from gradslam_ng.datasets.camera_files import find_camera, unknown_camera
from gradslam_ng.datasets.files import FileSequence
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.intrinsics import Intrinsics, parse_intrinsics
from gradslam_ng.datasets.sequence import STRUCTURED_LIGHT_RANGE
from gradslam_ng.datasets.text import listed_file, read_list, read_trajectory, timestamp_and_rest
from gradslam_ng.io.text import Line
from gradslam_ng.structures.trajectory_columns import NANOSECONDS

# Published calibration of the color cameras: fx, fy, cx, cy, pixels, and distortion k1, k2, p1, p2, k3. The depth
# images are registered to them; those of freiburg3 are rectified already.
CAMERAS = {
    "1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "3": ((535.4, 539.2, 320.1, 247.6), None),
}
# ... and of the Bonn RGB-D dynamic data set (Palazzolo et al. 2019), which has their layout.
BONN = ((542.822841, 542.576870, 315.593520, 237.756098), (0.039903, -0.099343, -0.000730, -0.000144, 0.0))
SIZE = (480, 640)  # height and width of their images
DEPTH_SCALE = 5000.0
ROUNDING = 5e-7  # seconds: what is left out of time stamps of today in float64, with a margin
LIST_FORM = "'timestamp filename'"


class TUM(FileSequence):
    """A folder with `rgb.txt`, `depth.txt` and, where known, `groundtruth.txt`.

    Color and depth are paired by time stamp, the closest first, each used once; where the camera's file tells how much
    color's are late (`time_offset`), after that is taken off. A frame's time is that of its depth
    image, from which the pose is found. The camera is that of `intrinsics`, else of `intrinsics.txt` in the folder,
    else the published one of freiburg1, 2 or 3 by the folder's name, whose distortion is then undone.

    Args:
        folder: of the sequence.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels, of images without distortion.
        depth_scale: units of the depth files in a meter.
        max_difference: the longest time between the color and the depth of a frame, seconds.
        max_gap: the longest interval of the ground truth to interpolate across, seconds.

    Raises:
        ValueError: the camera is not known; a list is not as described, or names a file outside the folder.
        FileNotFoundError: a list is missing, or no frame has both its files.
    """

    layout = "tum"
    expected_files = "rgb.txt and depth.txt [groundtruth.txt, intrinsics.txt]"
    max_depth = STRUCTURED_LIGHT_RANGE

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        intrinsics: Intrinsics | None = None,
        depth_scale: float | None = None,
        max_difference: float = 0.02,
        max_gap: float = 0.1,
    ) -> None:
        folder = Path(folder)
        camera = _camera(folder, intrinsics)
        color_times, color = read_images(folder / "rgb.txt")
        depth_times, depth = read_images(folder / "depth.txt")
        color_times = [time - camera.time_offset for time in color_times]
        pairs, findings = _pair(color_times, depth_times, max_difference)
        if not pairs:
            ranges = f"color is of {color_times[0]:.6f} to {color_times[-1]:.6f}, depth of {depth_times[0]:.6f} to "
            reasons = "".join(f"; {finding.message}" for finding in findings if finding.code == "time.ambiguous")
            raise ValueError(
                f"{folder}: no color image within {max_difference} s of a depth image: {ranges}{depth_times[-1]:.6f}"
                f"{reasons}; expected time stamps in seconds"
            )
        truth = folder / "groundtruth.txt"
        super().__init__(
            name=folder.resolve().name,
            layout=self.layout,
            color=[color[i] for i, _ in pairs],
            depth=[depth[j] for _, j in pairs],
            camera=camera,
            is_paired_by_time=True,
            timestamps=torch.tensor([depth_times[j] for _, j in pairs], dtype=torch.float64),
            depth_scale=depth_scale,
            default_scale=DEPTH_SCALE,
            ground_truth=read_trajectory(truth) if truth.is_file() else None,
            max_gap=max_gap,
            findings=findings,
            notes=[f"{len(color)} color and {len(depth)} depth images listed, {len(pairs)} pairs"],
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        return (folder / "rgb.txt").is_file() and (folder / "depth.txt").is_file()


def _camera(folder: Path, intrinsics: Intrinsics | None) -> Camera:
    """The camera as given, that of a file, or the published one of a sequence that the folder's name tells."""
    name = re.search(r"(?:^|_)(?:freiburg|fr)([123])(?:_|$)", folder.resolve().name)
    default = None
    is_bonn = folder.resolve().name.startswith("rgbd_bonn_")
    if name is not None or is_bonn:
        source = "published calibration of " + (f"freiburg{name[1]}" if name else "the Bonn data set")
        finding = Finding("note", "camera.published", f"the camera is the {source}, by the folder's name")
        pinhole, distortion = CAMERAS[name[1]] if name else BONN
        default = Camera(parse_intrinsics(pinhole), source, SIZE, distortion, findings=(finding,))
    camera = find_camera(intrinsics, [folder], default)
    if camera is None:
        more = "; a sequence of TUM or Bonn is known by freiburg1, 2 or 3, or rgbd_bonn_, in its folder's name"
        raise ValueError(unknown_camera(folder) + more)
    return camera


def read_images(path: Path) -> tuple[list[float], list[Path]]:
    """Time stamps, seconds, in order, and files of a list with lines `timestamp filename`, relative to its folder.

    Those of today in nanoseconds are told by their size, as in trajectories.
    """
    listed = read_list(path, LIST_FORM, _parse_image)
    if 2 * sum(time > NANOSECONDS for time, _ in listed) > len(listed):
        listed = [(1e-9 * time, file) for time, file in listed]
    entries = list(dict.fromkeys(listed))
    if len(entries) < len(listed):
        warnings.warn(f"{path}: {len(listed) - len(entries)} lines are there twice, and count once", stacklevel=3)
    if entries != sorted(entries, key=lambda entry: entry[0]):
        warnings.warn(f"{path}: time stamps out of order, sorted", stacklevel=3)
        entries.sort(key=lambda entry: entry[0])
    return [time for time, _ in entries], [file for _, file in entries]


def _parse_image(line: Line) -> tuple[float, Path]:
    """Time stamp and file of a line."""
    time, name = timestamp_and_rest(line, LIST_FORM)
    return time, listed_file(line.path.parent, name, line.where)


def _pair(color: list[float], depth: list[float], max_difference: float) -> tuple[list[tuple[int, int]], list[Finding]]:
    """Pairs of color and depth images by their times, without those whose times leave it open which they are."""
    unclear = ambiguous(color, depth, max_difference), ambiguous(depth, color, max_difference)
    kept = [
        [i for i in range(len(times)) if i not in those] for times, those in zip((color, depth), unclear, strict=True)
    ]
    pairs = associate([color[i] for i in kept[0]], [depth[j] for j in kept[1]], max_difference)
    found = []
    for kind, those in zip(("color", "depth"), unclear, strict=True):
        if those:
            text = (
                f"{len(those)} {kind} images are left out: they share time stamps, and as many of the other kind do not"
            )
            found.append(Finding("warning", "time.ambiguous", text))
    possible = min(len(color), len(depth))
    if 2 * len(pairs) < possible:
        text = f"only {len(pairs)} pairs of {possible} images of each kind are within {max_difference:g} s"
        found.append(Finding("warning", "time.pairs", text))
    return [(kept[0][i], kept[1][j]) for i, j in pairs], found


def ambiguous(times: list[float], others: list[float], max_difference: float) -> set[int]:
    """Those of sorted times that are equal to others of them, where not as many of the other kind are near."""
    found: set[int] = set()
    reach = max_difference + ROUNDING
    for time, group in itertools.groupby(range(len(times)), key=times.__getitem__):
        members = list(group)
        near = bisect.bisect_right(others, time + reach) - bisect.bisect_left(others, time - reach)
        if len(members) > 1 and near != len(members):
            found.update(members)
    return found


def associate(a: list[float], b: list[float], max_difference: float) -> list[tuple[int, int]]:
    """Pairs (i, j) of two sorted lists of times, each entry used once, both in order of time: they never cross.

    What is paired is what `associate.py` of the TUM tools picks by comparing all with all, the closest first, in
    n log n: of what is left, the closest two are neighbors in the merged order, and when they leave, the two around
    them become neighbors. Entries of equal time alternate in that order, so that the first goes with the first. What
    was picked is then paired in order, which makes no difference of a pair longer than the longest was.
    """
    merged = sorted([(time, rank, 0, i) for i, (time, rank) in enumerate(_ranked(a))]
                    + [(time, rank, 1, j) for j, (time, rank) in enumerate(_ranked(b))])  # fmt: skip
    before = list(range(-1, len(merged) - 1))
    after = list(range(1, len(merged) + 1))
    taken = [False] * len(merged)
    heap: list[tuple[float, int, int]] = []

    def offer(left: int, right: int) -> None:
        if left >= 0 and right < len(merged) and merged[left][2] != merged[right][2]:
            difference = merged[right][0] - merged[left][0]
            if difference <= max_difference + ROUNDING:
                heapq.heappush(heap, (difference, left, right))

    for left in range(len(merged) - 1):
        offer(left, left + 1)
    while heap:
        _, left, right = heapq.heappop(heap)
        if taken[left] or taken[right]:
            continue
        taken[left] = taken[right] = True
        outer_left, outer_right = before[left], after[right]
        if outer_left >= 0:
            after[outer_left] = outer_right
        if outer_right < len(merged):
            before[outer_right] = outer_left
        offer(outer_left, outer_right)
    picked = [
        [entry[3] for entry, used in zip(merged, taken, strict=True) if used and entry[2] == side] for side in (0, 1)
    ]
    return list(zip(*picked, strict=True))


def _ranked(times: list[float]) -> list[tuple[float, int]]:
    """Each time of a sorted list with the number of equal ones before it."""
    ranked: list[tuple[float, int]] = []
    for time in times:
        rank = ranked[-1][1] + 1 if ranked and ranked[-1][0] == time else 0
        ranked.append((time, rank))
    return ranked
