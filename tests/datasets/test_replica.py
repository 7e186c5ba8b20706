from __future__ import annotations

import json

import pytest
import torch

from gradslam_ng.datasets import FrameError, Replica


def test_reads_frames(recordings, tmp_path):
    sequence = Replica(recordings.replica(tmp_path / "room0"))
    frame = sequence[4]
    assert float(frame.depth[5, 5, 0]) == pytest.approx(1.035, abs=2e-4)
    assert float(frame.K[0, 0]) == 600 and float(frame.K[0, 2]) == 599.5 and float(frame.K[1, 2]) == 339.5
    torch.testing.assert_close(frame.T_wc, recordings.poses()[4].float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("place", ["room0", "."])
def test_camera_file_beside_or_above(recordings, tmp_path, place):
    folder = recordings.replica(tmp_path / "room0")
    camera = {"w": 32, "h": 24, "fx": 30.0, "fy": 31.0, "cx": 15.5, "cy": 11.5, "scale": 1000.0}
    (tmp_path / place / "cam_params.json").write_text(json.dumps({"camera": camera}))
    sequence = Replica(folder)
    assert float(sequence.K[1, 1]) == 31 and sequence.depth_scale == 1000
    assert float(Replica(folder, depth_scale=6553.5)[0].depth[5, 5, 0]) == pytest.approx(1.075, abs=2e-4)


def test_fewer_poses_than_frames(recordings, tmp_path):
    folder = recordings.replica(tmp_path / "room0")
    lines = (folder / "traj.txt").read_text().splitlines()
    (folder / "traj.txt").write_text("\n".join(lines[:5]))
    known = Replica(folder).T_wc.isfinite().flatten(1).all(-1)
    assert known.tolist() == [True] * 5 + [False] * 3


def test_missing_depth_costs_one_frame(recordings, tmp_path):
    folder = recordings.replica(tmp_path / "room0")
    (folder / "results" / "depth000003.png").unlink()
    with pytest.raises(FrameError, match=r"frame 3: .*depth000003\.png: no such file"):
        Replica(folder)[3]


def test_bad_pose_costs_its_frame_and_names_its_line(recordings, tmp_path):
    folder = recordings.replica(tmp_path / "room0")
    lines = (folder / "traj.txt").read_text().splitlines()
    lines[2], lines[4] = "1 2 3", " ".join(["-1.#IND"] * 16)
    (folder / "traj.txt").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match=r"2 of 8 .*1 cannot be read, .*traj\.txt, line 3: expected a pose as 4x4"):
        known = Replica(folder).T_wc.isfinite().flatten(1).all(-1)
    assert known.tolist() == [True, True, False, True, False, True, True, True]
    (folder / "traj.txt").write_text("1 2 3\n" * 8)
    with pytest.raises(ValueError, match=r"traj\.txt, line 1: expected a pose as 4x4 numbers"):
        Replica(folder)
    (folder / "traj.txt").write_text("")
    with pytest.warns(UserWarning, match=r"traj\.txt: .*an empty file; no pose is known"):
        assert Replica(folder).T_wc is None
