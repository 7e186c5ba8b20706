"""Bags of ROS 1 and ROS 2 written by `rosbags`, for samples and tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SIZE = (24, 32)  # of images, where none is given


class BagWriter:
    """Writes messages to a bag: `kind` is ros1, db3 or mcap."""

    def __init__(self, path: Path, *, kind: str, compression: str = "none") -> None:
        from rosbags import rosbag1, rosbag2
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        self.kind, self.path = kind, path
        self.store = get_typestore(Stores.ROS1_NOETIC if kind == "ros1" else Stores.ROS2_HUMBLE)
        if kind == "ros1":
            form = "geometry_msgs/TransformStamped[] transforms"
            self.store.register(get_types_from_msg(form, "tf2_msgs/msg/TFMessage"))
            self.writer: Any = rosbag1.Writer(path)
            if compression != "none":
                self.writer.set_compression(rosbag1.Writer.CompressionFormat[compression.upper()])
        else:
            plugin = rosbag2.StoragePlugin.SQLITE3 if kind == "db3" else rosbag2.StoragePlugin.MCAP
            self.writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
            if compression != "none":
                mode = rosbag2.CompressionMode.STORAGE if kind == "mcap" else rosbag2.CompressionMode.MESSAGE
                self.writer.set_compression(mode, rosbag2.CompressionFormat.ZSTD)
        self.connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        self.writer.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.writer.close()

    def make(self, kind: str, **values: Any) -> Any:
        """A message; of ROS 1 the names of a CameraInfo are capitals, and a header has a number."""
        if kind == "std_msgs/msg/Header" and self.kind == "ros1":
            values["seq"] = 0
        if kind == "sensor_msgs/msg/CameraInfo" and self.kind == "ros1":
            values = {name.upper() if name in "dkrp" else name: value for name, value in values.items()}
        return self.store.types[kind](**values)

    def header(self, time: int, frame: str) -> Any:
        stamp = self.make("builtin_interfaces/msg/Time", sec=time // 10**9, nanosec=time % 10**9)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)

    def write(self, topic: str, message: Any, time: int, behind: bytes = b"") -> None:
        name = message.__msgtype__
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, name, typestore=self.store)
        serialize = self.store.serialize_ros1 if self.kind == "ros1" else self.store.serialize_cdr
        self.writer.write(self.connections[topic], time, bytes(serialize(message, name)) + behind)

    def image(
        self, topic: str, pixels: np.ndarray, encoding: str, time: int, frame: str, recorded: int = 0,
        behind: bytes = b"",
    ) -> None:  # fmt: skip
        """A raw image whose rows are padded by four bytes."""
        rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
        data = np.pad(rows, ((0, 0), (0, 4))).ravel()
        message = self.make(
            "sensor_msgs/msg/Image",
            header=self.header(time, frame),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=rows.shape[1] + 4,
            data=data,
        )
        self.write(topic, message, recorded or time + 5_000_000, behind)

    def compressed(self, topic: str, data: bytes, form: str, time: int, frame: str) -> None:
        header = self.header(time, frame)
        content = np.frombuffer(data, np.uint8)
        message = self.make("sensor_msgs/msg/CompressedImage", header=header, format=form, data=content)
        self.write(topic, message, time)

    def info(
        self, topic: str, time: int, frame: str, size: tuple[int, int] = SIZE, f: float = 30.0,
        model: str = "plumb_bob", distortion: tuple[float, ...] = (0.0,) * 5,
    ) -> None:  # fmt: skip
        height, width = size
        K = [f, 0, (width - 1) / 2, 0, f, (height - 1) / 2, 0, 0, 1]
        P = [f, 0, (width - 1) / 2, 0, 0, f, (height - 1) / 2, 0, 0, 0, 1, 0]
        region = self.make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        message = self.make(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(time, frame),
            height=height,
            width=width,
            distortion_model=model,
            d=np.array(distortion, dtype=np.float64),
            k=np.array(K, dtype=np.float64),
            r=np.eye(3).ravel(),
            p=np.array(P, dtype=np.float64),
            binning_x=0,
            binning_y=0,
            roi=region,
        )
        self.write(topic, message, time)

    def transform(self, topic: str, parent: str, child: str, t: tuple, q: tuple, time: int) -> None:
        names = dict(zip("xyz", t, strict=True)), dict(zip("xyzw", q, strict=True))
        inner = self.make(
            "geometry_msgs/msg/Transform",
            translation=self.make("geometry_msgs/msg/Vector3", **names[0]),
            rotation=self.make("geometry_msgs/msg/Quaternion", **names[1]),
        )
        stamped = self.make(
            "geometry_msgs/msg/TransformStamped",
            header=self.header(time, parent),
            child_frame_id=child,
            transform=inner,
        )
        self.write(topic, self.make("tf2_msgs/msg/TFMessage", transforms=[stamped]), time)
