"""`.sens` files as the tools of ScanNet and BundleFusion write them, byte by byte."""

from __future__ import annotations

import math
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import recordings as samples
from gradslam_ng import datasets
from gradslam_ng.datasets import FrameError, RecordingWarning

K_DEPTH = [30.0, 0, 15.5, 0, 0, 30.0, 11.5, 0, 0, 0, 1, 0, 0, 0, 0, 1]
K_COLOR = [61.0, 0, 31.5, 0, 0, 61.0, 23.5, 0, 0, 0, 1, 0, 0, 0, 0, 1]
EYE = np.eye(4).ravel().tolist()


def write_sens(path: Path, recordings, color_kind=1, depth_kind=1, K_color=K_COLOR, size=(48, 64), step=33_333) -> Path:
    color = [recordings.color_image(i, size) for i in range(8)]
    depth = np.array([recordings.depth_image(i, 1000) for i in range(8)])
    poses = recordings.poses()
    poses[2] = -math.inf
    kinds = {"color_kind": color_kind, "depth_kind": depth_kind}
    return samples.write_sens(path, color, depth, poses, (K_color, K_DEPTH), step=step, **kinds)


@pytest.mark.parametrize("color_kind, depth_kind", [(0, 0), (1, 1), (2, 1)])
def test_reads_what_scannet_writes(recordings, tmp_path, color_kind, depth_kind):
    sequence = datasets.load(write_sens(tmp_path / "scene.sens", recordings, color_kind, depth_kind))
    assert sequence.layout == "sens" and len(sequence) == 8 and sequence.size == (24, 32)
    assert sequence.depth_scale == 1000 and sequence.max_depth == 10
    assert sequence.timestamps.tolist() == pytest.approx([i / 30 for i in range(8)], abs=1e-4)
    depth = torch.from_numpy(recordings.depth_image(5, 1000).astype(np.float32) / 1000)
    inner = slice(1, -1), slice(1, -1)  # the color camera sees a little less
    torch.testing.assert_close(sequence[5].depth[..., 0][inner], depth[inner])
    torch.testing.assert_close(sequence[5].T_wc, recordings.poses()[5], atol=1e-6, rtol=0)
    assert bool(sequence[2].T_wc.isnan().all()) and len(sequence.ground_truth) == 7
    torch.testing.assert_close(pickle.loads(pickle.dumps(sequence))[3].depth, sequence[3].depth)


def test_color_is_looked_up_in_its_own_camera(recordings, tmp_path, monkeypatch):
    """An image whose pixels tell their own ray is seen under the ray of each depth pixel."""
    v, u = np.mgrid[:48, :64]
    rays = np.stack([100 + 100 * (u - 31.5) / 61, 100 + 100 * (v - 23.5) / 61, np.full(u.shape, 9)], -1)
    monkeypatch.setattr(recordings, "color_image", lambda index, size: rays.round().astype(np.uint8))
    frame = datasets.load(write_sens(tmp_path / "scene.sens", recordings, 0))[0]
    v, u = np.mgrid[:24, :32]
    expected = np.stack([100 + 100 * (u - 15.5) / 30, 100 + 100 * (v - 11.5) / 30], -1)[2:-2, 2:-2]
    assert np.abs(frame.color.numpy()[2:-2, 2:-2, :2] * 255 - expected).max() < 1.5


def test_times_and_a_camera_that_the_file_does_not_tell(recordings, tmp_path):
    wrong = [*K_DEPTH[:2], 300.0, *K_DEPTH[3:]]
    with pytest.warns(RecordingWarning, match="the camera of color is not that of images of 64x48"):
        sequence = datasets.load(write_sens(tmp_path / "scene.sens", recordings, 0, K_color=wrong, step=0))
    assert sequence.timestamps.tolist() == pytest.approx([i / 30 for i in range(8)])


def test_a_file_that_is_cut_off_keeps_its_whole_frames(recordings, tmp_path):
    path = write_sens(tmp_path / "scene.sens", recordings)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(RecordingWarning, match=r"scene\.sens tells of 8 frames, 7 whole ones are there"):
        assert len(datasets.load(path)) == 7


def test_hostile_bytes_give_one_error_or_cost_frames(recordings, tmp_path):
    path = write_sens(tmp_path / "scene.sens", recordings)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    outcomes = []
    for _ in range(30):
        broken = whole.copy()
        where = random.integers(0, len(whole), 40)
        broken[where] = random.integers(0, 256, len(where))
        path.write_bytes(broken.tobytes())
        try:
            sequence = datasets.load(path)
        except ValueError:
            outcomes.append("refused")
            continue
        for i in range(len(sequence)):
            try:
                sequence[i]
                outcomes.append("read")
            except FrameError:
                outcomes.append("skipped")
    assert "read" in outcomes and "skipped" in outcomes
    before_frames = whole[: 12 + len("StructureSensor") + struct.calcsize("<64f2i4IfQ") + 40]
    for data in (b"", b"\x04\0\0\0", bytes(1000), before_frames):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"scene\.sens: expected a"):
            datasets.load(path)
