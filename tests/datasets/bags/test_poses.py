"""Odometry, another tracker's poses and IMUs of a bag as a prior: `--prior TOPIC`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.recording import RecordingOptions
from gradslam_ng.geometry import se3, so3

pytest.importorskip("rosbags", reason="the extra [rosbag] is not installed")

TURN = (-0.5, 0.5, -0.5, 0.5)  # of a camera, in the axes of a robot that looks along x
PLACE = (0.2, 0.0, 0.4)  # of it on the robot, meters
RATE = 0.8  # radians a second, that the robot turns to the left
START = -2  # poses begin two frames before the images do


def on_robot() -> torch.Tensor:
    """T_bc (4, 4)."""
    return se3.from_quaternion(torch.tensor(PLACE).double(), torch.tensor(TURN).double())


def robot(seconds: float) -> torch.Tensor:
    """T_wb (4, 4) of a robot that drives along a circle, somewhere."""
    T = se3.exp(torch.tensor([0.5, 0, 0, 0, 0, RATE], dtype=torch.float64) * seconds)
    return se3.exp(torch.tensor([7.0, -3.0, 0, 0, 0, 2.0], dtype=torch.float64)) @ T


def pose(bag, T: torch.Tensor, translation: str = "Point", kind: str = "Pose", names=("position", "orientation")):
    """A Pose, or a Transform."""
    x, y, z, w = so3.to_quaternion(T[:3, :3]).tolist()
    where = bag.make(f"geometry_msgs/msg/{translation}", **dict(zip("xyz", T[:3, 3].tolist(), strict=True)))
    turned = bag.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
    return bag.make(f"geometry_msgs/msg/{kind}", **dict(zip(names, (where, turned), strict=True)))


def vector(bag, *values: float):
    return bag.make("geometry_msgs/msg/Vector3", **dict(zip("xyz", values, strict=True)))


def covered(bag, kind: str, **values):
    return bag.make(f"geometry_msgs/msg/{kind}", **values, covariance=np.zeros(36))


def odometry(bag, time: int, T: torch.Tensor):
    twist = covered(bag, "TwistWithCovariance", twist=bag.make(
        "geometry_msgs/msg/Twist", linear=vector(bag, 0.5, 0, 0), angular=vector(bag, 0, 0, RATE)))  # fmt: skip
    told = covered(bag, "PoseWithCovariance", pose=pose(bag, T))
    header = bag.header(time, "odom")
    return bag.make("nav_msgs/msg/Odometry", header=header, child_frame_id="base_link", pose=told, twist=twist)


def tracker(bag, time: int, T: torch.Tensor):
    told = pose(bag, T, "Vector3", "Transform", ("translation", "rotation"))
    header = bag.header(time, "room")
    return bag.make("geometry_msgs/msg/TransformStamped", header=header, child_frame_id="base_link", transform=told)


def stamped(bag, time: int, T: torch.Tensor):
    return bag.make("geometry_msgs/msg/PoseStamped", header=bag.header(time, "map"), pose=pose(bag, T @ on_robot()))


def estimated(bag, time: int, T: torch.Tensor):
    told = covered(bag, "PoseWithCovariance", pose=pose(bag, T @ on_robot()))
    return bag.make("geometry_msgs/msg/PoseWithCovarianceStamped", header=bag.header(time, "map"), pose=told)


def imu(bag, time: int, T: torch.Tensor, tells: str = "orientation", frame: str = "base_link"):
    turned = pose(bag, T if tells == "orientation" else torch.eye(4)).orientation
    unknown = np.zeros(9)
    return bag.make(
        "sensor_msgs/msg/Imu",
        header=bag.header(time, frame),
        orientation=turned,
        orientation_covariance=unknown,
        angular_velocity=vector(bag, 0, 0, RATE if tells == "velocity" else 0),
        angular_velocity_covariance=unknown,
        linear_acceleration=vector(bag, 0, 0, 9.8),
        linear_acceleration_covariance=unknown,
    )


def gyroscope(bag, time: int, T: torch.Tensor):
    return imu(bag, time, T, "velocity")


def accelerometer(bag, time: int, T: torch.Tensor):
    return imu(bag, time, T, "nothing")


MESSAGES = {
    "/odom": odometry, "/vicon/robot": tracker, "/slam/pose": stamped, "/amcl_pose": estimated, "/imu/data": imu,
    "/gyro": gyroscope, "/accel": accelerometer,
}  # fmt: skip


@pytest.fixture
def write(bags):
    """A bag of images, of a robot's tf, and of its poses, twice as many."""

    def filling(has_tf: bool, bag) -> None:
        bags.fill(bag)
        if has_tf:
            bag.transform("/tf_static", "base_link", "optical", PLACE, TURN, bags.start)
        for k in range(2 * START, 2 * 10):
            time = bags.start + k * bags.step // 2
            T = robot((time - bags.start) * 1e-9)
            for topic, make in MESSAGES.items():
                bag.write(topic, make(bag, time, T), time + 2_000_000)

    return lambda kind="mcap", has_tf=True: bags.write(kind, filling=lambda bag: filling(has_tf, bag))


