"""What a live camera is to this package: registered images, when they were taken, and what the camera is."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gradslam_ng.structures import RGBDFrames

log = logging.getLogger("gradslam_ng")
PATIENCE = 5.0  # seconds without a frame, after which a camera is said to be silent
SILENCES = 24  # of these one after the other, after which it is taken to have stopped


class CameraError(OSError):
    """A camera is not there, or gives no more frames."""


class Shot(NamedTuple):
    """What a camera saw at one moment, color and depth registered to each other."""

    seconds: float  # time stamp
    color: np.ndarray  # (H, W, 3) uint8, red first
    depth: np.ndarray  # (H, W) uint16, units of the camera; 0 is no measurement


class LiveCamera(ABC):
    """An open camera. Close it, or use it in a `with` statement."""

    name: str  # of the device
    kind: str  # of camera, as in "realsense:"
    K: Tensor  # (3, 3), pixels, of registered images without distortion
    size: tuple[int, int]  # image height and width
    depth_scale: float  # units of depth in a meter

    @abstractmethod
    def grab(self) -> Shot:
        """The next images, waited for.

        Raises:
            CameraError: none came within `PATIENCE`, or the camera is gone.
        """

    def wait(self) -> Shot:
        """The next images, waited for also while the camera stalls.

        Raises:
            CameraError: none came within `SILENCES` times `PATIENCE`.
        """
        began, silences = time.monotonic(), 0
        while True:
            try:
                shot = self.grab()
            except CameraError as error:
                silences += 1
                if silences == SILENCES:
                    raise
                if silences == 1:
                    log.warning("%s; it is waited for", error)
                continue
            if silences:
                log.warning("%s: frames come again, after %.0f s", self.name, time.monotonic() - began)
            return shot

    @abstractmethod
    def close(self) -> None:
        """Stop the camera."""

    def frame(self, shot: Shot) -> RGBDFrames:
        """A shot as a frame without leading axes."""
        K, times = self.K.double().numpy(), np.array(shot.seconds)
        return RGBDFrames.from_numpy(shot.color, shot.depth, K, depth_scale=self.depth_scale, timestamps=times)

    def __enter__(self) -> LiveCamera:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
