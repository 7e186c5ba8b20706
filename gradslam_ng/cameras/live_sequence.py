"""A live camera as a sequence that grows: how a run that reads it knows its camera, and what it saw."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gradslam_ng.cameras.camera import LiveCamera
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.structures import RGBDFrames

WIDTH = 320  # pixels, of the images that are kept
MOST_IMAGES = 1000  # kept, about 20 MB; of more every second one is let go


class LiveSequence(RGBDSequence):
    """The frames of a camera, which come once, by `frames`; small images of some are kept to look at.

    Args:
        camera: is open.
    """

    def __init__(self, camera: LiveCamera) -> None:
        none = torch.zeros(0, dtype=torch.float64)
        super().__init__(name=camera.name, layout=camera.kind, K=camera.K, size=camera.size, timestamps=none)
        self.camera = camera
        self.count = 0  # frames that came
        self.images: list[tuple[float, bytes]] = []  # time stamp and JPEG
        self.every = 1  # so many frames one is kept

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        raise FrameError(index, path=self.name, reason="a live camera shows a frame once")

    def frames(self) -> Iterator[tuple[int, RGBDFrames]]:
        """Number and frame, as they come, without an end.

        Raises:
            CameraError: none comes any more.
        """
        while True:
            shot = self.camera.wait()
            if self.count % self.every == 0:
                self._keep(shot.seconds, shot.color)
            self.count += 1
            yield self.count - 1, self.camera.frame(shot)

    def image(self, seconds: float) -> np.ndarray | None:
        """The color image (H, W, 3) uint8, small, that was kept and is nearest in time; None before the first."""
        kept = list(self.images)
        if not kept:
            return None
        after = bisect_left(kept, seconds, key=lambda each: each[0])
        _, data = min(kept[max(0, after - 1) : after + 1], key=lambda each: abs(each[0] - seconds))
        return np.asarray(Image.open(BytesIO(data)).convert("RGB"))

    def _keep(self, seconds: float, color: np.ndarray) -> None:
        step = max(1, color.shape[1] // WIDTH)
        data = BytesIO()
        Image.fromarray(np.ascontiguousarray(color[::step, ::step])).save(data, "JPEG", quality=85)
        self.images.append((seconds, data.getvalue()))
        if len(self.images) >= MOST_IMAGES:
            self.images, self.every = self.images[::2], 2 * self.every
