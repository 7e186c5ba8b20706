"""Bags of ROS 1 (`.bag`) and ROS 2 (`.db3`, `.mcap`, or their folder), also those that a RealSense camera recorded."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.bags.index import BagIndex, Image, Indexer, open_files
from gradslam_ng.datasets.bags.messages import Deserializer
from gradslam_ng.datasets.bags.pictures import color_pixels, depth_pixels
from gradslam_ng.datasets.bags.poses import PoseTopics
from gradslam_ng.datasets.bags.topics import choose_topics, find_camera, is_registered
from gradslam_ng.datasets.camera import Camera, with_color
from gradslam_ng.datasets.camera_files import read_given, with_given
from gradslam_ng.datasets.depth_scale import DEFAULT
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.intrinsics import FORMS, Intrinsics
from gradslam_ng.datasets.recorded import RecordedSequence
from gradslam_ng.datasets.tum import associate

ENDINGS = (".bag", ".db3", ".mcap")
MAX_DIFFERENCE = 0.02  # seconds between the color and the depth of a frame


class Bag(RecordedSequence):
    """A bag of ROS 1 or ROS 2, or its folder: color and depth of two topics, paired by the times in their headers.

    Cameras are those of CameraInfo beside the images; where depth is in other pixels than color, their pose to each
    other is that of tf, or of RealSense's own topics. A bag that was not finished is read as far as it goes.

    Args:
        path: of a file, or of the folder that ROS 2 makes.
        topics: "COLOR,DEPTH"; default: the likeliest ones.
        intrinsics: overrides the camera: of depth, where it has one of its own.
        depth_scale: units of integer depth in a meter; default: RealSense's own, else 1000.
        max_difference: the longest time between the color and the depth of a frame, seconds.

    Raises:
        ImportError: `rosbags` is not installed; says how to.
        ValueError: not a bag, or one without color and depth; lists the topics. The camera is not known.
    """

    layout = "bag"
    expected_files = "NAME.bag, .db3 or .mcap, or a folder with metadata.yaml and these [--topics COLOR,DEPTH]"

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        topics: str | None = None,
        intrinsics: Intrinsics | None = None,
        depth_scale: float | None = None,
        max_difference: float = MAX_DIFFERENCE,
    ) -> None:
        path = Path(path)
        self.deserializer, self.files = Deserializer(), open_files(_files(path))
        found = Indexer(self.files, deserializer=self.deserializer).read()
        color, depth = choose_topics(found, topics)
        camera, note, findings = _camera(path, found, color, depth, intrinsics)
        pairs, clock = _pair(color, depth, max_difference, camera.time_offset)
        if not pairs:
            raise ValueError(f"{path}: no color within {max_difference:g} s of a depth image: {_ranges(color, depth)}")
        self.color_topic, self.depth_topic = color.topic, depth.topic
        names = _frames(color if camera.color is None else depth)
        self.poses = PoseTopics(self.files, self.deserializer, found.frames, names, is_by_header=clock)
        self.places = [(color.places[i], depth.places[j]) for i, j in pairs]
        times = depth.times if clock else depth.recorded
        scale, source = _scale(found, depth)
        super().__init__(
            name=path.stem,
            layout=self.layout,
            camera=camera,
            is_paired_by_time=True,
            depth_scale=depth_scale,
            default_scale=scale,
            default_source=source,
            timestamps=torch.tensor([times[j] for _, j in pairs], dtype=torch.float64),
            notes=[
                f"color: {color.topic.name} ({color.encoding}), {len(color.times)} images",
                f"depth: {depth.topic.name} ({depth.encoding}), {len(depth.times)} images; {note}",
                f"{len(pairs)} pairs, by the time {'in their headers' if clock else 'of recording'}",
            ],
            findings=[*findings, *_problems(path, found, pairs, color, depth)],
        )

    @staticmethod
    def recognizes(path: Path) -> bool:
        if path.is_file():
            return path.suffix.lower() in ENDINGS
        return path.is_dir() and bool(_files(path))

    def decode_color(self, index: int) -> np.ndarray:
        (number, position), _ = self.places[index]
        return color_pixels(self.deserializer.message(self.color_topic, self.files[number].read(position)))

    def decode_depth(self, index: int) -> np.ndarray:
        _, (number, position) = self.places[index]
        return depth_pixels(self.deserializer.message(self.depth_topic, self.files[number].read(position)))


def _files(path: Path) -> list[Path]:
    """The file, or those of a folder, in order of the numbers in their names."""
    if path.is_file():
        return [path]
    found = [each for each in path.iterdir() if each.suffix.lower() in ENDINGS[1:] and each.name[0] != "."]
    is_ros2 = (path / "metadata.yaml").is_file()
    if not is_ros2 and len(found) != 1:
        return []
    return sorted(found, key=lambda each: [int(digits) for digits in re.findall(r"\d+", each.stem)])


def _pair(color: Image, depth: Image, max_difference: float, time_offset: float) -> tuple[list[tuple[int, int]], bool]:
    """Pairs of images by their times, of which those of color are late by `time_offset`, and whether these are those in
    the headers, or those of recording.

    Headers without times, or of two clocks, do not tell what belongs together.
    """
    for of_header in (True, False):
        times = [image.times if of_header else image.recorded for image in (color, depth)]
        if of_header and (max(times[0]) <= 0 or max(times[1]) <= 0):
            continue
        times[0] = [time - time_offset for time in times[0]]
        orders = [sorted(range(len(each)), key=each.__getitem__) for each in times]
        ordered = [[each[k] for k in order] for each, order in zip(times, orders, strict=True)]
        pairs = associate(ordered[0], ordered[1], max_difference)
        if pairs:
            return [(orders[0][i], orders[1][j]) for i, j in pairs], of_header
    return [], True


def _ranges(color: Image, depth: Image) -> str:
    parts = (
        f"{kind} is of {min(i.times):.3f} to {max(i.times):.3f}" for kind, i in (("color", color), ("depth", depth))
    )
    return ", ".join(parts)


def _scale(found: BagIndex, depth: Image) -> tuple[float, str]:
    """Units of depth in a meter and who tells them: RealSense its own, else they are ROS's millimeters."""
    units = [value for prefix, value in found.depth_units.items() if depth.topic.name.startswith(f"{prefix}/")]
    return (1 / units[0], "the bag's") if units and 0 < units[0] < 1 else (1000.0, DEFAULT)


