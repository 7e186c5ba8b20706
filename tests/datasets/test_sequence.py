from __future__ import annotations

import math
import pickle

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gradslam_ng.datasets import TUM, FrameError, load
from gradslam_ng.structures import RGBDFrames


@pytest.fixture
def sequence(recordings, tmp_path):
    return TUM(recordings.tum(tmp_path / "desk"))


def same(a: RGBDFrames, b: RGBDFrames) -> bool:
    fields = ("color", "depth", "K", "T_wc", "timestamps")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in fields)


def test_slice_is_a_sequence_of_those_frames(sequence):
    part = sequence[1:7:2]
    assert len(part) == 3 and part.name == sequence.name and part.ground_truth is sequence.ground_truth
    assert torch.equal(part.timestamps, sequence.timestamps[1:7:2])
    assert all(same(part[i], sequence[1 + 2 * i]) for i in range(3))
    assert same(part[1:][0], sequence[3])
    assert len(sequence) == 8 and same(part[-1], sequence[5])


def test_index_out_of_range_ends_iteration(sequence):
    with pytest.raises(IndexError):
        sequence[8]
    assert len(list(sequence)) == 8


def test_slice_reports_the_frame_of_the_recording(sequence, tmp_path):
    (tmp_path / "desk" / "rgb" / "5.png").unlink()
    with pytest.raises(FrameError) as caught:
        sequence[4:][1]
    assert caught.value.index == 5


def test_frame_error_survives_pickling():
    error = pickle.loads(pickle.dumps(FrameError(3, path="a.png", reason="broken")))
    assert (error.index, error.path, error.reason, str(error)) == (3, "a.png", "broken", "frame 3: a.png: broken")


def test_clips(sequence):
    clips = sequence.clips(3, 2)
    assert len(clips) == 3 and clips[1].shape == (3,) and clips[1].color.shape == (3, 24, 32, 3)
    assert same(clips[1][2], sequence[4])
    assert len(sequence.clips(3)) == 2 and same(sequence.clips(3)[1][0], sequence[3])
    assert len(sequence[::2].clips(4, 1)) == 1


@pytest.mark.parametrize("length, stride", [(0, 1), (9, 1), (3, 0)])
def test_clips_that_cannot_be(sequence, length, stride):
    with pytest.raises(ValueError, match="clip"):
        sequence.clips(length, stride)


def test_data_loader_with_workers(sequence):
    frames = next(iter(DataLoader(sequence, batch_size=4, num_workers=2)))
    assert isinstance(frames, RGBDFrames) and frames.shape == (4,)
    assert same(frames[3], sequence[3])
    clips = list(DataLoader(sequence.clips(3, 1), batch_size=2, num_workers=2))
    assert len(clips) == 3 and clips[0].shape == (2, 3) and clips[0].T_wc.shape == (2, 3, 4, 4)
    assert same(clips[2][1, 2], sequence[7])


def test_depth_beyond_the_sensor_is_left_out_of_frames(recordings, tmp_path):
    """The range of a Kinect where the layout tells it, else none but what the user gives; files that saturate."""
    folder = recordings.tum(tmp_path / "desk")
    pixels = iio.imread(folder / "depth" / "0.png")
    pixels[0, :4] = 50001, 49999, 65534, 65535
    iio.imwrite(folder / "depth" / "0.png", pixels)
    recorded = torch.from_numpy(pixels.astype(np.float32) / 5000)
    for sequence, limit in ((load(folder), 10.0), (load(folder, max_depth=20.0), 20.0)):
        assert torch.equal(sequence[:1][0].depth[1:, :, 0], recorded[1:])
        expected = [float(z) if z <= limit else 0.0 for z in recorded[0, :3]] + [0.0]
        assert sequence[0].depth[0, :4, 0].tolist() == pytest.approx(expected, abs=1e-6)
    other = recordings.folder(tmp_path / "other")
    assert load(other).max_depth == math.inf and load(other, max_depth=1.0)[0].depth.max() <= 1.0
    with pytest.raises(ValueError, match="max_depth: expected a positive number of meters, got 0"):
        load(folder, max_depth=0.0)


def test_backwards_is_refused(sequence):
    with pytest.raises(
        ValueError, match="sequence: expected a positive step, since frames are in order of time, got -1"
    ):
        sequence[::-1]
