"""The picture of a trajectory is written for every kind of trajectory there is."""

from __future__ import annotations

import math

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng import evaluation
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory
from gradslam_ng.viz import plot_trajectory
from gradslam_ng.viz.plots import _broken, _uninterrupted, _up_axis


def walk(n: int = 60) -> Trajectory:
    t = torch.arange(n, dtype=torch.float64) / 30
    xi = torch.sin(t[:, None] * torch.tensor([0.7, 0.2, 0.5, 0.1, 0.4, 0.1])) * torch.tensor([2.0, 0.2, 1, 1, 1, 1])
    return Trajectory(10 + t, se3.exp(xi))


def drifting(truth: Trajectory) -> Trajectory:
    poses = truth.T_wc.clone()
    poses[:, 0, 3] += torch.linspace(0, 0.2, len(poses), dtype=torch.float64)
    return Trajectory(truth.timestamps, poses)


def assert_a_picture(path) -> None:
    image = iio.imread(path)
    assert image.shape[0] > 500 and image.shape[1] > 500
    assert (image[..., :3] < 250).any(-1).mean() > 0.005  # more than an empty page


def test_against_ground_truth(tmp_path):
    plot_trajectory(tmp_path / "a.png", drifting(walk()), evaluation.ate(walk(), drifting(walk())), "a walk")
    assert_a_picture(tmp_path / "a.png")


def test_without_ground_truth(tmp_path):
    plot_trajectory(tmp_path / "a.png", walk())
    assert_a_picture(tmp_path / "a.png")


def test_for_a_phone(tmp_path):
    """One panel below the other."""
    plot_trajectory(tmp_path / "a.png", walk(), evaluation.ate(walk(), drifting(walk())), "a walk", "odd", narrow=True)
    assert_a_picture(tmp_path / "a.png")
    image = iio.imread(tmp_path / "a.png")
    assert image.shape[0] > 1.5 * image.shape[1]


def test_lost_poses_are_left_out(tmp_path):
    poses = walk().T_wc.clone()
    poses[20:40] = math.nan
    plot_trajectory(tmp_path / "a.png", Trajectory(walk().timestamps, poses))
    assert_a_picture(tmp_path / "a.png")


@pytest.mark.parametrize("n", [1, 2])
def test_very_short(tmp_path, n):
    plot_trajectory(tmp_path / "a.png", walk()[:n])
    assert_a_picture(tmp_path / "a.png")


def test_no_pose(tmp_path):
    with pytest.raises(ValueError, match="no known pose to draw"):
        plot_trajectory(tmp_path / "a.png", Trajectory(torch.zeros(2), torch.full((2, 4, 4), math.nan)))


def test_lines_break_where_the_recording_does():
    seconds = np.array([0.0, 0.1, 0.2, 5.0, 5.1])
    uninterrupted = _uninterrupted(seconds)
    assert uninterrupted.tolist() == [True, True, False, True]
    curve = _broken(np.stack([seconds, seconds], -1), uninterrupted)
    assert np.isnan(curve[3]).all()
    assert len(curve) == 6


def test_above_is_where_the_cameras_have_it():
    camera_down_is_minus_z = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]).double()
    assert _up_axis(walk()) == 1
    assert _up_axis(Trajectory(walk().timestamps, camera_down_is_minus_z @ walk().T_wc)) == 2