def _camera(
    path: Path, found: BagIndex, color: Image, depth: Image, given: Intrinsics | None
) -> tuple[Camera, str, list[Finding]]:
    """The camera of color, to which depth is registered, or that of depth with one of color beside it.

    And a note on how they are to each other, and what is odd about that.

    Raises:
        ValueError: nothing tells the camera.
    """
    color_camera, depth_camera = find_camera(found, color), find_camera(found, depth)
    T = _place(found, color, depth)
    is_one_frame = color.frame == depth.frame != "" and T is None and _are_alike(color_camera, depth_camera)
    is_same = is_registered(depth) or is_one_frame
    if color_camera is None and depth_camera is not None and is_same:
        color_camera = depth_camera
    if color_camera is None:
        if given is not None:
            return read_given(given), "registered to color", []
        text = f"{path}: the camera of {color.topic.name} is not known: no CameraInfo beside it"
        raise ValueError(f"{text}. Give it as the option intrinsics ({FORMS}, or a file)")
    if is_same or depth_camera is None:
        missing = [] if is_same else [_no_camera(depth)]
        return with_given(color_camera, given), "registered to color", missing
    if T is not None:
        apart = f"{1000 * float(T[:3, 3].norm()):.1f} mm from color"
        return with_given(with_color(depth_camera, color_camera, T), given), f"of a camera {apart}", []
    text = "the pose of the depth camera to the color camera is not in the bag: they are taken to be at one place"
    camera = with_color(depth_camera, color_camera, torch.eye(4, dtype=torch.float64))
    return with_given(camera, given), "pose to color unknown", [Finding("warning", "camera.pose", text)]


def _are_alike(a: Camera | None, b: Camera | None) -> bool:
    """Whether two cameras have the same K; frames of coordinates may have the same name for both of a device."""
    return a is None or b is None or torch.allclose(a.K, b.K, rtol=1e-3)


def _no_camera(depth: Image) -> Finding:
    text = f"no CameraInfo beside {depth.topic.name}: depth is taken to be registered to color"
    return Finding("warning", "camera.depth", text)


def _place(found: BagIndex, color: Image, depth: Image) -> Tensor | None:
    """T_color_depth (4, 4) between frames of the two, by the names in headers or by the beginnings of topics."""
    for a in _frames(color):
        for b in _frames(depth):
            if a != b and (T := found.frames.find(a, b)) is not None:
                return T
    return None


def _frames(image: Image) -> list[str]:
    """What the coordinates of a topic's images may be called, the longest name first."""
    parts = image.topic.name.strip("/").split("/")
    prefixes = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return [*prefixes, image.frame.strip("/")]


def _problems(path: Path, found: BagIndex, pairs: list, color: Image, depth: Image) -> list[Finding]:
    """What is odd about the bag."""
    odd = []
    if found.problems:
        text = f"{path.name} is read as far as it goes: {'; '.join(found.problems[:3])}"
        odd.append(Finding("warning", "files.unfinished", text))
    possible = min(len(color.times), len(depth.times))
    if 2 * len(pairs) < possible:
        text = f"only {len(pairs)} pairs of {possible} images of each kind are near each other in time"
        odd.append(Finding("warning", "time.pairs", text))
    return odd
