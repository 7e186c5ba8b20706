"""Frames that take far longer than others: a run goes on, and says so."""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("gradslam_ng")
TIMES = 10  # what is usual, from which a frame is slow, ...
SECONDS = 1.0  # ... and at least so long
REMEMBERED, NEEDED = 30, 5  # frames that tell what is usual, and how many do at least


class SlowFrames:
    """Says which frames took far longer than those before them."""

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=REMEMBERED)

    @contextmanager
    def watch(self, index: int) -> Iterator[None]:
        """Around what is done with the frame of that number."""
        began = time.monotonic()
        yield
        spent = time.monotonic() - began
        usual = statistics.median(self.seconds) if len(self.seconds) >= NEEDED else spent
        if spent > max(SECONDS, TIMES * usual):
            log.warning("frame %d took %.1f s where %.2f s are usual; the run goes on", index, spent, usual)
        self.seconds.append(spent)
