"""Messages of ROS 1 and ROS 2, made of their bytes by `rosbags`."""

from __future__ import annotations

import functools
import struct
from typing import Any

from gradslam_ng.datasets.bags.storage import StorageError, Topic, with_hint

IMAGE = "sensor_msgs/msg/Image"
# What librealsense has for the name of a frame, where it writes the unit of depth, four bytes, behind an image; the
# definition in the bag does not tell of it.
WITH_UNIT = struct.pack("<I", 1) + b"1"
LANGUAGES = ("ros1msg", "ros2msg", "ros2idl")


@functools.cache
def _known_stores() -> dict[str, Any]:
    """The types of ROS itself, by encoding; the code that reads them is made once."""
    from rosbags.typesys import Stores, get_typestore

    return {"ros1": get_typestore(Stores.ROS1_NOETIC), "cdr": get_typestore(Stores.LATEST)}


class Deserializer:
    """Makes messages of bytes, by the definitions that the bag has, else by those of ROS 2.

    Raises:
        ImportError: `rosbags` is not installed; says how to.
    """

    def __init__(self) -> None:
        with_hint("rosbags")
        self._stores = _known_stores()
        self._own: dict[tuple[str, str], Any] = {}  # of messages that these do not know

    def message(self, topic: Topic, data: bytes | memoryview) -> Any:
        """The message in bytes of a topic.

        Raises:
            StorageError: bytes that are none, or of a kind that nothing tells.
        """
        if topic.encoding not in self._stores:
            raise StorageError(f"{topic.name}: expected messages in ros1 or cdr, got {topic.encoding!r}")
        store = self._stores[topic.encoding]
        try:
            if topic.kind not in store.fielddefs:
                store = self._own_store(topic)
            if topic.encoding == "ros1":
                return _deserialize_ros1(store, data, topic.kind)
            return store.deserialize_cdr(data, topic.kind)
        except StorageError:
            raise
        except Exception as error:  # of broken bytes anything may come
            raise StorageError(f"{topic.name}: not a readable {topic.kind}: {error}") from error

    def _own_store(self, topic: Topic) -> Any:
        """A store of types with those that the bag defines."""
        from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

        key = topic.encoding, topic.kind
        if key not in self._own:
            if not topic.definition or topic.language not in LANGUAGES:
                raise StorageError(f"{topic.name}: the bag does not tell what a {topic.kind} is")
            store = get_typestore(Stores.EMPTY)
            is_idl = topic.language == "ros2idl"
            parsed = (
                get_types_from_idl(topic.definition) if is_idl else get_types_from_msg(topic.definition, topic.kind)
            )
            store.register(parsed)
            self._own[key] = store
        return self._own[key]

    def __reduce__(self) -> tuple:
        return Deserializer, ()  # what reads messages is code made at run time, which cannot be pickled


def _deserialize_ros1(store: Any, data: bytes | memoryview, kind: str) -> Any:
    """A message of ROS 1, without what a RealSense has behind it."""
    if kind != IMAGE or bytes(data[12:17]) != WITH_UNIT:
        return store.deserialize_ros1(data, kind)
    try:
        return store.deserialize_ros1(data[:-4], kind)
    except Exception:  # of another recorder, whose frame has that name
        return store.deserialize_ros1(data, kind)


def header_time(topic: Topic, data: bytes | memoryview) -> float:
    """The time stamp in the header that a message begins with, seconds; StorageError where it is cut off."""
    try:
        if topic.encoding == "ros1":
            _, seconds, nanoseconds = struct.unpack_from("<III", data)
        else:
            order = "<" if data[1] & 1 else ">"
            seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
    except (struct.error, IndexError) as error:
        raise StorageError(f"{topic.name}: a message without a header") from error
    return seconds + nanoseconds * 1e-9
