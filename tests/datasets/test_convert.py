from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from gradslam_ng import datasets
from gradslam_ng.datasets import convert
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory


@pytest.mark.parametrize("form", ["tum", "folder", "transforms"])
def test_what_is_written_is_read_back(recordings, tmp_path, form):
    """Images, camera, times and poses, bit for bit but for the unit of depth."""
    sequence = datasets.load(recordings.tum(tmp_path / "desk"))
    done = convert(sequence, tmp_path / "out", form)
    again = datasets.load(tmp_path / "out")
    assert again.layout == form and done.frames == len(again) == 8 and not done.unposed and not done.unreadable
    torch.testing.assert_close(again.K, sequence.K)
    torch.testing.assert_close(again.timestamps, sequence.timestamps, atol=1e-6, rtol=0)
    for i in (0, 7):
        torch.testing.assert_close(again[i].color, sequence[i].color)
        torch.testing.assert_close(again[i].depth, sequence[i].depth, atol=5.1e-4, rtol=0)
        torch.testing.assert_close(again[i].T_wc, sequence[i].T_wc, atol=1e-6, rtol=0)


def test_colmap_has_poses_and_points_where_they_are(recordings, tmp_path):
    """Points project into the images that they are of, with their colors, by the numbers in the files alone."""
    sequence = datasets.load(recordings.tum(tmp_path / "desk"))[:2]
    convert(sequence, tmp_path / "out", "colmap")
    model = tmp_path / "out" / "sparse" / "0"
    number, kind, width, height, fx, fy, cx, cy = (model / "cameras.txt").read_text().split()
    assert (number, kind, width, height) == ("1", "PINHOLE", "32", "24") and float(cx) == 16.0
    words = (model / "images.txt").read_text().splitlines()[0].split()
    assert len(datasets.load(tmp_path / "out")) == 2  # as a folder, beside
    assert words[8:] == ["1", "000000.png"] and (tmp_path / "out" / "images" / "000000.png").is_file()
    w, x, y, z, *t = map(float, words[1:8])
    T_cw = se3.from_quaternion(torch.tensor(t), torch.tensor([x, y, z, w]))
    points = torch.tensor(np.loadtxt(model / "points3D.txt"), dtype=torch.float32)
    of_first = points[: len(points) // 2]
    p = se3.transform(T_cw, of_first[:, 1:4])
    u, v = float(fx) * p[:, 0] / p[:, 2] + float(cx) - 0.5, float(fy) * p[:, 1] / p[:, 2] + float(cy) - 0.5
    column, row = u.round().long(), v.round().long()
    frame = sequence[0]
    torch.testing.assert_close(frame.depth[row, column, 0], p[:, 2], atol=1e-3, rtol=0)
    torch.testing.assert_close(frame.color[row, column] * 255, of_first[:, 4:7], atol=0.5, rtol=0)


def test_poses_of_a_run_take_the_place_of_the_recordings(recordings, tmp_path):
    sequence = datasets.load(recordings.folder(tmp_path / "walk"))
    with pytest.raises(ValueError, match="trajectory: expected poses for colmap, but the recording has none"):
        convert(sequence, tmp_path / "out", "colmap")
    poses = Trajectory(sequence.timestamps[:6], recordings.poses()[:6])
    done = convert(sequence, tmp_path / "out", "transforms", trajectory=poses)
    assert (done.frames, done.unposed) == (6, 2)
    frames = json.loads((tmp_path / "out" / "transforms.json").read_text())["frames"]
    assert frames[5]["transform_matrix"][0][3] == pytest.approx(float(recordings.poses()[5, 0, 3]))


def test_frames_that_cannot_be_read_are_left_out_and_counted(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    (folder / "depth" / "3.png").write_bytes(b"broken")
    done = convert(datasets.load(folder), tmp_path / "out", "tum", jpeg=90)
    assert done.frames == 7 and done.unreadable[0].index == 3
    assert len(datasets.load(tmp_path / "out")) == 7


def test_hostile_arguments(recordings, tmp_path):
    sequence = datasets.load(recordings.tum(tmp_path / "desk"))
    with pytest.raises(FileExistsError, match="expected a new or empty folder"):
        convert(sequence, tmp_path, "tum")
    with pytest.raises(ValueError, match="to: expected one of tum, folder"):
        convert(sequence, tmp_path / "out", "ply")
    with pytest.raises(ValueError, match="jpeg: expected a quality"):
        convert(sequence, tmp_path / "out", "tum", jpeg=0)
    assert not (tmp_path / "out").exists()
