"""Where something else says that a body was: topics of odometry, of another tracker, or of an IMU in a bag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.datasets.bags.frame_tree import FrameTree, rigid
from gradslam_ng.datasets.bags.messages import Deserializer, header_time
from gradslam_ng.datasets.bags.storage import Storage
from gradslam_ng.geometry import so3
from gradslam_ng.structures import Trajectory

IMU = "sensor_msgs/msg/Imu"
# Of each kind of message its pose, position and orientation
POSES: dict[str, Callable[[Any], Tensor]] = {
    "nav_msgs/msg/Odometry": lambda message: _pose(message.pose.pose),
    "geometry_msgs/msg/PoseStamped": lambda message: _pose(message.pose),
    "geometry_msgs/msg/PoseWithCovarianceStamped": lambda message: _pose(message.pose.pose),
    "geometry_msgs/msg/TransformStamped": lambda message: rigid(
        message.transform.translation, message.transform.rotation
    ),
}
# And the name of the body that it is of, where messages have one
BODIES: dict[str, Callable[[Any], str]] = {
    "nav_msgs/msg/Odometry": lambda message: message.child_frame_id,
    "geometry_msgs/msg/TransformStamped": lambda message: message.child_frame_id,
    IMU: lambda message: message.header.frame_id,
}


@dataclass(frozen=True)
class PoseTopics:
    """The topics of a bag that tell where a body is, which are read when one is asked for.

    Args:
        files: of the bag.
        deserializer: of its messages.
        frames: what its tf tells.
        camera: what the frame of the sequence's camera may be called in that.
        is_by_header: whether frames have the times of headers, or those of recording.
    """

    files: Sequence[Storage]
    deserializer: Deserializer
    frames: FrameTree
    camera: Sequence[str]
    is_by_header: bool

    @property
    def kinds(self) -> dict[str, str]:
        """Kinds of messages, by topic."""
        topics = (topic for file in self.files for topic in file.topics.values())
        return {topic.name: topic.kind for topic in topics if topic.kind == IMU or topic.kind in POSES}

    def read(self, name: str) -> tuple[Trajectory, str]:
        """The poses of a topic, and the name of the body that they are of, empty where messages have none.

        An IMU tells of rotation alone: its orientation, or what its angular velocity adds up to.

        Raises:
            ValueError: no such topic, or messages that cannot be read or tell nothing.
        """
        kinds = self.kinds
        if name not in kinds:
            there = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(kinds.items())) or "none"
            raise ValueError(f"expected a topic of poses of the bag, got {name}; there: {there}")
        times, messages = self._messages(name)
        if not messages:
            raise ValueError(f"{name}: no message")
        order = sorted(range(len(times)), key=times.__getitem__)  # of recording need not be that of headers
        times, messages = [times[i] for i in order], [messages[i] for i in order]
        t = torch.tensor(times, dtype=torch.float64)
        kind = kinds[name]
        T_wb = _rotations(messages, t, name) if kind == IMU else torch.stack([POSES[kind](each) for each in messages])
        return Trajectory(t, T_wb), BODIES[kind](messages[0]).strip("/") if kind in BODIES else ""

    def place_of_camera(self, body: str) -> Tensor | None:
        """T_bc (4, 4) float64 of the sequence's camera on a body, as tf tells; None where it does not."""
        found = (self.frames.find(body, camera) for camera in self.camera)
        return next((T_bc for T_bc in found if T_bc is not None), None)

    def _messages(self, name: str) -> tuple[list[float], list[Any]]:
        """Times, seconds, and messages."""
        times, messages = [], []
        for file in self.files:
            for message in file.messages():
                if message.topic == name:
                    topic = file.topics[name]
                    times.append(header_time(topic, message.data) if self.is_by_header else message.time * 1e-9)
                    messages.append(self.deserializer.message(topic, message.data))
        return times, messages


def _pose(message: Any) -> Tensor:
    """T (4, 4) float64 of a Pose."""
    return rigid(message.position, message.orientation)


def _rotations(
    messages: Sequence[Any],
    t: Tensor,  # (L,), seconds
    name: str,
) -> Tensor:
    """T_wb (L, 4, 4) float64 of an IMU, at the origin throughout."""
    T_wb = torch.eye(4, dtype=torch.float64).repeat(len(messages), 1, 1)
    q = torch.tensor([[getattr(m.orientation, axis) for axis in "xyzw"] for m in messages], dtype=torch.float64)
    is_told = float(messages[0].orientation_covariance[0]) != -1 and bool((q.norm(dim=-1) > 0.5).all())
    if is_told and bool((q != q[:1]).any()):  # many an IMU leaves it at the identity and does not say so
        T_wb[:, :3, :3] = so3.from_quaternion(q / q.norm(dim=-1, keepdim=True))
        return T_wb
    velocity = torch.tensor([[getattr(m.angular_velocity, axis) for axis in "xyz"] for m in messages]).double()
    if not bool(velocity.isfinite().all()) or not bool(velocity.any()):
        raise ValueError(f"{name}: an IMU that tells neither orientation nor angular velocity")
    steps = so3.exp(0.5 * (velocity[1:] + velocity[:-1]) * t.diff()[:, None])  # angular velocity is in the body's axes
    for i, step in enumerate(steps):
        T_wb[i + 1, :3, :3] = T_wb[i, :3, :3] @ step
    return T_wb