def expected(sequence) -> torch.Tensor:
    """T_wc (L, 4, 4)."""
    times = (sequence.timestamps - sequence.timestamps[0]).tolist()
    return torch.stack([robot(time) @ on_robot() for time in times])


def moved(T: torch.Tensor) -> torch.Tensor:
    """From frame to frame."""
    return se3.inverse(T[:-1]) @ T[1:]


@pytest.mark.parametrize("kind", ["ros1", "db3", "mcap"])
def test_odometry_of_a_robot_on_which_tf_has_the_camera(write, kind):
    sequence = RecordingOptions(prior="/odom").load(str(write(kind)))
    torch.testing.assert_close(sequence.T_prior, expected(sequence), atol=1e-6, rtol=0)
    assert sequence[3].T_prior is not None
    assert "8 of 8 frames have a pose from /odom" in sequence.findings[-1].message


@pytest.mark.parametrize("topic", ["/vicon/robot", "/slam/pose", "/amcl_pose"])
def test_poses_of_other_kinds(write, topic):
    sequence = RecordingOptions(prior=topic, frames="2:7").load(str(write()))
    truth = torch.stack([robot(k / 30) @ on_robot() for k in range(2, 7)])
    torch.testing.assert_close(sequence.T_prior, truth, atol=1e-6, rtol=0)


@pytest.mark.parametrize("topic", ["/imu/data", "/gyro"])
def test_an_imu_tells_of_rotation_alone(write, topic):
    """By its orientation, or by what its angular velocity adds up to."""
    sequence = RecordingOptions(prior=topic).load(str(write()))
    assert sequence.T_prior[:, :3, 3].isnan().all()
    rotations = torch.eye(4, dtype=torch.float64).repeat(8, 1, 1)
    rotations[:, :3, :3] = sequence.T_prior[:, :3, :3]
    torch.testing.assert_close(moved(rotations)[:, :3, :3], moved(expected(sequence))[:, :3, :3], atol=1e-6, rtol=0)


def test_a_place_that_is_given_counts_and_without_tf_is_needed(write):
    path = str(write(has_tf=False))
    with pytest.raises(UsageError, match="'base_link': expected --prior-extrinsics, since tf"):
        RecordingOptions(prior="/odom").load(path)
    place = ",".join(str(value) for value in (*PLACE, *TURN))
    sequence = RecordingOptions(prior="/odom", prior_extrinsics=place).load(path)
    torch.testing.assert_close(sequence.T_prior, expected(sequence), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("/odometry", r"prior: expected a topic of poses of the bag, got /odometry; there: .*/odom \(nav_msgs"),
        ("/camera/color/image_raw", "expected a topic of poses of the bag"),
        ("/accel", "prior: /accel: an IMU that tells neither orientation nor angular velocity"),
    ],
)
def test_topics_that_have_no_poses_are_refused(write, topic, message):
    with pytest.raises(UsageError, match=message):
        RecordingOptions(prior=topic).load(str(write()))
