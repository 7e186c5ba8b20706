"""Frames of a video file by number, decoded in order by OpenCV."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

AHEAD = 120  # frames that are decoded on the way rather than sought: the next key frame is seldom nearer
KEPT = 16  # frames, for threads that ask a little out of order


class VideoFrames:
    """The frames of a video; may be used by several threads, copied, and pickled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._video: Any = None
        self._process, self._next = -1, 0
        self._kept: dict[int, np.ndarray] = {}

    def read(self, index: int) -> np.ndarray:
        """Frame (H, W, 3) uint8, red, green, blue; ValueError where there is none."""
        with self._lock:
            if index not in self._kept:
                self._advance(index)
            return self._kept[index]

    def _advance(self, index: int) -> None:
        import cv2

        if self._process != os.getpid():
            self._video = cv2.VideoCapture(str(self.path))
            self._video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
            self._process, self._next = os.getpid(), 0
            self._kept.clear()
        if not self._next <= index < self._next + AHEAD:
            self._video.set(cv2.CAP_PROP_POS_FRAMES, index)
            self._next = index
        while self._next <= index:
            done, pixels = self._video.read()
            if not done:
                raise ValueError(f"{self.path.name}: frame {self._next} cannot be decoded")
            self._kept[self._next] = np.ascontiguousarray(pixels[..., ::-1])
            self._next += 1
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]

    def __reduce__(self) -> tuple:
        return VideoFrames, (self.path,)
