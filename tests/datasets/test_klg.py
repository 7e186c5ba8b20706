"""`.klg` logs as ElasticFusion's loggers write them, byte by byte."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import recordings as samples
from gradslam_ng import datasets
from gradslam_ng.datasets import FrameError, RecordingWarning

SIZE = (120, 160)  # one of those that raw images are told by


def write_klg(path: Path, recordings, jpeg: bool = True, told: int = 4) -> Path:
    color = np.array([np.full((*SIZE, 3), (200, 100, 40 * i), np.uint8) for i in range(4)])
    depth = np.array([recordings.depth_image(i, 1000, SIZE) for i in range(4)])
    (path.parent / "calibration.txt").write_text("140 140 79.5 59.5\n")
    return samples.write_klg(path, color, depth, jpeg=jpeg, told=told)


@pytest.mark.parametrize("jpeg", [True, False])
def test_reads_what_the_loggers_write(recordings, tmp_path, jpeg):
    sequence = datasets.load(write_klg(tmp_path / "loop.klg", recordings, jpeg))
    assert sequence.layout == "klg" and len(sequence) == 4 and sequence.size == SIZE
    assert float(sequence.K[0, 0]) == 140 and not sequence.findings
    assert sequence.timestamps.tolist() == pytest.approx([5 + i * 0.033333 for i in range(4)])
    depth = torch.from_numpy(recordings.depth_image(3, 1000, SIZE).astype(np.float32) / 1000)
    torch.testing.assert_close(sequence[3].depth[..., 0], depth)
    assert (sequence[2].color[5, 5] * 255).tolist() == pytest.approx([200, 100, 80], abs=2)


def test_a_log_without_color_is_black(recordings, tmp_path):
    """As ElasticFusion reads it."""
    data = struct.pack("<i", 4)
    for i in range(4):
        depth = zlib.compress(recordings.depth_image(i, 1000, SIZE).tobytes())
        data += struct.pack("<qii", 33_333 * i, len(depth), 0) + depth
    (tmp_path / "loop.klg").write_bytes(data)
    (tmp_path / "calibration.txt").write_text("140 140 79.5 59.5\n")
    sequence = datasets.load(tmp_path / "loop.klg")
    assert sequence.size == SIZE and float(sequence[1].color.max()) == 0 and float(sequence[1].depth.max()) > 1


def test_the_camera_is_that_of_elasticfusion_with_a_warning(recordings, tmp_path):
    path = write_klg(tmp_path / "loop.klg", recordings)
    (tmp_path / "calibration.txt").unlink()
    with pytest.warns(RecordingWarning, match="assumed to be that of ElasticFusion"):
        assert float(datasets.load(path).K[0, 0]) == pytest.approx(528 / 4)


def test_a_log_that_was_not_finished_keeps_its_whole_frames(recordings, tmp_path):
    path = write_klg(tmp_path / "loop.klg", recordings, told=0)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.warns(RecordingWarning, match="tells of 0 frames, 3 whole ones are there"):
        assert len(datasets.load(path)) == 3


def test_hostile_bytes_give_one_error_or_cost_frames(recordings, tmp_path):
    path = write_klg(tmp_path / "loop.klg", recordings)
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(20)  # within the depth of the first frame
    path.write_bytes(bytes(data))
    sequence = datasets.load(path)
    with pytest.raises(FrameError, match="frame 0: loop: "):
        sequence[0]
    assert sequence[1].depth.max() > 1
    for data in (b"", b"\x04\0\0\0", bytes(1000), bytes([4, 0, 0, 0]) + bytes([255]) * 500):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"loop\.klg: expected"):
            datasets.load(path)
