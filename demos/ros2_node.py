"""A node of ROS 2 that tracks an RGB-D camera: topics of registered color and depth in, poses and a path out.

The newest pair of images is taken as it comes; pairs that come while another is worked on are dropped. Ctrl-C ends
the node, which then writes the map and the trajectory. Needs an installation of ROS 2 with rclpy, message_filters,
sensor_msgs, geometry_msgs and nav_msgs, whose Python has this package too; without one, the bag of a robot is read as
it is (`gs.datasets.load`).

    python -m demos.ros2_node --color /camera/color/image_raw --depth /camera/aligned_depth_to_color/image_raw --out out
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

import gradslam_ng as gs
from gradslam_ng.datasets.bags.pictures import color_pixels, depth_pixels
from gradslam_ng.geometry import se3

MILLIMETERS = 1000.0
APART = 0.02  # seconds between color and depth of a pair at most
Pair = tuple[Any, Any, Any]  # messages of color, depth and camera


def to_frame(color: Any, depth: Any, info: Any) -> gs.RGBDFrames:
    """A frame of sensor_msgs Image, Image and CameraInfo; depth registered to color, in millimeters or meters."""
    stamp, K = color.header.stamp, np.reshape(info.k, (3, 3))
    seconds = np.float64(stamp.sec + 1e-9 * stamp.nanosec)
    return gs.RGBDFrames.from_numpy(
        color_pixels(color), depth_pixels(depth), K, depth_scale=MILLIMETERS, timestamps=seconds
    )


def frames_of(pairs: queue.Queue[Pair | None]) -> Iterator[tuple[int, gs.RGBDFrames]]:
    """Frames of the messages that are put into a queue, until None."""
    number = 0
    while (pair := pairs.get()) is not None:
        yield number, to_frame(*pair)
        number += 1


def track(
    pairs: queue.Queue[Pair | None], found: Callable[[float, torch.Tensor], None], out: Path
) -> gs.Trajectory | None:
    """Track the pairs that come, until None or Ctrl-C, and write map.ply and trajectory.txt; found: called with the
    seconds and the pose T_wc (4, 4) of each frame that was tracked. None, and nothing written, where none was."""
    slam, state, seconds, poses = gs.PointFusion(settings="fast"), None, [], []
    with torch.no_grad(), contextlib.suppress(KeyboardInterrupt):
        for _, frame in gs.cameras.LatestFrames(frames_of(pairs)):
            state = slam.step(state, frame)
            if bool(state.tracking.ok[0]):
                seconds.append(float(frame.timestamps))
                poses.append(state.T_wc[0].double())
                found(seconds[-1], poses[-1])
    if state is None or not poses:
        print("no frame was tracked")
        return None
    out.mkdir(parents=True, exist_ok=True)
    trajectory = gs.Trajectory(torch.tensor(seconds, dtype=torch.float64), torch.stack(poses))
    trajectory.save(out / "trajectory.txt")
    state.map.save(out / "map.ply")
    return trajectory


def main(
    color: str = "/camera/color/image_raw",
    depth: str = "/camera/aligned_depth_to_color/image_raw",
    info: str = "/camera/color/camera_info",
    out: Path = Path("out"),
) -> None:
    """Track until Ctrl-C, then write map.ply and trajectory.txt.

    Args:
        color: topic of the color images.
        depth: topic of depth registered to color.
        info: topic of the color camera's CameraInfo.
        out: folder for both.
    """
    import message_filters
    import rclpy
    from geometry_msgs.msg import PoseStamped
    from nav_msgs.msg import Path as PathMessage
    from rclpy.executors import ExternalShutdownException
    from sensor_msgs.msg import CameraInfo, Image

    rclpy.init()
    node, pairs = rclpy.create_node("gradslam_ng"), queue.Queue()
    topics = [message_filters.Subscriber(node, kind, name) for kind, name in ((Image, color), (Image, depth))]
    topics.append(message_filters.Subscriber(node, CameraInfo, info))
    message_filters.ApproximateTimeSynchronizer(topics, 5, APART).registerCallback(lambda *pair: pairs.put(pair))
    poses, paths = node.create_publisher(PoseStamped, "pose", 10), node.create_publisher(PathMessage, "path", 10)
    path = PathMessage()
    path.header.frame_id = "map"

    def publish(seconds: float, T_wc: torch.Tensor) -> None:
        pose = PoseStamped()
        pose.header.frame_id, pose.header.stamp.sec = "map", int(seconds)
        pose.header.stamp.nanosec = round(1e9 * (seconds % 1)) % 10**9
        t, q_xyzw = se3.to_quaternion(T_wc)
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = t.tolist()
        place = pose.pose.orientation
        place.x, place.y, place.z, place.w = q_xyzw.tolist()
        path.header.stamp = pose.header.stamp
        path.poses.append(pose)
        poses.publish(pose)
        paths.publish(path)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):  # by Ctrl-C, or from outside
            rclpy.spin(node)
        pairs.put(None)

    threading.Thread(target=spin, daemon=True).start()
    track(pairs, publish, out)


if __name__ == "__main__":
    tyro.cli(main)
