"""`.r3d` files of Record3D: color, depth and poses of a phone with a depth sensor, in one zip file."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.axes import flip_camera_axes
from gradslam_ng.datasets.camera import Camera
from gradslam_ng.datasets.camera_files import with_given
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.images import decode_color
from gradslam_ng.datasets.intrinsics import Intrinsics, parse_intrinsics
from gradslam_ng.datasets.recorded import RecordedSequence
from gradslam_ng.datasets.text import per_frame_truth, unknown_pose
from gradslam_ng.datasets.transforms import varied_focal
from gradslam_ng.datasets.zip_file import ZipEntries
from gradslam_ng.geometry import se3

METADATA = "metadata"
DEPTH = re.compile(r"rgbd/(\d+)\.depth$")
# Bytes of a packed depth image, of which the largest, 640x480 floats, take less: LZFSE tells no size in advance, and
# may unpack to 1,700 times as many.
LARGEST_PACKED = 1_500_000
FORM = 'JSON with "w", "h", "K" and "poses"'


class Record3D(RecordedSequence):
    """An `.r3d` file: `rgbd/N.jpg`, `rgbd/N.depth` (floats, LZFSE) and `metadata`; depth is smaller than color.

    Poses are brought from ARKit's axes of cameras to ours; the world has y up. Depth of the least confidence is left
    out. Where each frame has a camera of its own, that of their medians is taken.

    Args:
        path: of the file.
        intrinsics: overrides the camera of color.

    Raises:
        ImportError: `pyliblzfse` is not installed; says how to.
        ValueError: the file is not as described.
    """

    layout = "record3d"
    expected_files = "NAME.r3d of Record3D"

    def __init__(self, path: str | os.PathLike, *, intrinsics: Intrinsics | None = None) -> None:
        path = Path(path)
        if importlib.util.find_spec("liblzfse") is None:
            raise ImportError("pyliblzfse is needed to read Record3D's .r3d files: pip install gradslam_ng[record3d]")
        self.entries = ZipEntries(path)
        self.about = _metadata(self.entries)
        found = [int(match[1]) for name in self.entries.sizes if (match := DEPTH.match(name))]
        self.numbers = sorted(found)
        if not self.numbers:
            raise ValueError(f"{path}: expected rgbd/0.depth and more in it, got none")
        camera, findings = _camera(self.about, path)
        timestamps, note = _timestamps(self.about, self.numbers)
        poses = [_pose(self.about, number) for number in self.numbers]
        super().__init__(
            name=path.stem,
            layout=self.layout,
            camera=with_given(camera, intrinsics),
            timestamps=timestamps,
            notes=[note],
            findings=findings,
            **per_frame_truth([flip_camera_axes(T) for T in poses], timestamps),
        )

    @staticmethod
    def recognizes(path: Path) -> bool:
        return path.suffix.lower() == ".r3d" and path.is_file()

    def decode_color(self, index: int) -> np.ndarray:
        return decode_color(self.entries.read(f"rgbd/{self.numbers[index]}.jpg"))

    def decode_depth(self, index: int) -> np.ndarray:
        number = self.numbers[index]
        depth = np.frombuffer(self._unpack(f"rgbd/{number}.depth", 4), np.float32)
        shape = self._shape(len(depth))
        name = f"rgbd/{number}.conf"
        if name not in self.entries.sizes:
            return depth.reshape(shape)
        level = np.frombuffer(self._unpack(name, 1), np.uint8)
        return np.where(level > 0, depth, 0).reshape(shape) if len(level) == len(depth) else depth.reshape(shape)

    def _unpack(self, name: str, size: int) -> bytes:
        """An entry without its packing, whole numbers of so many bytes."""
        import liblzfse

        data = self.entries.read(name)
        if len(data) > LARGEST_PACKED:
            raise ValueError(f"{name}: {len(data)} bytes, expected at most {LARGEST_PACKED}")
        try:
            unpacked = liblzfse.decompress(data)
        except Exception as error:  # its own errors, which derive from no class in particular
            raise ValueError(f"{name}: not readable: {error}") from error
        if not unpacked or len(unpacked) % size:
            raise ValueError(f"{name}: expected numbers of {size} bytes, got {len(unpacked)} bytes")
        return unpacked

    def _shape(self, count: int) -> tuple[int, int]:
        """Height and width of a depth image of so many pixels: as told, else of the shape of color."""
        height, width = (int(self.about.get(name) or 0) for name in ("dh", "dw"))
        if height * width != count:
            height = max(1, round(math.sqrt(count * self.about["h"] / self.about["w"])))
            width = count // height
        if height * width != count:
            raise ValueError(f"depth: expected {self.about.get('dw')}x{self.about.get('dh')} pixels, got {count}")
        return height, width


def _metadata(entries: ZipEntries) -> dict[str, Any]:
    try:
        about = json.loads(entries.read(METADATA))
        if float(about["w"]) <= 0 or float(about["h"]) <= 0 or len(about["K"]) != 9:
            raise ValueError("w, h and K")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{entries.path}: expected {METADATA} to be {FORM}: {error}") from error
    return about


def _camera(about: dict[str, Any], path: Path) -> tuple[Camera, list[Finding]]:
    """The camera of color, column by column in the file, or the medians of the frames' own."""
    where = f"{path}: {METADATA}"
    size = int(about["h"]), int(about["w"])
    K = parse_intrinsics(np.asarray(about["K"], dtype=np.float64).reshape(3, 3).T, where)
    findings: list[Finding] = []
    try:
        own = torch.tensor(about.get("perFrameIntrinsicCoeffs") or [], dtype=torch.float64)
    except (TypeError, ValueError):
        own = torch.zeros(0, dtype=torch.float64)
    if own.ndim == 2 and own.shape[1] == 4 and bool((own > 0).all()):
        K = parse_intrinsics(own.median(dim=0).values.tolist(), where)
        findings = varied_focal(own[:, 0])
    return Camera(K, METADATA, size), findings


def _pose(about: dict[str, Any], number: int) -> Tensor:
    """The pose (4, 4) of a frame, in OpenGL's axes; NaN where there is none."""
    poses = about.get("poses")
    try:
        values = torch.tensor([float(x) for x in poses[number]], dtype=torch.float64)  # type: ignore[index]
    except (IndexError, TypeError, ValueError):
        return unknown_pose()
    if len(values) != 7 or not bool(values.isfinite().all()) or float(values[:4].norm()) < 1e-6:
        return unknown_pose()
    return se3.from_quaternion(values[4:], values[:4] / values[:4].norm())


def _timestamps(about: dict[str, Any], numbers: list[int]) -> tuple[Tensor, str]:
    """Seconds (L,), and a note on where they come from."""
    try:
        times = torch.tensor([float(about["frameTimestamps"][number]) for number in numbers], dtype=torch.float64)
        if bool((times.diff() > 0).all()):
            return times, "time stamps: those of the frames"
    except (KeyError, IndexError, TypeError, ValueError):
        pass
    rate = about.get("fps")
    rate = float(rate) if isinstance(rate, (int, float)) and 0 < rate < 1000 else 60.0
    return torch.tensor(numbers, dtype=torch.float64) / rate, f"time stamps: numbers of frames at {rate:g} Hz"
