from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

from gradslam_ng.datasets import FrameError, RecordingWarning, Replica


def test_reads_frames(recordings, tmp_path):
    sequence = Replica(recordings.replica(tmp_path / "room0"))
    frame = sequence[4]
    assert float(frame.depth[5, 5, 0]) == pytest.approx(1.035, abs=2e-4)
    assert frame.K.tolist() == [[30, 0, 15.5], [0, 30, 11.5], [0, 0, 1]]
    torch.testing.assert_close(frame.T_wc, recordings.poses()[4], atol=1e-6, rtol=0)


@pytest.mark.parametrize("place", ["room0", "."])
def test_camera_file_beside_or_above(recordings, tmp_path, place):
    folder = recordings.replica(tmp_path / "room0")
    (folder / "cam_params.json").unlink()
    camera = {"w": 32, "h": 24, "fx": 30.0, "fy": 31.0, "cx": 15.5, "cy": 11.5, "scale": 1000.0}
    (tmp_path / place / "cam_params.json").write_text(json.dumps({"camera": camera}))
    sequence = Replica(folder)
    assert float(sequence.K[1, 1]) == 31 and sequence.depth_scale == 1000
    assert float(Replica(folder, depth_scale=6553.5)[0].depth[5, 5, 0]) == pytest.approx(1.075, abs=2e-4)


def test_the_camera_of_the_data_set_is_assumed_and_said_to_be(recordings, tmp_path):
    """Scaled to images of another size; of another shape it cannot be right."""
    folder = recordings.replica(tmp_path / "room0")
    (folder / "cam_params.json").unlink()
    for i in range(8):
        iio.imwrite(folder / "results" / f"frame{i:06d}.jpg", recordings.color_image(i, (68, 120)))
        iio.imwrite(folder / "results" / f"depth{i:06d}.png", recordings.depth_image(i, 6553.5, (68, 120)))
    with pytest.warns(RecordingWarning, match="assumed to be that of Replica"):
        sequence = Replica(folder)
    torch.testing.assert_close(sequence.K[:2, 2], torch.tensor([59.5, 33.5]))
    assert float(sequence.K[0, 0]) == pytest.approx(60)
    assert {finding.code for finding in sequence.findings} == {"camera.assumed", "camera.resized"}
    for i in range(8):
        iio.imwrite(folder / "results" / f"frame{i:06d}.jpg", recordings.color_image(i))
        iio.imwrite(folder / "results" / f"depth{i:06d}.png", recordings.depth_image(i, 6553.5))
    with pytest.warns(RecordingWarning, match="of another shape"):
        sequence = Replica(folder)
    assert ("error", "camera.resized") in [(finding.severity, finding.code) for finding in sequence.findings]


def test_fewer_poses_than_frames(recordings, tmp_path):
    folder = recordings.replica(tmp_path / "room0")
    lines = (folder / "traj.txt").read_text().splitlines()
    (folder / "traj.txt").write_text("\n".join(lines[:5]))
    known = Replica(folder).T_wc.isfinite().flatten(1).all(-1)
    assert known.tolist() == [True] * 5 + [False] * 3


def renumber(folder: Path, numbers: list[int]) -> None:
    """Files under other numbers, those without one removed."""
    for kind in ("frame", "depth"):
        files = sorted((folder / "results").glob(f"{kind}*"))
        renamed = [path.rename(path.with_name(f"_{path.name}")) for path in files]
        for path, number in zip(renamed, numbers, strict=False):
            path.rename(path.with_name(f"{kind}{number:06d}{path.suffix}"))


@pytest.mark.parametrize("numbers", [range(1, 9), range(0, 16, 2), range(100, 108)])
def test_as_many_poses_as_frames_belong_to_them_in_order(recordings, tmp_path, numbers):
    folder = recordings.replica(tmp_path / "room0")
    renumber(folder, list(numbers))
    torch.testing.assert_close(Replica(folder).T_wc, recordings.poses(), rtol=0, atol=1e-9)


def test_other_poses_belong_to_numbers(recordings, tmp_path):
    folder = recordings.replica(tmp_path / "room0")
    renumber(folder, [0, 3, 6])
    torch.testing.assert_close(Replica(folder).T_wc, recordings.poses()[[0, 3, 6]], rtol=0, atol=1e-9)
    renumber(folder, [1, 2, 3])
    with pytest.warns(RecordingWarning, match="numbered from 1"):
        Replica(folder)
    renumber(folder, [6, 7, 8])
    with pytest.raises(ValueError, match=r"traj\.txt: 8 poses for 3 frames, numbered 6 to 8"):
        Replica(folder)


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
