"""The node of ROS 2, without ROS: what has the fields of its messages becomes poses and a map."""

from __future__ import annotations

import queue
from types import SimpleNamespace

import numpy as np
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


def test_messages_become_poses_and_a_map(demo, room, tmp_path):
    node, frames = demo("ros2_node"), room.view(room.walk(3))
    info = SimpleNamespace(k=frames.K[0].double().numpy().ravel())
    pairs, told = queue.Queue(), []
    for i in range(3):
        color = (255 * frames.color[i]).byte().numpy()
        depth = (1000 * frames.depth[i, ..., 0]).round().numpy().astype(np.uint16)
        pairs.put((message(color, "rgb8", 1.7e9 + i / 4), message(depth, "16UC1", 1.7e9 + i / 4), info))
        if i < 2:
            pairs.put((message(color, "rgb8", 1.7e9 + i / 4), message(depth, "16UC1", 1.7e9 + i / 4), info))
    pairs.put(None)
    found = node.track(pairs, lambda seconds, T_wc: told.append((seconds, T_wc)), tmp_path)
    assert 1 <= len(found) == len(told) and told[0][0] >= 1.7e9
    truth = se3.inverse(frames.T_wc[:1].double()) @ frames.T_wc.double()
    last = round(4 * (told[-1][0] - 1.7e9))
    assert torch.allclose(told[-1][1][:3, 3], truth[last, :3, 3], atol=5e-3) or len(found) == 1
    assert len(Trajectory.load(tmp_path / "trajectory.txt")) == len(found)
    assert int(SurfelMap.load(tmp_path / "map.ply").count) > 1000
