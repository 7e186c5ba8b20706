"""What is in a bag, found by reading it once: images by time and place, cameras, and where they are to each other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradslam_ng.datasets.bags.cameras import camera_of_text
from gradslam_ng.datasets.bags.frame_tree import FrameTree, rigid, rigid_column_major
from gradslam_ng.datasets.bags.mcap import McapFile
from gradslam_ng.datasets.bags.messages import Deserializer, header_time
from gradslam_ng.datasets.bags.pictures import encoding_of
from gradslam_ng.datasets.bags.ros1 import Ros1File
from gradslam_ng.datasets.bags.sqlite import SqliteFile
from gradslam_ng.datasets.bags.storage import Message, Position, Storage, StorageError, Topic

KINDS = (Ros1File, McapFile, SqliteFile)
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO = "sensor_msgs/msg/CameraInfo"
TRANSFORMS = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
MANY_TRANSFORMS = 500  # messages of what moves, after which no new frame is waited for
# What a RealSense tells of a stream: its place, in its own kind of bag, and in that of its ROS nodes
SDK_PLACE = re.compile(r"(/device_\d+/sensor_\d+/[^/]+)/tf/(?:ref_)?(\d+)$")
SDK_UNITS = re.compile(r"(/device_\d+/sensor_\d+)/option/Depth[_ ]Units/value$")
NODE_PLACE = re.compile(r"(.*)/extrinsics/(\w+)_to_(\w+)$")


@dataclass
class Image:
    """The images of a topic."""

    topic: Topic
    encoding: str  # of the first
    frame: str  # of coordinates, in which the camera looks along z
    size: tuple[int, int] | None  # height and width; None where they are compressed
    times: list[float] = field(default_factory=list)  # seconds, of their headers
    recorded: list[float] = field(default_factory=list)  # seconds, when each was recorded
    places: list[tuple[int, Position]] = field(default_factory=list)  # file, and position in it


@dataclass
class BagIndex:
    """What a bag holds."""

    images: dict[str, Image] = field(default_factory=dict)
    infos: dict[str, Any] = field(default_factory=dict)  # CameraInfo or text, by topic
    frames: FrameTree = field(default_factory=FrameTree)
    depth_units: dict[str, float] = field(default_factory=dict)  # meters, by the sensor's prefix
    problems: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)  # kinds of messages


def open_files(paths: Sequence[Path]) -> list[Storage]:
    """The files of a bag, by what they begin with; StorageError for one that is none."""
    found: list[Storage] = []
    for path in paths:
        kind = next((kind for kind in KINDS if kind.recognizes(path)), None)
        if kind is None:
            raise StorageError(f"{path}: expected a bag of ROS 1 or ROS 2 (.bag, .db3, .mcap), got other bytes")
        found.append(kind(path))
    return found


class Indexer:
    """Reads the messages of a bag once."""

    def __init__(self, files: Sequence[Storage], *, deserializer: Deserializer) -> None:
        self.files, self.deserializer = files, deserializer
        self.found = BagIndex()
        self._count: Counter[str] = Counter()  # of transforms
        self._failed: set[str] = set()  # topics of which a message could not be read

    def read(self) -> BagIndex:
        for number, file in enumerate(self.files):
            for message in file.messages():
                self._try(number, file.topics[message.topic], message)
            self.found.problems += file.problems
            self.found.topics |= {topic.name: topic.kind for topic in file.topics.values()}
        return self.found

    def _try(self, number: int, topic: Topic, message: Message) -> None:
        """Add a message, or tell once of each topic that some cannot be read."""
        try:
            self._add(number, topic, message)
        except (ValueError, AttributeError, TypeError) as error:  # a message of another kind than its name says
            if topic.name not in self._failed:
                self.found.problems.append(str(error))
            self._failed.add(topic.name)

    def _add(self, number: int, topic: Topic, message: Message) -> None:
        name = topic.name
        if topic.kind in IMAGES:
            self._add_image(number, topic, message)
        elif topic.kind == INFO:
            if name not in self.found.infos:
                self.found.infos[name] = self.deserializer.message(topic, message.data)
        elif topic.kind in TRANSFORMS:
            self._count[name] += 1
            if "static" in name or self._count[name] < MANY_TRANSFORMS:
                for each in self.deserializer.message(topic, message.data).transforms:
                    T = rigid(each.transform.translation, each.transform.rotation)
                    self.found.frames.add(each.header.frame_id, each.child_frame_id, T)
        elif SDK_PLACE.match(name) or SDK_UNITS.match(name) or NODE_PLACE.match(name) or _is_text_info(topic):
            if not self._count[name]:
                self._add_realsense(name, self.deserializer.message(topic, message.data))
            self._count[name] += 1

    def _add_image(self, number: int, topic: Topic, message: Message) -> None:
        image = self.found.images.get(topic.name)
        time = header_time(topic, message.data)
        if image is None:
            first = self.deserializer.message(topic, message.data)
            size = (int(first.height), int(first.width)) if topic.kind == IMAGES[0] else None
            image = self.found.images[topic.name] = Image(topic, encoding_of(first), first.header.frame_id, size)
        image.times.append(time)
        image.recorded.append(message.time * 1e-9)
        image.places.append((number, message.position))

    def _add_realsense(self, name: str, message: Any) -> None:
        if place := SDK_PLACE.match(name):
            # as librealsense writes it: what maps the reference's points into the stream's
            T = _sdk_place(message)
            self.found.frames.add(place[1], f"reference_{place[2]}", T)
        elif units := SDK_UNITS.match(name):
            self.found.depth_units[units[1]] = float(message.data)
        elif place := NODE_PLACE.match(name):
            T = rigid_column_major(message.rotation, message.translation)
            self.found.frames.add(f"{place[1]}/{place[3]}", f"{place[1]}/{place[2]}", T)
        else:
            camera_of_text(message.data, name)  # raises where it is none
            self.found.infos[name] = message.data


def _is_text_info(topic: Topic) -> bool:
    return topic.kind == "std_msgs/msg/String" and topic.name.endswith("/camera_info")


def _sdk_place(message: Any) -> Any:
    """T of the message, a Transform, or a text `rotation=...;translation=...`."""
    if message.__msgtype__ != "std_msgs/msg/String":
        return rigid(message.translation, message.rotation)
    numbers = dict(re.findall(r"(\w+)=([^;]*)", message.data))
    try:
        return rigid_column_major(*(numbers[name].split(",") for name in ("rotation", "translation")))
    except (KeyError, ValueError, RuntimeError) as error:
        raise StorageError(f"expected rotation and translation, got {message.data[:100]!r}") from error
