"""`gradslam-ng run --prior FILE`: poses from elsewhere, in a world and on a body of their own."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.prior import parse_place
from gradslam_ng.commands.recording import RecordingOptions
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory

pytestmark = pytest.mark.usefixtures("no_pictures")
PLACE = "0.1,0,-0.2,0,0.6,0,0.8"


def test_a_run_with_one_says_so(recording, tmp_path, run, results):
    truth = Trajectory.load(recording / "groundtruth.txt")
    elsewhere = se3.exp(torch.tensor([5.0, 0, 0, 0, 1, 0], dtype=torch.float64))
    Trajectory(truth.timestamps, elsewhere @ truth.T_wc @ se3.inverse(parse_place(PLACE))).save(tmp_path / "robot.txt")
    options = ("--prior", str(tmp_path / "robot.txt"), f"--prior-extrinsics={PLACE}")
    assert run(recording, tmp_path / "out", *options) == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    assert (trajectory.T_wc - truth.T_wc)[:, :3, 3].norm(dim=-1).max() < 2e-3
    assert metrics["settings"]["prior"] == str(tmp_path / "robot.txt")
    (finding,) = metrics["findings"]
    assert finding["code"] == "poses.prior" and finding["message"].startswith("6 of 6 frames have a pose")


def test_a_file_that_only_turns_tells_of_no_translation(recording, tmp_path):
    truth = Trajectory.load(recording / "groundtruth.txt")
    T = truth.T_wc.clone()
    T[:, :3, 3] = 0
    Trajectory(truth.timestamps, T).save(tmp_path / "gyroscope.txt")
    sequence = RecordingOptions(prior=str(tmp_path / "gyroscope.txt")).load(str(recording))
    assert sequence[1].T_prior[:3, 3].isnan().all() and torch.allclose(sequence[1].T_prior[:3, :3], T[1, :3, :3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "nowhere.txt"}, "prior: expected a file of poses"),
        ({"prior": "late.txt"}, "prior: expected poses at the times of frames"),
        ({"prior": "late.txt", "prior_extrinsics": "1,2,3"}, "prior_extrinsics: expected tx,ty,tz,qx,qy,qz,qw"),
        ({"prior_extrinsics": PLACE}, "prior_extrinsics: expected --prior FILE"),
    ],
)
def test_what_makes_no_sense_is_refused(recording, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    truth = Trajectory.load(recording / "groundtruth.txt")
    Trajectory(truth.timestamps + 1000, truth.T_wc).save(tmp_path / "late.txt")
    with pytest.raises(UsageError, match=message):
        RecordingOptions(**options).load(str(recording))
