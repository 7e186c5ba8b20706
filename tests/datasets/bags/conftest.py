"""Bags written by `rosbags`: real bytes of ROS 1 and ROS 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks.bags import SIZE, BagWriter

FRAMES = 8
START = 1_700_000_000_000_000_000  # nanoseconds
STEP = 33_333_333


def png(pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(".png", pixels)
    assert done
    return data.tobytes()


def jpeg(pixels: np.ndarray) -> bytes:
    """Of color in the order red, green, blue."""
    done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert done
    return data.tobytes()


@pytest.fixture
def bags(tmp_path, recordings) -> SimpleNamespace:
    """Writes a registered recording of eight frames; `fill` writes into an open bag."""

    def fill(bag: BagWriter, color: str = "/camera/color", depth: str = "/camera/aligned_depth_to_color") -> None:
        for i in range(FRAMES):
            time = START + i * STEP
            bag.info(f"{color}/camera_info", time, "optical")
            bag.image(f"{color}/image_raw", recordings.color_image(i), "rgb8", time + 4_000_000, "optical")
            bag.image(f"{depth}/image_raw", recordings.depth_image(i, 1000), "16UC1", time, "optical")

    def write(kind: str, compression: str = "none", filling: Callable[[BagWriter], None] = fill) -> Path:
        path = tmp_path / ("walk.bag" if kind == "ros1" else f"walk_{kind}")
        with BagWriter(path, kind=kind, compression=compression) as bag:
            filling(bag)
        return path

    return SimpleNamespace(write=write, fill=fill, png=png, jpeg=jpeg, start=START, step=STEP, size=SIZE)
