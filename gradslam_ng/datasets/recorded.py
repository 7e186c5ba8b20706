"""Recordings of cameras, in files of one image each or in one of many: decoded when asked for, then rectified."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gradslam_ng.datasets.camera import Camera
from gradslam_ng.datasets.depth_scale import DEFAULT, DepthScale
from gradslam_ng.datasets.findings import Finding, RecordingWarning
from gradslam_ng.datasets.images import check_depth_pixels, unit_color
from gradslam_ng.datasets.rectification import Rectification
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence

FRAME_RATE = 30.0  # Hz, of the cameras of these data sets, where a recording has no time stamps
TRIED = 20  # frames of which one must be readable
ImageKind = tuple[tuple[int, ...], np.dtype]  # shape and type of an image


class RawImages(NamedTuple):
    """What the images of a recording are like, as they were taken."""

    color_size: tuple[int, int]  # height and width
    depth_size: tuple[int, int]
    depth_type: np.dtype


class RecordedSequence(RGBDSequence):
    """Frames recorded by a camera; a loader tells where they lie, and provides `decode_color` and `decode_depth`.

    What comes out has one camera, that of depth, without its lens and with what is wrong with depth corrected, see
    `Rectification`. A frame that cannot be decoded raises FrameError. What is questionable is in `findings`, and warned
    of (`RecordingWarning`).

    Args:
        camera: of the color images as taken, to which depth is registered, of whatever size it is; or of depth, with a
            color camera of its own.
        depth_scale: units of depth in a meter, as the user gives it; default: the camera's.
        default_scale: of integers, where neither tells it; floats are then in meters.
        default_source: who tells that.
        no_depth: the integer, besides 0, that marks a pixel without depth.
        is_paired_by_time: color and depth have times of their own, of which the loader has taken the camera's
            `time_offset` off.
        **about: as for RGBDSequence, without `K` and `size`.

    Raises:
        ValueError: none of the first frames can be decoded; depth of 8 bit; a camera that is not that of these images;
            a depth scale below 1.
    """

    is_recorded = True
    warning_level = 3  # of the stack, counted from what warns here: who makes the sequence
    rectification: Rectification

    def __init__(
        self,
        *,
        camera: Camera,
        depth_scale: float | None = None,
        default_scale: float = 1000.0,
        default_source: str = DEFAULT,
        no_depth: int = 0,
        is_paired_by_time: bool = False,
        findings: Sequence[Finding] = (),
        notes: Sequence[str] = (),
        **about,
    ) -> None:
        raw = self.look(about["name"], len(about["timestamps"]))
        self.rectification = Rectification(camera, size=raw.depth_size, color_size=raw.color_size)
        camera = self.rectification.camera
        self.scale = DepthScale.of(
            depth_scale, camera, default=default_scale, default_source=default_source, no_depth=no_depth
        )
        if camera.time_offset and not is_paired_by_time:
            text = f"the time of color, {1e3 * camera.time_offset:+g} ms in {camera.source}, is not taken into account"
            text += ": color and depth of a frame are recorded under one time"
            findings = [*findings, Finding("warning", "time.offset", text)]
        super().__init__(
            K=camera.K,
            size=raw.depth_size,
            depth_scale=self.scale.of_type(raw.depth_type),
            notes=[camera.note, *notes, self.scale.note(raw.depth_type)],
            findings=[*camera.findings, *findings],
            **about,
        )
        for finding in self.findings:
            if finding.is_serious:
                warnings.warn(f"{self.name}: {finding.message}", RecordingWarning, stacklevel=self.warning_level)

    def decode_color(self, index: int) -> np.ndarray:
        """Color (H, W, 3) of the recording's frame, integers, or floats in [0, 1].

        Raises:
            ValueError, OSError: it cannot be read.
        """
        raise NotImplementedError

    def decode_depth(self, index: int) -> np.ndarray:
        """Depth (H, W), integers in units or floats in meters; likewise."""
        raise NotImplementedError

    def look(self, name: str, count: int) -> RawImages:
        """What the images are like, by the first frame that can be decoded, of some over all.

        Raises:
            ValueError: none can be.
        """
        error: Exception = ValueError("it has no frames")
        for index in np.linspace(0, count - 1, min(count, TRIED)).round().astype(int).tolist():
            try:
                color, depth = self.decode_color(index), self.decode_depth(index)
            except (ValueError, OSError) as broken:
                error = broken
                continue
            check_depth_pixels(depth.dtype, depth.shape)
            return RawImages(_size(color), _size(depth), depth.dtype)
        raise ValueError(f"{name}: none of its {count} frames can be read: {error}") from error

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        return self.rectification(*self._read_raw(index))

    def read_apart(self, index: int) -> tuple[Tensor, Tensor]:
        return self.rectification.apart(*self._read_raw(index))

    def image_path(self, index: int, kind: str) -> Path | str:
        """Where the "color" or the "depth" of a frame lies, for messages."""
        return self.name

    def _read_raw(self, index: int) -> tuple[Tensor, Tensor]:
        """Color (H', W', 3) in [0, 1] and depth (H, W, 1), meters, as taken."""
        color = self._decode(index, "color", self.rectification.color_size)
        return color, self._decode(index, "depth", self.rectification.size)

    def _decode(self, index: int, kind: str, size: tuple[int, int]) -> Tensor:
        try:
            is_color = kind == "color"
            image = unit_color(self.decode_color(index)) if is_color else self.scale.meters(self.decode_depth(index))
        except FileNotFoundError:
            raise FrameError(index, path=self.image_path(index, kind), reason="no such file") from None
        except (ValueError, OSError) as error:
            raise FrameError(index, path=self.image_path(index, kind), reason=str(error)) from error
        if _size(image) != size:
            reason = f"{kind} is {image.shape[1]}x{image.shape[0]}; expected {size[1]}x{size[0]} as in other frames"
            raise FrameError(index, path=self.image_path(index, kind), reason=reason)
        return image


def _size(image: np.ndarray | Tensor) -> tuple[int, int]:
    return int(image.shape[0]), int(image.shape[1])
