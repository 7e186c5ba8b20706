"""Bags whose depth is of a camera of its own: a wall seen by both, with a picture that tells each point's place."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch

from gradslam_ng import datasets
from gradslam_ng.datasets import RecordingWarning
from gradslam_ng.datasets.bags.cameras import camera_of_text, fit_brown_conrady, realsense_rays

pytest.importorskip("rosbags", reason="the extra [rosbag] is not installed")

BASELINE = 0.06  # meters: the color camera is so far to the right of the depth camera
DEPTH_SIZE, COLOR_SIZE = (24, 32), (48, 64)
F_DEPTH, F_COLOR, WALL = 30.0, 66.0, 1.5


def wall_color() -> np.ndarray:
    """(H, W, 3) uint8: red tells the x, green the y of the wall's point in the depth camera's axes, 10 levels a cm."""
    v, u = np.mgrid[: COLOR_SIZE[0], : COLOR_SIZE[1]].astype(float)
    x = (u - (COLOR_SIZE[1] - 1) / 2) / F_COLOR * WALL + BASELINE
    y = (v - (COLOR_SIZE[0] - 1) / 2) / F_COLOR * WALL
    return np.stack([127.5 + 120 * x, 127.5 + 120 * y, np.full_like(x, 50)], -1).round().clip(0, 255).astype(np.uint8)


def wall_depth(unit: float = 0.001) -> np.ndarray:
    return np.full(DEPTH_SIZE, round(WALL / unit), np.uint16)


def check_wall(frame):
    """Each depth pixel has the color of its point."""
    v, u = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    x, y = (u - 15.5) / F_DEPTH * WALL, (v - 11.5) / F_DEPTH * WALL
    expected = torch.stack([127.5 + 120 * x, 127.5 + 120 * y], -1)
    inner = slice(3, -3), slice(4, -4)
    torch.testing.assert_close(frame.depth[..., 0][inner], torch.full((18, 24), WALL))
    torch.testing.assert_close(frame.color[..., :2][inner] * 255, expected[inner], atol=1.5, rtol=0)


def images(bag, bags, color: str, depth: str, frames=("c", "d"), unit: float = 0.001) -> None:
    for i in range(2):
        time = bags.start + i * bags.step
        bag.image(color, wall_color(), "rgb8", time, frames[0])
        bag.image(depth, wall_depth(unit), "16UC1", time, frames[1])


@pytest.mark.parametrize("kind", ["ros1", "db3", "mcap"])
def test_tf_tells_where_the_cameras_are(bags, kind):
    """Over two links, with the turn from a robot's axes to the camera's in each."""
    turn = (-0.5, 0.5, -0.5, 0.5)

    def fill(bag):
        bag.transform("/tf_static", "link", "d_link", (0.1, 0.0, 0.3), (0, 0, 0, 1), bags.start)
        bag.transform("/tf_static", "d_link", "d", (0.0, 0.0, 0.0), turn, bags.start)
        bag.transform("/tf_static", "link", "c", (0.1, -BASELINE, 0.3), turn, bags.start)  # y is to the left
        bag.info("/cam/color/camera_info", bags.start, "c", COLOR_SIZE, F_COLOR)
        bag.info("/cam/depth/camera_info", bags.start, "d", DEPTH_SIZE, F_DEPTH)
        images(bag, bags, "/cam/color/image_raw", "/cam/depth/image_rect_raw")

    sequence = datasets.load(bags.write(kind, filling=fill))
    assert sequence.size == DEPTH_SIZE and float(sequence.K[0, 0]) == F_DEPTH
    check_wall(sequence[1])


def test_a_pose_that_is_not_recorded_is_warned_of(bags):
    def fill(bag):
        bag.info("/cam/color/camera_info", bags.start, "c", COLOR_SIZE, F_COLOR)
        bag.info("/cam/depth/camera_info", bags.start, "d", DEPTH_SIZE, F_DEPTH)
        images(bag, bags, "/cam/color/image_raw", "/cam/depth/image_rect_raw")

    with pytest.warns(RecordingWarning, match="the pose of the depth camera to the color camera is not in the bag"):
        datasets.load(bags.write("db3", filling=fill))


@pytest.mark.parametrize("frame, behind", [("0", b""), ("1", struct.pack("<f", 0.0005)), ("1", b"")])
def test_bag_of_a_realsense_in_the_format_of_ros1(bags, frame, behind):
    """As librealsense records it: places from a reference to each stream, and the unit of depth as an option.

    Later versions write that of the format, "1", in place of the name of the frame, and the unit behind the image.
    """
    color, depth = "/device_0/sensor_1/Color_0", "/device_0/sensor_0/Depth_0"
    unit = 0.0005

    def fill(bag):
        for name, t in ((color, (-BASELINE, 0.0, 0.0)), (depth, (0.0, 0.0, 0.0))):
            place = bag.make(
                "geometry_msgs/msg/Transform",
                translation=bag.make("geometry_msgs/msg/Vector3", **dict(zip("xyz", t, strict=True))),
                rotation=bag.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
            )
            bag.write(f"{name}/tf/0", place, 1)
        value = bag.make("std_msgs/msg/Float32", data=unit)
        bag.write("/device_0/sensor_0/option/Depth_Units/value", value, 1)
        bag.info(f"{color}/info/camera_info", bags.start, "0", COLOR_SIZE, F_COLOR, "Inverse Brown Conrady")
        bag.info(f"{depth}/info/camera_info", bags.start, "0", DEPTH_SIZE, F_DEPTH, "Brown Conrady")
        for i in range(2):
            time = bags.start + i * bags.step
            bag.image(f"{color}/image/data", wall_color(), "rgb8", time, frame, behind=behind)
            bag.image(f"{depth}/image/data", wall_depth(unit), "mono16", time, frame, behind=behind)

    sequence = datasets.load(bags.write("ros1", filling=fill))
    assert sequence.depth_scale == pytest.approx(2000) and not sequence.findings
    assert "depth unit: 1/2000 m (the bag's)" in sequence.notes
    check_wall(sequence[0])


def test_bag_of_a_realsense_in_the_format_of_ros2(bags):
    """Cameras and places as texts; a rotation column by column."""
    color, depth = "/device_0/sensor_1/Color_0", "/device_0/sensor_0/Depth_0"

    def fill(bag):
        def text(topic, value):
            bag.write(topic, bag.make("std_msgs/msg/String", data=value), 1)

        quarter = "0,1,0,-1,0,0,0,0,1"  # a turn about z, so that the order of the numbers matters
        text(f"{color}/tf/ref_0", f"rotation={quarter};translation={0.0},{-BASELINE},0")
        text(f"{depth}/tf/ref_0", f"rotation={quarter};translation=0,0,0")
        text("/device_0/sensor_0/option/Depth_Units/value", "0.001")
        for name, (height, width), f in ((color, COLOR_SIZE, F_COLOR), (depth, DEPTH_SIZE, F_DEPTH)):
            center = f"ppx={(width - 1) / 2};fy={f};ppy={(height - 1) / 2}"
            model = "model=Brown Conrady;coeffs=0,0,0,0,0"
            text(f"{name}/info/camera_info", f"width={width};height={height};fx={f};{center};{model}")
        images(bag, bags, f"{color}/image/data", f"{depth}/image/data", ("Color_0", "Depth_0"))

    sequence = datasets.load(bags.write("db3", filling=fill))
    T = torch.eye(4)
    T[1, 3] = -BASELINE
    torch.testing.assert_close(sequence.rectification.T_color_depth, T)
    assert sequence.depth_scale == 1000 and sequence.size == DEPTH_SIZE


def test_lens_of_a_realsense_is_brought_to_brown_and_conrady():
    """The fitted lens shows rays where RealSense's inverse and modified models do, to a tenth of a pixel."""
    K = torch.tensor([[640.0, 0, 636.5], [0, 639.0, 361.5], [0, 0, 1]], dtype=torch.float64)
    coefficients = [-0.0566, 0.0684, -0.0009, 0.0003, -0.0220]  # as a D455 has them
    for is_inverse in (True, False):
        rays, seen = realsense_rays(K, (720, 1280), coefficients, is_inverse)
        k1, k2, p1, p2, k3 = fit_brown_conrady(rays, seen)
        x, y = rays.unbind(-1)
        square = x**2 + y**2
        radial = 1 + k1 * square + k2 * square**2 + k3 * square**3
        u = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x**2)
        v = y * radial + 2 * p2 * x * y + p1 * (square + 2 * y**2)
        error = 640 * torch.stack([u, v], -1).sub(seen).norm(dim=-1)
        assert float(error.max()) < 0.1 and math.isfinite(k3)


def test_coefficients_of_the_inverse_model_are_not_taken_for_those_of_the_forward_one():
    text = "width=640;height=480;fx=385;fy=384;ppx=320;ppy=240;model={};coeffs=-0.05,0.06,0,0,-0.02"
    forward = camera_of_text(text.format("Brown Conrady"), "topic")
    inverse = camera_of_text(text.format("Inverse Brown Conrady"), "topic")
    assert forward.distortion == (-0.05, 0.06, 0.0, 0.0, -0.02)
    assert inverse.distortion[0] == pytest.approx(0.05, abs=0.01)
    with pytest.raises(ValueError, match="topic: expected width, height, fx"):
        camera_of_text("width=3", "topic")
