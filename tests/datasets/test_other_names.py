"""Recordings in a layout that is read, under the names of other programs and data sets."""

from __future__ import annotations

import json

import pytest
import torch

from gradslam_ng import datasets

AZURE = {"color_mode": "MJPG_720P", "depth_mode": "NFOV_UNBINNED", "serial_number_": "1", "stream_length_usec": 9}


@pytest.mark.parametrize("name, more", [("camera_intrinsic.json", {}), ("intrinsic.json", AZURE)])
def test_recorders_of_open3d(recordings, tmp_path, name, more):
    folder = recordings.folder(tmp_path / "walk")
    (folder / "intrinsics.txt").unlink()
    camera = {"width": 32, "height": 24, "intrinsic_matrix": [30, 0, 0, 0, 31, 0, 15.5, 11.5, 1], **more}
    (folder / name).write_text(json.dumps(camera))
    sequence = datasets.load(folder)
    assert len(sequence) == 8 and not [finding for finding in sequence.findings if finding.is_serious]
    assert sequence.K.flatten().tolist() == [30, 0, 15.5, 0, 31, 11.5, 0, 0, 1]


def test_eth3d(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "table_3")
    (folder / "intrinsics.txt").rename(folder / "calibration.txt")
    (folder / "associated.txt").write_text("100.0 rgb/0.png 100.0 depth/0.png\n")
    sequence = datasets.load(folder)
    assert sequence.layout == "tum" and len(sequence) == 8 and sequence.depth_scale == 5000
    assert float(sequence.K[0, 0]) == 30 and not sequence.findings


def test_camera_of_the_bonn_data_set_by_the_folders_name(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "rgbd_bonn_balloon")
    (folder / "intrinsics.txt").unlink()
    with pytest.warns(datasets.RecordingWarning, match="belongs to images of 640x480"):  # those of the test are small
        sequence = datasets.load(folder)
    assert float(sequence.K[0, 0]) == pytest.approx(542.822841 / 20)
    assert "published calibration of the Bonn data set, distortion undone" in sequence.notes[0]


def test_hololens_recordings_of_deep_video_mvs(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "hololens")
    (folder / "color").rename(folder / "images")
    (folder / "intrinsics.txt").rename(folder / "K.txt")
    rows = [" ".join(map(repr, T.flatten().tolist())) for T in recordings.poses()]
    (folder / "poses.txt").write_text("\n".join(rows) + "\n")
    sequence = datasets.load(folder)
    assert len(sequence) == 8 and float(sequence.K[0, 0]) == 30
    torch.testing.assert_close(sequence[3].T_wc, recordings.poses()[3])


@pytest.mark.parametrize("name", ["rgb", "image", "images"])
def test_other_names_of_the_folder_of_color(recordings, tmp_path, name):
    folder = recordings.folder(tmp_path / "walk")
    (folder / "color").rename(folder / name)
    sequence = datasets.load(folder)
    assert sequence.layout == "folder" and float(sequence[2].color[0, 0, 0]) * 255 == pytest.approx(2)
