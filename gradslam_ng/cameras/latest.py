"""The newest frame: one that comes while the last is worked on replaces the one that waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from gradslam_ng.datasets.prefetch import IndexedFrame, prefetch
from gradslam_ng.datasets.sequence import RGBDSequence

log = logging.getLogger("gradslam_ng")
CLOSING = 2.0  # seconds that a source has to end in


class LatestFrames:
    """Frames of a source that does not wait, taken in a thread of its own; iterate once.

    At most one frame waits, so what is worked on is never older than the time that one frame takes, and is done within
    two. Where the source fails after its first frame iteration ends as if it were over, and `error` says why.

    Args:
        frames: number and frame, as they come; read in another thread.
    """

    def __init__(self, frames: Iterator[IndexedFrame]) -> None:
        self.frames = frames
        self.dropped = 0  # frames that were replaced before they were worked on
        self.latencies: list[float] = []  # seconds from when a frame came to when the next one was asked for
        self.error: Exception | None = None
        self._changed = threading.Condition()
        self._waiting: tuple[float, IndexedFrame] | None = None
        self._taken = 0
        self._over = False

    def __iter__(self) -> Iterator[IndexedFrame]:
        thread = threading.Thread(target=self._follow, name="camera", daemon=True)
        thread.start()
        try:
            while (found := self._take()) is not None:
                came, frame = found
                yield frame
                self.latencies.append(time.monotonic() - came)
        finally:
            self._over = True
            thread.join(CLOSING)

    def latency(self) -> dict[str, float]:
        """The median and the greatest latency, milliseconds; empty where no frame was worked on."""
        found = sorted(self.latencies)
        return {"median": round(1e3 * found[len(found) // 2], 1), "max": round(1e3 * found[-1], 1)} if found else {}

    def _take(self) -> tuple[float, IndexedFrame] | None:
        """The frame that waits, or the next one; None where there is none any more."""
        with self._changed:
            while self._waiting is None and not self._over:
                self._changed.wait(0.2)  # so that Ctrl-C is noticed
            found, self._waiting = self._waiting, None
            if found is None and self.error is not None:
                if not self._taken:
                    raise self.error
                log.warning("%s; %d frames are kept", self.error, self._taken)
            self._taken += found is not None
        return found

    def _follow(self) -> None:
        try:
            for frame in self.frames:
                if not self._offer(frame):
                    break
        except Exception as error:  # whatever it is, it is the reader's
            self.error = error
        with self._changed:
            self._over = True
            self._changed.notify()

    def _offer(self, frame: IndexedFrame) -> bool:
        """Let a frame wait, in place of the one that does; False where nobody takes any more."""
        with self._changed:
            if not self._over:
                self.dropped += self._waiting is not None
                self._waiting = time.monotonic(), frame
                self._changed.notify()
            return not self._over


def at_own_pace(sequence: RGBDSequence) -> Iterator[IndexedFrame]:
    """The frames of a recording when they would come from its camera, by their time stamps."""
    seconds = (sequence.timestamps - sequence.timestamps[0]).tolist()
    began = None
    for index, frame in prefetch(sequence):
        began = time.monotonic() if began is None else began
        time.sleep(max(0.0, began + seconds[index] - time.monotonic()))
        yield index, frame
