"""A frame that takes ten times its usual time: the run goes on, and says so."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gradslam_ng.datasets import FrameError
from gradslam_ng.slam import PointFusion, slow_frames
from gradslam_ng.slam.stream import Stream


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(slow_frames, "time", clock)
    return clock


def test_a_slow_frame_is_told_and_the_run_goes_on(room, clock, monkeypatch, caplog):
    process = Stream.process

    def slowly(self, index, frame):
        process(self, index, frame)
        clock.now += 12.0 if index == 6 else 0.05

    monkeypatch.setattr(Stream, "process", slowly)
    result = PointFusion().run(room.InMemory(room.view(room.walk(8), (30, 40))))
    assert len(result.tracked) == 8 and bool(result.tracked.all()) and not result.interrupted
    told = [record.getMessage() for record in caplog.records if "usual" in record.getMessage()]
    assert told == ["frame 6 took 12.0 s where 0.05 s are usual; the run goes on"]


def test_frames_that_cannot_be_read_take_no_time_and_do_not_count(room, clock, monkeypatch, caplog):
    frames, process = room.InMemory(room.view(room.walk(9), (30, 40))), Stream.process
    come = [(i, frames[i] if i in (0, 7, 8) else FrameError(i, path="", reason="damaged")) for i in range(9)]

    def slowly(self, index, frame):
        process(self, index, frame)
        clock.now += 0.0 if isinstance(frame, FrameError) else 1.5

    monkeypatch.setattr(Stream, "process", slowly)
    assert len(PointFusion().run(frames, compile=False, frames=come).skipped) == 6
    assert not any("usual" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("usual, slow", [(0.05, 0.9), (2.0, 19.0)])
def test_what_is_slow_but_not_far_from_usual_is_not_told(clock, caplog, usual, slow):
    frames = slow_frames.SlowFrames()
    for index in range(10):
        with frames.watch(index):
            clock.now += slow if index == 8 else usual
    assert not caplog.records


def test_the_first_frames_tell_what_is_usual(clock, caplog):
    """None of them is told, whatever they take."""
    frames = slow_frames.SlowFrames()
    for index, seconds in enumerate((60.0, 0.1, 0.1, 0.1, 0.1, 0.1, 1.2)):
        with frames.watch(index):
            clock.now += seconds
    assert [record.getMessage() for record in caplog.records] == [
        "frame 6 took 1.2 s where 0.10 s are usual; the run goes on"
    ]
