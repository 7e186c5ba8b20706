"""The newest frame: latency stays below two frames, what is dropped is counted, the last one is never lost."""

from __future__ import annotations

import queue
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from gradslam_ng.cameras import LatestFrames, at_own_pace, latest
from gradslam_ng.slam import PointFusion


class Source:
    """A camera in the hands of the test: gives a number when told to, and then waits."""

    def __init__(self) -> None:
        self.numbers: queue.Queue[int | None] = queue.Queue()
        self.frames = LatestFrames(self._give())

    def _give(self):
        while (number := self.numbers.get()) is not None:
            yield number, number

    def push(self, *numbers: int | None) -> None:
        """Until the other thread waits for more."""
        for number in numbers:
            self.numbers.put(number)
        deadline = time.monotonic() + 5
        while self.numbers.qsize() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)


def test_a_newer_frame_replaces_the_one_that_waits():
    """While a frame is worked on others come; the newest is next, and the last of all is not lost."""
    source = Source()
    iterator = iter(source.frames)
    source.numbers.put(0)
    assert next(iterator)[0] == 0
    source.push(1, 2, 3, 4)
    assert next(iterator)[0] == 4 and source.frames.dropped == 3
    source.push(5)
    assert next(iterator)[0] == 5 and source.frames.dropped == 3
    source.push(6, 7, None)
    assert next(iterator)[0] == 7 and next(iterator, None) is None and source.frames.dropped == 4


def test_latency_is_below_that_of_two_frames(monkeypatch):
    """A frame that comes just after work has begun waits for one frame's work, and is done after its own."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(latest, "time", clock)
    source = Source()
    iterator = iter(source.frames)
    source.numbers.put(0)
    next(iterator)
    clock.now = 0.001
    source.push(1)  # while frame 0 is worked on for 100 ms
    clock.now = 0.1
    next(iterator)
    clock.now = 0.2
    source.push(None)
    assert next(iterator, None) is None
    assert source.frames.latency() == {"median": 199.0, "max": 199.0}


def test_a_source_that_fails_keeps_what_came(caplog):
    def failing():
        yield 0, 0
        time.sleep(0.02)
        raise OSError("unplugged")

    frames = LatestFrames(failing())
    assert [number for number, _ in frames] == [0]
    assert str(frames.error) == "unplugged" and "unplugged; 1 frames are kept" in caplog.text


def test_a_source_that_fails_at_once():
    def failing():
        raise OSError("unplugged")
        yield

    with pytest.raises(OSError, match="unplugged"):
        next(iter(LatestFrames(failing())))


def test_its_thread_ends_with_it():
    before = threading.active_count()
    source = Source()
    iterator = iter(source.frames)
    source.numbers.put(0)
    next(iterator)
    source.numbers.put(1)  # it ends when the next frame comes
    iterator.close()
    assert threading.active_count() == before


def test_a_recording_at_its_own_pace(room, monkeypatch):
    """Eight frames at 20 a second come when they are due, 50 ms apart."""
    clock = SimpleNamespace(now=5.0, monotonic=lambda: clock.now)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(latest, "time", clock)
    sequence = room.InMemory(room.view(room.walk(8)))
    sequence.timestamps = torch.arange(8, dtype=torch.float64) / 20
    times = []
    for index, _ in at_own_pace(sequence):
        times.append(clock.now)
        clock.now += 0.12 if index == 2 else 0.01  # at one of them whoever takes them is late
    assert times == pytest.approx([5.0, 5.05, 5.1, 5.22, 5.23, 5.25, 5.3, 5.35])


def test_a_run_of_frames_as_they_come(room):
    """What is not dropped is tracked, at the times of the recording."""
    sequence = room.InMemory(room.view(room.walk(6)))
    sequence.timestamps = torch.arange(6, dtype=torch.float64) / 2
    frames = LatestFrames(at_own_pace(sequence))
    result = PointFusion().run(sequence, frames=frames)
    assert len(result.tracked) + frames.dropped == 6 and bool(result.tracked.all())
    assert set(result.trajectory.timestamps.tolist()) <= set(sequence.timestamps.tolist())
