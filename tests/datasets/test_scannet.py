from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.datasets import FrameError, ScanNet
from gradslam_ng.datasets.scannet import resample


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


def test_color_is_resampled_to_the_depth_camera():
    """A color image that shows the direction of each of its rays still does so in the camera of the depth images."""
    K_color = torch.tensor([[1170.0, 0, 640.0], [0, 1165.0, 490.0], [0, 0, 1]])
    K_depth = torch.tensor([[572.0, 0, 319.5], [0, 570.0, 239.5], [0, 0, 1]])
    v, u = torch.meshgrid(torch.arange(968.0), torch.arange(1296.0), indexing="ij")
    directions = torch.stack([(u - 640) / 1170, (v - 490) / 1165, torch.zeros_like(u)], -1)
    seen = resample(directions, K_color, K_depth, (480, 640))
    v, u = torch.meshgrid(torch.arange(480.0), torch.arange(640.0), indexing="ij")
    expected = torch.stack([(u - 319.5) / 572, (v - 239.5) / 570, torch.zeros_like(u)], -1)
    inner = slice(12, -12), slice(12, -12)
    torch.testing.assert_close(seen[inner], expected[inner], atol=2e-5, rtol=0)


def test_resampling_from_an_unknown_camera_only_resizes():
    image = torch.arange(8.0)[None, :, None].expand(4, 8, 3)
    resized = resample(image, None, torch.eye(3), (2, 4))
    torch.testing.assert_close(resized[0, 1:-1, 0], torch.tensor([2.5, 4.5]))


def test_missing_depth_and_wrong_size_cost_one_frame(recordings, tmp_path):
    folder = recordings.scannet(tmp_path / "scene")
    (folder / "depth" / "6.png").unlink()
    iio.imwrite(folder / "depth" / "8.png", np.ones((12, 16), np.uint16))
    sequence = ScanNet(folder)
    with pytest.raises(FrameError, match=r"frame 3: .*6\.png: no such file"):
        sequence[3]
    with pytest.raises(FrameError, match=r"frame 4: .*8\.png: is 16x12; expected 32x24"):
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
