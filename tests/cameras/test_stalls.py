"""A camera that stalls for a minute: it is waited for, and a run goes on; one that is gone ends it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gradslam_ng.cameras import CameraError, LatestFrames, LiveSequence, camera
from gradslam_ng.slam import PointFusion


class Stalling(camera.LiveCamera):
    """Shows a room, and nothing for so many times its patience before the frame of that number; five frames in all."""

    kind = "fake"
    depth_scale = 1000.0

    def __init__(self, room, clock, silences: int, before: int = 3) -> None:
        self.frames = room.view(room.walk(5), (30, 40))
        self.name, self.K, self.size, self.clock = "Fake", self.frames.K[0], (30, 40), clock
        self.number, self.silences, self.before = 0, silences, before

    def grab(self) -> camera.Shot:
        if self.number == len(self.frames.depth):
            raise KeyboardInterrupt
        if self.number == self.before and self.silences:
            self.silences -= 1
            self.clock.now += camera.PATIENCE
            raise CameraError(f"{self.name}: no frame for {camera.PATIENCE:g} s, is it still plugged in?")
        i, self.number = self.number, self.number + 1
        depth = (1000 * self.frames.depth[i, ..., 0]).round().numpy().astype(np.uint16)
        return camera.Shot(self.clock.now + i / 30, (255 * self.frames.color[i]).byte().numpy(), depth)

    def close(self) -> None: ...


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(camera, "time", clock)
    return clock


def all_frames(source):
    """Without dropping any, until Ctrl-C."""
    try:
        yield from source.frames()
    except KeyboardInterrupt:
        return


def test_a_run_goes_on_after_a_minute_of_silence(room, clock, caplog):
    live = LiveSequence(Stalling(room, clock, silences=12))
    result = PointFusion().run(live, frames=all_frames(live))
    assert len(result.tracked) == 5 and bool(result.tracked.all())
    assert float(result.trajectory.timestamps.diff().max()) == pytest.approx(60 + 1 / 30, abs=1e-3)
    told = [record.getMessage() for record in caplog.records if "Fake" in record.getMessage()]
    assert told == [
        "Fake: no frame for 5 s, is it still plugged in?; it is waited for",
        "Fake: frames come again, after 60 s",
    ]


def test_a_camera_that_is_gone_ends_the_run_and_keeps_what_came(room, clock, caplog):
    live = LiveSequence(Stalling(room, clock, silences=1000))
    frames = LatestFrames(live.frames())
    result = PointFusion().run(live, frames=frames)
    assert 1 <= len(result.tracked) <= 3 and isinstance(frames.error, CameraError)
    assert clock.now == 1000 + camera.SILENCES * camera.PATIENCE >= 1000 + 60
    assert "frames are kept" in caplog.text
