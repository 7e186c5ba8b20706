"""`.klg` logs of ElasticFusion and Kintinuous (Whelan et al. 2015), as Logger1 and Logger2 write them.

Little endian: the number of frames, then of each its time in microseconds, the sizes of its images, and these: depth in
millimeters, raw or by zlib; color raw, as JPEG, or none. The loggers hand red, green and blue to an encoder that takes
them for blue, green and red, and ElasticFusion turns what it decodes: the JPEG itself has red and blue exchanged.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import torch

from gradslam_ng.datasets.camera import assumed
from gradslam_ng.datasets.camera_files import find_camera
from gradslam_ng.datasets.findings import unfinished
from gradslam_ng.datasets.images import decode_color
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.mapped_file import MappedFile
from gradslam_ng.datasets.recorded import RecordedSequence
from gradslam_ng.datasets.sens import inflate
from gradslam_ng.datasets.sequence import STRUCTURED_LIGHT_RANGE

CAMERA = (528.0, 528.0, 320.0, 240.0), (480, 640)  # what ElasticFusion assumes, and of which images
SIZES = ((480, 640), (240, 320), (120, 160), (720, 1280), (480, 848), (1080, 1920), (360, 640))
FRAME = struct.Struct("<qii")  # time, and sizes of depth and color
JPEG = b"\xff\xd8"


class Klg(RecordedSequence):
    """A `.klg` log, whose images are read where they lie; color is registered to depth, as those loggers record.

    Logs that ElasticFusion needs its `-f` for, as those of png_to_klg, have red and blue exchanged here as there.

    Nothing in the file tells the camera: it is that of a camera file beside it, such as `calibration.txt`, else the one
    that ElasticFusion assumes, with a warning.

    Args:
        path: of the file.
        intrinsics: overrides the camera.
        depth_scale: units in a meter; default 1000.

    Raises:
        ValueError: not such a file, or images of no known size.
    """

    layout = "klg"
    expected_files = "NAME.klg of ElasticFusion [calibration.txt beside it]"
    max_depth = STRUCTURED_LIGHT_RANGE

    def __init__(
        self, path: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        path = Path(path)
        self.file = MappedFile(path)
        told, times, self.places = _frames(self.file.bytes)
        if not self.places:
            raise ValueError(f"{path}: expected a .klg log, got a file without a whole frame")
        self.shape = self._find_shape(str(path))
        camera = find_camera(intrinsics, [path.parent], assumed(*CAMERA, "ElasticFusion", False))
        super().__init__(
            name=path.stem,
            layout=self.layout,
            camera=camera,
            depth_scale=depth_scale,
            timestamps=torch.tensor(times, dtype=torch.float64) * 1e-6,
            findings=unfinished(path.name, told, len(self.places)),
        )

    @staticmethod
    def recognizes(path: Path) -> bool:
        return path.suffix.lower() == ".klg" and path.is_file()

    def decode_color(self, index: int) -> np.ndarray:
        start, depth, color = self.places[index]
        data = bytes(self.file.bytes[start + depth : start + depth + color])
        if data[:2] == JPEG:
            return np.ascontiguousarray(decode_color(data)[..., ::-1])
        if not data:
            return np.zeros((*self.shape, 3), np.uint8)
        if len(data) != 3 * self.shape[0] * self.shape[1]:
            raise ValueError(f"color: expected a JPEG or {self.shape[1]}x{self.shape[0]} pixels, got {len(data)} bytes")
        return np.frombuffer(data, np.uint8).reshape(*self.shape, 3)

    def decode_depth(self, index: int) -> np.ndarray:
        start, depth, _ = self.places[index]
        size = 2 * self.shape[0] * self.shape[1]
        data: bytes | memoryview = self.file.bytes[start : start + depth]
        data = data if len(data) == size else inflate(data, size)
        if len(data) != size:
            raise ValueError(f"depth: expected {self.shape[1]}x{self.shape[0]} pixels, got {len(data)} bytes")
        return np.frombuffer(data, "<u2").reshape(self.shape)

    def _find_shape(self, where: str) -> tuple[int, int]:
        """Height and width of the images: of the first JPEG, else by the number of pixels."""
        largest = max(2 * height * width for height, width in SIZES)
        for start, depth, color in self.places[:20]:
            data = bytes(self.file.bytes[start + depth : start + depth + color])
            try:
                if data[:2] == JPEG:
                    height, width, _ = decode_color(data).shape
                    return height, width
                packed = self.file.bytes[start : start + depth]
                depth = depth if color else len(inflate(packed, largest))
            except ValueError:
                continue
            for size in SIZES:
                if 3 * size[0] * size[1] == color or 2 * size[0] * size[1] == depth:
                    return size
        raise ValueError(f"{where}: expected JPEG, or images of a usual size, in a .klg log")


def _frames(content: memoryview) -> tuple[int, list[int], list[tuple[int, int, int]]]:
    """The number of frames that the log tells, and of each whole one its time, and where its images begin."""
    times, places = [], []
    told = struct.unpack_from("<i", content)[0] if len(content) >= 4 else 0
    at = 4
    while at + FRAME.size <= len(content):
        time, depth, color = FRAME.unpack_from(content, at)
        at += FRAME.size
        if depth <= 0 or color < 0 or depth + color > len(content) - at:
            break
        times.append(time)
        places.append((at, depth, color))
        at += depth + color
    return told, times, places
