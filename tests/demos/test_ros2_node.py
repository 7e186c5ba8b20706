"""The node of ROS 2, without ROS: what has the fields of its messages becomes poses and a map."""

from __future__ import annotations

import queue
import sys
from collections import defaultdict
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from gradslam_ng.geometry import se3
from gradslam_ng.structures import SurfelMap, Trajectory


def message(pixels: np.ndarray, encoding: str, seconds: float) -> SimpleNamespace:
    """A sensor_msgs Image, with the fields that ROS gives it."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    stamp = SimpleNamespace(sec=int(seconds), nanosec=round(1e9 * (seconds % 1)))
    height, width = pixels.shape[:2]
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id="camera"), height=height, width=width, encoding=encoding,
        is_bigendian=0, step=rows.shape[1], data=rows.ravel(), __msgtype__="sensor_msgs/msg/Image",
    )  # fmt: skip


def pair(frames, i: int) -> tuple[SimpleNamespace, ...]:
    """The messages of a frame: color, depth, camera."""
    color = (255 * frames.color[i]).byte().numpy()
    depth = (1000 * frames.depth[i, ..., 0]).round().numpy().astype(np.uint16)
    info = SimpleNamespace(k=frames.K[0].double().numpy().ravel())
    return message(color, "rgb8", 1.7e9 + i / 4), message(depth, "16UC1", 1.7e9 + i / 4), info


def test_messages_become_poses_and_a_map(demo, room, tmp_path):
    node, frames = demo("ros2_node"), room.view(room.walk(3))
    pairs, told = queue.Queue(), []
    for i in (0, 0, 1, 1, 2):
        pairs.put(pair(frames, i))
    pairs.put(None)
    found = node.track(pairs, lambda seconds, T_wc: told.append((seconds, T_wc)), tmp_path)
    assert 1 <= len(found) == len(told) and told[0][0] >= 1.7e9
    truth = se3.inverse(frames.T_wc[:1].double()) @ frames.T_wc.double()
    last = round(4 * (told[-1][0] - 1.7e9))
    assert torch.allclose(told[-1][1][:3, 3], truth[last, :3, 3], atol=5e-3) or len(found) == 1
    assert len(Trajectory.load(tmp_path / "trajectory.txt")) == len(found)
    assert int(SurfelMap.load(tmp_path / "map.ply").count) > 1000


class Shutdown(Exception):
    """How ROS ends what spins."""


class Fields(SimpleNamespace):
    """A message whose fields are there when they are asked for, as those of ROS are."""

    def __getattr__(self, name: str):
        setattr(self, name, [] if name == "poses" else Fields())
        return getattr(self, name)


@pytest.fixture
def ros(monkeypatch, room):
    """Modules of ROS 2 by name: topics of a room that end with an error, as a shutdown does; `published` by topic."""
    published = defaultdict(list)
    ros = SimpleNamespace(frames=room.view(room.walk(2)), published=published, topics=[])

    def spin(node):
        for i in range(len(ros.frames)):
            ros.callback(*pair(ros.frames, i))
        raise Shutdown

    def publisher(kind, topic, depth):
        return SimpleNamespace(publish=lambda said: published[topic].append(said))

    def synchronizer(topics, queue_size, slop):
        return SimpleNamespace(registerCallback=lambda call: setattr(ros, "callback", call))

    make_node = lambda name: SimpleNamespace(create_publisher=publisher)  # noqa: E731
    subscribe = lambda node, kind, topic: ros.topics.append(topic)  # noqa: E731
    modules = {
        "rclpy": {"init": lambda: None, "create_node": make_node, "spin": spin},
        "rclpy.executors": {"ExternalShutdownException": Shutdown},
        "message_filters": {"Subscriber": subscribe, "ApproximateTimeSynchronizer": synchronizer},
        "geometry_msgs.msg": {"PoseStamped": Fields},
        "nav_msgs.msg": {"Path": Fields},
        "sensor_msgs.msg": {"CameraInfo": Fields, "Image": Fields},
    }
    for name, values in modules.items():
        if "." in name and name.partition(".")[0] not in modules:
            monkeypatch.setitem(sys.modules, name.partition(".")[0], ModuleType(name))
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**values))
    return ros


def test_the_node_publishes_and_writes_when_ros_ends(demo, ros, tmp_path):
    demo("ros2_node").main(color="/color", depth="/depth", info="/info", out=tmp_path)
    assert ros.topics == ["/color", "/depth", "/info"]
    (*_, pose), (*_, path) = ros.published["pose"], ros.published["path"]
    assert pose.header.frame_id == "map" and abs(pose.header.stamp.sec - 1.7e9) <= 1
    assert abs(pose.pose.orientation.w) > 0.9 and path.poses[-1] is pose
    assert len(Trajectory.load(tmp_path / "trajectory.txt")) == len(path.poses)


def test_without_a_frame_nothing_is_written(demo, ros, tmp_path, capsys):
    ros.frames = ros.frames[:0]
    demo("ros2_node").main(out=tmp_path / "out")
    assert "no frame was tracked" in capsys.readouterr().out and not (tmp_path / "out").exists()
