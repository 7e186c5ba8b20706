"""Prefetching: frames are read in threads, ahead of the one in work."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.structures import RGBDFrames

IndexedFrame = tuple[int, RGBDFrames | FrameError]  # the number of a frame, and it, or why it cannot be read


def prefetch(sequence: RGBDSequence, workers: int = 2, lookahead: int = 4) -> Iterator[IndexedFrame]:
    """Every frame's index and the frame, in order, or the FrameError of one that cannot be read.

    Up to `lookahead` frames are read in `workers` threads while the caller works. The threads end with the iterator,
    also when it is closed or dropped early; any other error than FrameError is raised where its frame would have come.
    """
    if workers < 1 or lookahead < 1:
        raise ValueError(
            f"prefetch: expected at least 1 worker and 1 frame of lookahead, got {workers} and {lookahead}"
        )

    def read(index: int) -> RGBDFrames | FrameError:
        try:
            return sequence[index]
        except FrameError as error:
            return error

    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    pending: deque = deque()
    try:
        for index in range(len(sequence)):
            pending.append((index, pool.submit(read, index)))
            if len(pending) > lookahead:
                first, frame = pending.popleft()
                yield first, frame.result()
        while pending:
            first, frame = pending.popleft()
            yield first, frame.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
