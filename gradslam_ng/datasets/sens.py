"""`.sens` files: one scene of ScanNet (Dai et al. 2017) or BundleFusion (Dai et al. 2017), as their tools write it.

Little endian, version 4: the name of the sensor; K and a pose of color, then of depth, 4x4 floats each; how images are
packed; their sizes; the depth scale; then the frames, each a pose, two times in microseconds, and the packed images.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.camera import Camera, with_color
from gradslam_ng.datasets.camera_files import with_given
from gradslam_ng.datasets.findings import Finding, unfinished
from gradslam_ng.datasets.images import decode_color
from gradslam_ng.datasets.intrinsics import Intrinsics, parse_intrinsics
from gradslam_ng.datasets.mapped_file import MappedFile
from gradslam_ng.datasets.recorded import FRAME_RATE, RecordedSequence
from gradslam_ng.datasets.sequence import STRUCTURED_LIGHT_RANGE
from gradslam_ng.datasets.text import per_frame_truth, pose, unknown_pose
from gradslam_ng.geometry.camera import scale_intrinsics
from gradslam_ng.io.text import BadLine

VERSION = 4
COLOR_RAW, COLOR_KINDS = 0, (0, 1, 2)  # raw, PNG, JPEG
DEPTH_RAW, DEPTH_ZLIB = 0, 1
FRAME = struct.Struct("<16f4Q")  # pose, times of color and depth, and sizes of their packed images
LONGEST_NAME = 10_000  # bytes
LARGEST = 20_000  # pixels of a side
USUAL_STEP = (1e-3, 2.0)  # seconds between frames; other times are in no known unit


@dataclass(frozen=True)
class Header:
    """What stands in front of the frames."""

    sensor: str
    matrices: tuple[Tensor, ...]  # K and pose of color, then of depth, (4, 4) float64
    color_kind: int
    depth_kind: int
    color_size: tuple[int, int]  # height and width
    depth_size: tuple[int, int]
    depth_scale: float
    frames: int
    end: int  # where the first frame begins


class Sens(RecordedSequence):
    """A `.sens` file of ScanNet or BundleFusion, whose images are read where they lie.

    Color is looked up at the pixels of depth, in its own camera. Poses that are not known, as those of frames that were
    lost, are NaN.

    Args:
        path: of the file.
        intrinsics: of depth; overrides the file's.
        depth_scale: units in a meter; overrides the file's.

    Raises:
        ValueError: not such a file, or images packed in another way.
    """

    layout = "sens"
    expected_files = "NAME.sens of ScanNet or BundleFusion"
    max_depth = STRUCTURED_LIGHT_RANGE

    def __init__(
        self, path: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        path = Path(path)
        self.file = MappedFile(path)
        self.header = read_header(self.file.bytes, str(path))
        poses, times, self.places = _frames(self.file.bytes, self.header)
        if not poses:
            raise ValueError(f"{path}: expected a .sens file, got one without a whole frame")
        timestamps, note = _timestamps(times)
        camera, findings = _camera(self.header)
        super().__init__(
            name=path.stem,
            layout=self.layout,
            camera=with_given(camera, intrinsics),
            depth_scale=depth_scale,
            default_scale=self.header.depth_scale,
            default_source="the file's",
            timestamps=timestamps,
            notes=[f"sensor: {self.header.sensor}", note],
            findings=[*findings, *unfinished(path.name, self.header.frames, len(self.places))],
            **per_frame_truth(poses, timestamps),
        )

    @staticmethod
    def recognizes(path: Path) -> bool:
        return path.suffix.lower() == ".sens" and path.is_file()

    def decode_color(self, index: int) -> np.ndarray:
        start, color, _ = self.places[index]
        data = self.file.bytes[start : start + color]
        if self.header.color_kind != COLOR_RAW:
            return decode_color(bytes(data))
        return _pixels(data, np.dtype("u1"), (*self.header.color_size, 3))

    def decode_depth(self, index: int) -> np.ndarray:
        start, color, depth = self.places[index]
        data: bytes | memoryview = self.file.bytes[start + color : start + color + depth]
        if self.header.depth_kind == DEPTH_ZLIB:
            data = inflate(data, 2 * self.header.depth_size[0] * self.header.depth_size[1])
        return _pixels(data, np.dtype("<u2"), self.header.depth_size)


def read_header(content: memoryview, where: str) -> Header:
    """What stands in front of the frames.

    Raises:
        ValueError: another version, cut off, or images packed in another way; begins with `where`.
    """
    try:
        version, length = struct.unpack_from("<IQ", content)
        if version != VERSION or length > LONGEST_NAME:
            raise ValueError(f"{where}: expected a .sens file of version {VERSION}, got version {version}")
        at = 12 + length
        numbers = torch.tensor(struct.unpack_from("<64f", content, at), dtype=torch.float64).reshape(4, 4, 4)
        color_kind, depth_kind, cw, ch, dw, dh, scale, frames = struct.unpack_from("<2i4IfQ", content, at + 256)
    except struct.error as error:
        raise ValueError(f"{where}: expected a .sens file, got one that ends within its header") from error
    if color_kind not in COLOR_KINDS or depth_kind not in (DEPTH_RAW, DEPTH_ZLIB):
        kinds = f"{color_kind} and {depth_kind}"
        raise ValueError(f"{where}: expected color raw, PNG or JPEG and depth raw or zlib, got kinds {kinds}")
    if not all(0 < side <= LARGEST for side in (cw, ch, dw, dh)) or not 1 <= scale < 1e6:
        raise ValueError(f"{where}: sizes {cw}x{ch} and {dw}x{dh}, depth scale {scale:g}: not a readable header")
    sensor = bytes(content[12:at]).decode(errors="replace")
    end = at + 256 + struct.calcsize("<2i4IfQ")
    return Header(sensor, tuple(numbers), color_kind, depth_kind, (ch, cw), (dh, dw), scale, frames, end)


def _frames(content: memoryview, header: Header) -> tuple[list[Tensor], list[int], list[tuple[int, int, int]]]:
    """Poses (4, 4), times, and where the images of each whole frame begin and how large each is."""
    poses, times, places = [], [], []
    at = header.end
    for _ in range(header.frames):
        if at + FRAME.size > len(content):
            break
        *numbers, _, time, color, depth = FRAME.unpack_from(content, at)
        at += FRAME.size
        if color + depth > len(content) - at:
            break
        poses.append(_pose(numbers))
        times.append(time)
        places.append((at, color, depth))
        at += color + depth
    return poses, times, places


def _pose(numbers: list[float]) -> Tensor:
    try:
        return pose(numbers, "pose")
    except BadLine:
        return unknown_pose()


def _timestamps(times: list[int]) -> tuple[Tensor, str]:
    """Seconds of microseconds, or of frame numbers where the file tells no times, and a note on that."""
    told = torch.tensor(times, dtype=torch.float64) * 1e-6
    steps = told.diff()
    if len(steps) and bool((steps > 0).all()) and USUAL_STEP[0] <= float(steps.median()) <= USUAL_STEP[1]:
        return told, "time stamps: those of the depth images"
    return torch.arange(len(times), dtype=torch.float64) / FRAME_RATE, "time stamps: frame numbers at 30 Hz"


def _camera(header: Header) -> tuple[Camera, list[Finding]]:
    """The camera of depth with that of color beside it, where it is another, and what is odd.

    Some write K of depth twice, where color has another size: color is then taken to see what depth sees.
    """
    K_color, T_color, K_depth, T_depth = header.matrices
    depth = Camera(parse_intrinsics(K_depth[:3, :3], "K of depth"), "the file's", header.depth_size)
    findings = []
    height, width = header.color_size
    color = Camera(K_color[:3, :3], "the file's", header.color_size)
    centered = abs(K_color[0, 2] / width - 0.5) < 0.15 and abs(K_color[1, 2] / height - 0.5) < 0.15
    if not centered or not bool(K_color[0, 0] > 0):
        scale = width / header.depth_size[1], height / header.depth_size[0]
        color = Camera(scale_intrinsics(depth.K, scale), "that of depth", header.color_size)
        text = f"the camera of color is not that of images of {width}x{height}: taken to see what depth sees"
        findings.append(Finding("warning", "camera.color", text))
    is_known = all(bool(T.isfinite().all()) and bool(T[:3, :3].det() > 0.9) for T in (T_color, T_depth))
    T = torch.linalg.inv(T_color) @ T_depth if is_known else torch.eye(4, dtype=torch.float64)
    is_same = header.color_size == header.depth_size and torch.allclose(color.K, depth.K, atol=1e-3)
    if is_same and torch.allclose(T, torch.eye(4, dtype=T.dtype), atol=1e-6):
        return depth, findings
    return with_color(depth, color, T), findings


def _pixels(data: bytes | memoryview, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    pixels = np.frombuffer(data, kind) if len(data) % kind.itemsize == 0 else np.zeros(0, kind)
    if pixels.size != int(np.prod(shape)):
        raise ValueError(f"expected {int(np.prod(shape))} numbers of {kind}, got {len(data)} bytes")
    return pixels.reshape(shape)


def inflate(data: bytes | memoryview, size: int) -> bytes:
    """What zlib packed, `size` bytes and no more; ValueError where it is broken."""
    try:
        return zlib.decompressobj().decompress(data, size)
    except zlib.error as error:
        raise ValueError(f"not readable depth: {error}") from error
