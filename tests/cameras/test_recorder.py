"""Recordings of a camera: what was recorded can be loaded, whatever ended it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gradslam_ng import datasets
from gradslam_ng.cameras import LiveCamera, Recorder, Shot, recorder


class Still(LiveCamera):
    """Noise, as hard on a disk as images get."""

    name, kind, size, depth_scale = "still", "still", (48, 64), 4000.0
    K = torch.tensor([[60.0, 0, 31.5], [0, 61, 23.5], [0, 0, 1]])

    def __init__(self) -> None:
        self.generator, self.count = np.random.default_rng(0), 0

    def grab(self) -> Shot:
        self.count += 1
        color = self.generator.integers(0, 256, (*self.size, 3), np.uint8)
        return Shot(1.7e9 + self.count / 30, color, self.generator.integers(0, 60000, self.size, np.uint16))

    def close(self) -> None: ...


def record(folder, count: int, **options) -> tuple[Recorder, list[Shot]]:
    camera = Still()
    shots = [camera.grab() for _ in range(count)]
    with Recorder(folder, camera=camera, **options) as found:
        for shot in shots:
            found.add(shot)
    return found, shots


def test_what_was_recorded_is_what_is_loaded(tmp_path):
    found, shots = record(tmp_path / "room", 5)
    assert (found.written, found.dropped) == (5, 0)
    sequence = datasets.load(tmp_path / "room")
    assert len(sequence) == 5 and torch.allclose(sequence.K, Still.K)
    assert sequence.timestamps.tolist() == pytest.approx([shot.seconds for shot in shots], abs=1e-6)
    for frame, shot in zip(sequence, shots, strict=True):
        assert (frame.color * 255).round().byte().numpy().tolist() == shot.color.tolist()
        near = shot.depth < 4000 * sequence.max_depth
        assert np.allclose(4000 * frame.depth[..., 0].numpy()[near], shot.depth[near], atol=0.1)


def test_jpeg_is_smaller(tmp_path):
    record(tmp_path / "room", 2, jpeg=90)
    assert len(datasets.load(tmp_path / "room")) == 2
    assert {path.suffix for path in (tmp_path / "room" / "color").iterdir()} == {".jpg"}


def test_a_recording_that_is_cut_off_can_be_loaded(tmp_path, monkeypatch):
    """The disk is full at the sixth image file, halfway through a frame: the frames before are whole."""
    images, replace = [], Path.replace

    def full(part: Path, target: Path) -> None:
        if len(images) == 5:
            raise OSError(28, "No space left on device")
        images.extend([target] * (target.suffix == ".png"))
        replace(part, target)

    monkeypatch.setattr(Path, "replace", full)
    camera = Still()
    with pytest.raises(OSError, match="No space left"), Recorder(tmp_path / "room", camera=camera) as found:
        for _ in range(500):
            found.add(camera.grab())
            time.sleep(0.01)
    assert found.written == 2 and len(datasets.load(tmp_path / "room")) == 2


def test_a_slow_disk_drops_and_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "WAITING", 2)
    monkeypatch.setattr(Recorder, "_write", lambda self, shot: time.sleep(0.05))
    found, _ = record(tmp_path / "room", 12)
    assert found.dropped >= 8 and found.written + found.dropped == 12


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="expected a new or empty folder"):
        record(tmp_path, 1)
    with pytest.raises(ValueError, match="jpeg: expected a quality of 1 to 100, got 0"):
        record(tmp_path / "room", 1, jpeg=0)


def test_the_camera_comes_first(tmp_path):
    with Recorder(tmp_path / "room", camera=Still()):
        text = json.loads((tmp_path / "room" / "intrinsics.json").read_text())
    assert text == {"fx": 60, "fy": 61, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48, "depth_scale": 4000}
