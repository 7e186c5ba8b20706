from __future__ import annotations

import threading

import pytest
import torch

from gradslam_ng.datasets import TUM, FrameError, prefetch


def reading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_gives_every_frame_in_order_and_the_errors(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    (folder / "depth" / "3.png").unlink()
    sequence = TUM(folder)
    found = list(prefetch(sequence, workers=3, lookahead=2))
    assert [index for index, _ in found] == list(range(8))
    assert isinstance(found[3][1], FrameError) and found[3][1].index == 3
    assert all(torch.equal(found[i][1].depth, sequence[i].depth) for i in (0, 4, 7))
    assert not reading()


def test_leaves_no_threads_when_stopped_early(recordings, tmp_path):
    frames = prefetch(TUM(recordings.tum(tmp_path / "desk")))
    next(frames)
    assert reading()
    frames.close()
    assert not reading()


def test_reads_no_further_than_ahead(recordings, tmp_path):
    sequence = TUM(recordings.tum(tmp_path / "desk"))
    asked, read = [], sequence.read
    sequence.read = lambda index: asked.append(index) or read(index)
    frames = prefetch(sequence, workers=1, lookahead=2)
    next(frames)
    frames.close()
    assert set(asked) <= {0, 1, 2}


def test_other_errors_are_raised(recordings, tmp_path):
    sequence = TUM(recordings.tum(tmp_path / "desk"))
    sequence.read = lambda index: 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(prefetch(sequence))
    assert not reading()


def test_needs_a_worker(recordings, tmp_path):
    with pytest.raises(ValueError, match="at least 1 worker"):
        next(prefetch(TUM(recordings.tum(tmp_path / "desk")), workers=0))
