"""`gradslam-ng run` on recordings of which no frame, or next to none, is tracked; what other commands make of it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.cli import main
from gradslam_ng.commands.outputs import doubt
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.structures import Trajectory
from gradslam_ng.viz.scene_files import read_run

NOTHING = np.zeros((60, 80), np.uint16)


def without_depth(folder: Path, frames: range) -> Path:
    """The recording, some frames of it without any depth."""
    for i in frames:
        iio.imwrite(sorted((folder / "depth").glob("*.png"))[i], NOTHING)
    return folder


def read(out: Path) -> tuple[dict, Trajectory, list[str]]:
    """Metrics, trajectory, and the lines of covariance.txt that are no comments."""
    lines = (out / "covariance.txt").read_text().splitlines()
    metrics = json.loads((out / "metrics.json").read_text())
    return metrics, Trajectory.load(out / "trajectory.txt"), [line for line in lines if not line.startswith("#")]


@pytest.fixture
def untracked(copy, tmp_path, run) -> Path:
    """The folder of a run of which no frame was tracked."""
    out = tmp_path / "out"
    assert run(without_depth(copy, range(6)), out) == 3
    return out


def test_no_frame_tracked(copy, tmp_path, run, prints):
    out = tmp_path / "out"
    assert run(without_depth(copy, range(6)), out) == 3
    metrics, trajectory, covariances = read(out)
    printed = prints()
    assert len(trajectory) == 0 and covariances == []
    assert metrics["frames"]["tracked"] == 0 and metrics["frames"]["lost"] == 6
    assert not metrics["reliable"] and "ate" not in metrics and "rpe" not in metrics
    assert "0 tracked, 6 lost" in printed and "ATE" not in printed and "6 of 6 frames have no pose" in printed
    assert {path.suffix for path in out.iterdir()} == {".txt", ".csv", ".json", ".html", ".log", ".safetensors"}


def test_no_frame_tracked_by_a_volume(copy, tmp_path, run):
    assert run(without_depth(copy, range(6)), tmp_path / "out", "--system", "kinectfusion") == 3
    metrics, trajectory, _ = read(tmp_path / "out")
    assert len(trajectory) == 0 and metrics["frames"]["tracked"] == 0
    assert (tmp_path / "out" / "mesh.glb").is_file()


def test_the_report_of_no_frame(untracked):
    scene, text = read_run(untracked), (untracked / "report.html").read_text()
    assert len(scene.T_wc) == len(scene.outcomes) == len(scene.seconds) == 0
    assert "6 of 6 frames have no pose" in text and "ATE" not in text and "6 no depth" in text


def test_a_run_of_an_earlier_version_without_poses(untracked):
    """It wrote the pose that the camera was left at, once for each frame."""
    Trajectory(torch.arange(6), torch.eye(4, dtype=torch.float64).expand(6, 4, 4)).save(untracked / "trajectory.txt")
    assert len(read_run(untracked).T_wc) == 0


def test_evaluation_of_no_pose(untracked, copy, says):
    for arguments in ([str(untracked)], [str(copy / "groundtruth.txt"), str(untracked)]):
        assert main(["evaluate", *arguments]) == 1
        assert "trajectory.txt: no frame has a pose, so there is nothing to compare" in says()


def test_conversion_with_no_pose(untracked, copy, tmp_path, says):
    for form in ("tum", "transforms"):
        options = ["--to", form, "--trajectory", str(untracked / "trajectory.txt"), "--out", str(tmp_path / form)]
        assert main(["convert", str(copy), *options]) == 1
        assert f"expected poses for {form}, but none in it is known" in says() and not (tmp_path / form).exists()


def test_a_run_without_poses_goes_on(untracked, copy, tmp_path, run, says):
    assert main(["resume", str(untracked)]) == 3
    metrics, trajectory, covariances = read(untracked)
    assert len(trajectory) == 0 and covariances == [] and metrics["frames"]["lost"] == 6


def test_refinement_of_no_frame(copy, tmp_path, run):
    assert run(without_depth(copy, range(6)), tmp_path / "out", "--refine") == 3
    metrics, trajectory, _ = read(tmp_path / "out")
    assert not metrics["refinement"]["taken"] and metrics["refinement"]["ate_before"] is None and len(trajectory) == 0


def test_one_frame_tracked(copy, tmp_path, run, prints, says):
    out = tmp_path / "out"
    assert run(without_depth(copy, range(1, 6)), out) == 3
    metrics, trajectory, covariances = read(out)
    printed = prints()
    assert len(trajectory) == len(covariances) == 1 and metrics["frames"]["tracked"] == 1
    assert "ate" not in metrics and "ATE" not in printed and "5 of 6 frames have no pose" in printed
    assert (out / "trajectory.png").is_file() and (out / "map.png").is_file()
    assert len(read_run(out).T_wc) == 6  # those lost are where the camera was left
    assert main(["evaluate", str(out)]) == 1 and "at least 3 pairs of poses, got 1" in says()


@pytest.mark.usefixtures("no_pictures")
def test_all_frames_lost_at_the_beginning(copy, tmp_path, run):
    assert run(without_depth(copy, range(2)), tmp_path / "out") == 0
    metrics, trajectory, covariances = read(tmp_path / "out")
    assert len(trajectory) == len(covariances) == 4 and metrics["frames"]["lost"] == 2
    assert metrics["ate"]["rmse"] < 2e-3
    text = sorted((tmp_path / "room" / "depth").glob("*.png"))[2].stem
    assert float(trajectory.timestamps[0]) == pytest.approx(float(text))


@pytest.mark.usefixtures("no_pictures")
def test_all_frames_uncertain(copy, tmp_path, run, prints):
    """A wall straight ahead, of one color: the camera may slide along it."""
    for path in sorted((copy / "depth").glob("*.png")):
        iio.imwrite(path, np.full((60, 80), 10000, np.uint16))
    for path in sorted((copy / "rgb").glob("*.png")):
        iio.imwrite(path, np.full((60, 80, 3), 128, np.uint8))
    out = tmp_path / "out"
    assert run(copy, out) == 3
    metrics, trajectory, covariances = read(out)
    assert metrics["frames"]["degenerate"] == 5 and len(trajectory) == len(covariances) == 6
    reason = "5 of 6 tracked frames are degenerate: what they see leaves directions of motion open"
    assert metrics["unreliable_because"] == reason and reason in prints()
    assert main(["evaluate", str(out), "--out", str(tmp_path)]) == 0
    assert f"the run is not to be relied on: {reason}" in prints()


def test_a_trajectory_without_a_pose_is_written_and_read(tmp_path):
    empty = Trajectory(torch.zeros(0), torch.zeros(0, 4, 4))
    unknown = Trajectory(torch.arange(2), torch.full((2, 4, 4), torch.nan))
    for trajectory in (empty, unknown):
        trajectory.save(tmp_path / "t.txt")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(Trajectory.load(tmp_path / "t.txt")) == 0
    (tmp_path / "t.txt").write_text("# timestamp tx ty tz qx qy qz qw\n")  # cut short
    with pytest.raises(ValueError, match="got only comments"):
        Trajectory.load(tmp_path / "t.txt")


def test_frames_of_submaps_that_are_not_connected_are_not_called_lost():
    lost, apart = TrackingStatus.NO_OVERLAP, TrackingStatus.UNCONNECTED
    statuses = torch.tensor([TrackingStatus.TRACKED, lost, apart, apart])
    result = SimpleNamespace(statuses=statuses, tracked=TrackingStatus.is_tracked(statuses), skipped=[])
    assert doubt(result) == (
        "3 of 4 frames have no pose in the map: 2 in submaps that are not connected with it, 1 lost and 0 skipped"
    )
