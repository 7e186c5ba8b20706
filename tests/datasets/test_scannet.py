from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.datasets import FrameError, ScanNet
from gradslam_ng.datasets.images import load_color, unit_color
from gradslam_ng.geometry.camera import pixel_grid


def test_reads_frames_of_an_export_with_a_skip(recordings, tmp_path):
    sequence = ScanNet(recordings.scannet(tmp_path / "scene0000_00"))
    assert len(sequence) == 8 and sequence.size == (24, 32)
    assert sequence.timestamps.tolist() == pytest.approx([2 * i / 30 for i in range(8)])
    frame = sequence[5]
    assert frame.color.shape == (24, 32, 3) and 0 <= frame.color.min() and frame.color.max() <= 1
    assert float(frame.depth[5, 5, 0]) == pytest.approx(1.025, abs=1e-3)
    assert float(frame.K[0, 0]) == 30 and float(frame.K[1, 2]) == 11.5
    torch.testing.assert_close(frame.T_wc, recordings.poses()[5], atol=1e-6, rtol=0)


def test_frame_order_is_by_number(recordings, tmp_path):
    folder = recordings.scannet(tmp_path / "scene")
    assert [path.stem for path in ScanNet(folder).color] == ["0", "2", "4", "6", "8", "10", "12", "14"]


def test_lost_frame_has_no_pose(recordings, tmp_path):
    sequence = ScanNet(recordings.scannet(tmp_path / "scene"))
    assert bool(sequence[2].T_wc.isnan().all())
    assert len(sequence.ground_truth) == 7


def test_color_is_looked_up_in_its_own_camera(recordings, tmp_path):
    """A color image that shows the direction of each of its rays still does so in the camera of the depth images."""
    folder = recordings.scannet(tmp_path / "scene")
    directions = pixel_grid(48, 64) - torch.tensor([33.0, 22.5])  # of a camera of 66 pixels
    image = torch.cat([2 * directions + 128, torch.zeros(48, 64, 1)], -1).round().byte()
    for path in (folder / "color").iterdir():
        path.unlink()
        iio.imwrite(path.with_suffix(".png"), image.numpy())
    frame = ScanNet(folder)[0]
    expected = 66 / 30 * 2 * (pixel_grid(24, 32) - torch.tensor([15.5, 11.5])) + 128
    seen = (frame.depth > 0) & (frame.color[..., 2:] == 0)
    assert seen.float().mean() > 0.7  # color sees less than depth
    difference = (frame.color[..., :2] * 255 - expected).abs()[seen[..., 0]]
    assert difference.max() < 0.51  # images are halved by blocks of whole numbers before


def test_color_of_an_unknown_camera_sees_what_depth_sees(recordings, tmp_path):
    folder = recordings.scannet(tmp_path / "scene")
    (folder / "intrinsic" / "intrinsic_color.txt").unlink()
    color = unit_color(load_color(folder / "color" / "0.jpg"))
    frame = ScanNet(folder)[0]
    torch.testing.assert_close(frame.color, color.unflatten(0, (24, 2)).unflatten(2, (32, 2)).mean((1, 3)))
    assert (frame.depth > 0).sum() == 24 * 32 - 1  # the hole


def test_missing_depth_and_wrong_size_cost_one_frame(recordings, tmp_path):
    folder = recordings.scannet(tmp_path / "scene")
    (folder / "depth" / "6.png").unlink()
    iio.imwrite(folder / "depth" / "8.png", np.ones((12, 16), np.uint16))
    sequence = ScanNet(folder)
    with pytest.raises(FrameError, match=r"frame 3: .*6\.png: no such file"):
        sequence[3]
    with pytest.raises(FrameError, match=r"frame 4: .*8\.png: depth is 16x12; expected 32x24"):
        sequence[4]


LOST = {
    "-inf": "-inf -inf -inf -inf\n" * 4,
    "MSVC": "-1.#INF 1.#QNAN -1.#IND00 1.#INF\n" * 4,
    "zeros": "0 0 0 0\n" * 4,
    "empty": "",
    "cut": "1 0 0 0\n0 1 0 0\n0 0",
    "other numbers": "1 2 3",
    "mirrored": "1 0 0 0\n0 1 0 0\n0 0 -1 0\n0 0 0 1\n",
    "words": "lost\nat sea\n",
    "bytes": bytes(range(256)).decode("latin-1"),
}


@pytest.mark.parametrize("case", LOST)
def test_a_pose_that_is_not_known_costs_its_frame(recordings, tmp_path, case):
    folder = recordings.scannet(tmp_path / "scene")
    (folder / "pose" / "8.txt").write_text(LOST[case], encoding="latin-1")
    with pytest.warns(UserWarning, match="2 of 8 frames have no pose"):
        known = ScanNet(folder).T_wc.isfinite().flatten(1).all(-1)
    assert known.tolist() == [True, True, False, True, False, True, True, True]


def test_pose_files_that_cannot_be_read_are_refused(recordings, tmp_path):
    folder = recordings.scannet(tmp_path / "scene")
    for path in (folder / "pose").glob("*.txt"):
        path.write_text("1 2 3")
    with pytest.raises(ValueError, match=r"0\.txt: expected a pose as 4x4 numbers, got 3 numbers"):
        ScanNet(folder)
    for path in (folder / "pose").glob("*.txt"):
        path.write_text(LOST["mirrored"])
    with pytest.raises(ValueError, match=r"0\.txt: expected a rigid motion"):
        ScanNet(folder)
