"""RealSense cameras, through librealsense's software device, whose frames go all the way that a camera's go."""

from __future__ import annotations

import sys
from itertools import islice

import numpy as np
import pytest
import torch

from gradslam_ng.cameras import CameraError, LatestFrames, LiveSequence, camera, open_camera, realsense


def test_shots_are_what_the_device_gave(software):
    with software.open() as source:
        assert source.size == software.size and source.depth_scale == pytest.approx(1000)
        assert torch.allclose(source.K, torch.tensor([[64.0, 0, 39.5], [0, 64, 29.5], [0, 0, 1]]))
        first, second = source.grab(), source.grab()
        number = int(first.depth.max()) - 1000
        assert (first.depth[5:] == 1000 + number).all() and (first.depth[:5] == 0).all()
        assert (first.color[10:, :, 0] == number).all() and (first.color[10:, :, 2] == 200).all()
        assert first.seconds == pytest.approx(1000 + number / 30, abs=1e-3) and second.seconds > first.seconds
        frame = source.frame(first)
        assert float(frame.depth[20, 20, 0]) == pytest.approx((1000 + number) / 1000)
        assert (first.depth[5:] == 1000 + number).all()  # and not what librealsense wrote there afterwards


def test_each_depth_comes_once(software):
    with software.open() as source:
        seconds = [source.grab().seconds for _ in range(15)]
    assert seconds == sorted(set(seconds))


def test_a_camera_that_stops_is_told_and_what_came_is_kept(software, monkeypatch, caplog):
    monkeypatch.setattr(realsense, "PATIENCE", 0.3)
    monkeypatch.setattr(camera, "SILENCES", 2)
    with software.open(count=20) as source:
        frames = LatestFrames(LiveSequence(source).frames())
        seen = [frame for _, frame in frames]
    assert 5 <= len(seen) + frames.dropped <= 20
    assert isinstance(frames.error, CameraError) and "still plugged in" in str(frames.error)
    assert f"{len(seen)} frames are kept" in caplog.text


def test_no_camera(software):
    with pytest.raises(CameraError, match="realsense: expected a camera with serial number 123"):
        open_camera("realsense:123")


def test_without_its_library(monkeypatch):
    for name in ("pyrealsense2", "depthai"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"realsense: needs pyrealsense2 .*gradslam_ng\[realsense\]"):
        open_camera("realsense:")
    with pytest.raises(ImportError, match=r"oak: needs depthai .*gradslam_ng\[oak\]"):
        open_camera("oak:")


def test_what_is_no_camera():
    with pytest.raises(ValueError, match=r"expected realsense: or oak:.*got 'kinect:'"):
        open_camera("kinect:")


def test_small_images_are_kept_for_looking_back(software, monkeypatch):
    """However long it runs, their number is bounded, and the one asked for is near in time."""
    from gradslam_ng.cameras import live_sequence

    monkeypatch.setattr(live_sequence, "MOST_IMAGES", 8)

    class Source(camera.LiveCamera):
        name, kind, K, size, depth_scale, number = "fake", "fake", torch.eye(3), (60, 80), 1000.0, 0

        def grab(self) -> camera.Shot:
            self.number += 1
            color = np.full((60, 80, 3), self.number, np.uint8)
            return camera.Shot(self.number / 30, color, np.ones((60, 80), np.uint16))

        def close(self) -> None: ...

    live = LiveSequence(Source())
    assert live.image(0.0) is None
    for _ in islice(live.frames(), 100):
        assert len(live.images) <= 8
    assert len(live) == 100
    image = live.image(50 / 30)
    assert image.shape == (60, 80, 3) and abs(int(image.mean()) - 50) <= 16
