"""Sequences of one file that holds many images: decoded when asked for, and brought to the depth camera's pixels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.camera_files import Camera, find_camera, fit_camera
from gradslam_ng.datasets.files import check_scale
from gradslam_ng.datasets.findings import Finding, RecordingWarning
from gradslam_ng.datasets.images import check_depth_pixels, depth_in_meters, unit_color
from gradslam_ng.datasets.intrinsics import ColorCamera, Intrinsics
from gradslam_ng.datasets.registration import Registration
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.geometry.camera import sample, scale_intrinsics
from gradslam_ng.geometry.lens import Lens, undistortion_map

TRIED = 20  # frames of which one must be readable
SAME_SHAPE = 0.02  # relative difference of the scales of an image that was only resized


class RecordedSequence(RGBDSequence):
    """Frames decoded from a file of many; a loader tells where they lie, and provides `decode_color`, `decode_depth`.

    What comes out has one camera, that of depth without its lens: where color is of a camera of its own it is looked up
    there (`datasets.registration`), where it is larger it is shrunk. A frame that cannot be decoded raises FrameError.

    Args:
        camera: of the color images as taken, to which depth is registered, of whatever size it is; or of depth, with a
            color camera of its own.
        depth_scale: units of integers in a meter, as the user gives it; default: the camera's.
        default_scale: where neither tells it.
        no_depth: the integer, besides 0, that marks a pixel without depth.
        **about: as for RGBDSequence, without `K` and `size`.

    Raises:
        ValueError: none of the first frames can be decoded; depth of 8 bit; a camera that is not that of these images.
    """

    is_recorded = True

    def __init__(
        self,
        *,
        camera: Camera,
        depth_scale: float | None = None,
        default_scale: float = 1000.0,
        no_depth: int = 0,
        findings: Sequence[Finding] = (),
        notes: Sequence[str] = (),
        **about,
    ) -> None:
        color, depth = self._first(about["name"], len(about["timestamps"]))
        check_depth_pixels(depth.dtype, depth.shape)
        self.color_size, size = _size(color), _size(depth)
        taken = fit_camera(camera, size if camera.color is not None else self.color_size)
        camera = taken if camera.color is not None else _resized(taken, self.color_size, size)
        told = camera.depth_scale if depth_scale is None else depth_scale
        self.integer_scale = check_scale(default_scale if told is None else told)
        self.float_scale, self.no_depth = 1.0 if depth_scale is None else self.integer_scale, no_depth
        unit = "meters" if depth.dtype.kind == "f" and depth_scale is None else f"1/{self.integer_scale:g} m"
        super().__init__(
            K=camera.K,
            size=size,
            depth_scale=self.float_scale if depth.dtype.kind == "f" else self.integer_scale,
            notes=[camera.note, *notes, f"depth unit: {unit}"],
            findings=[*camera.findings, *findings],
            **about,
        )
        self.registration: Registration | None = None
        if camera.color is not None:
            self.registration = Registration(camera, size=size, color_size=self.color_size)
        self.lens = None if camera.distortion is None else Lens(camera.distortion, camera.lens_model)
        self.K_taken = taken.K.to(torch.float32)
        self.seen_at: dict[tuple[int, int], Tensor] = {}  # (H, W, 2): where a pinhole's pixels are in images of a size
        for finding in self.findings:
            if finding.is_serious:
                warnings.warn(f"{self.name}: {finding.message}", RecordingWarning, stacklevel=3)

    def decode_color(self, index: int) -> np.ndarray:
        """Color (H, W, 3), integers, of the recording's frame; ValueError or OSError where it cannot be read."""
        raise NotImplementedError

    def decode_depth(self, index: int) -> np.ndarray:
        """Depth (H, W), integers in units or floats in meters; likewise."""
        raise NotImplementedError

    def _first(self, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first frame that can be decoded, of those looked at."""
        error: Exception = ValueError("it has no frames")
        for index in np.linspace(0, count - 1, min(count, TRIED)).round().astype(int).tolist():
            try:
                return self.decode_color(index), self.decode_depth(index)
            except (ValueError, OSError) as broken:
                error = broken
        raise ValueError(f"{name}: none of its {count} frames can be read: {error}") from error

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        try:
            color = unit_color(self.decode_color(index))
            depth = depth_in_meters(self.decode_depth(index), self.integer_scale, self.no_depth, self.float_scale)
        except (ValueError, OSError) as error:
            raise FrameError(index, path=self.name, reason=str(error)) from error
        for what, image, size in (("color", color, self.color_size), ("depth", depth, self.size)):
            if _size(image) != size:
                shape = f"{image.shape[1]}x{image.shape[0]}"
                raise FrameError(index, path=self.name, reason=f"{what} is {shape}, expected {size[1]}x{size[0]}")
        return self._register(color, depth)

    def _register(self, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Color and depth as one pinhole camera `self.K` would see them."""
        if self.registration is not None:
            return self.registration(color, depth)
        color, depth = self._undistorted(color, self.K_taken), self._undistorted(depth, self.K)
        if self.color_size == self.size:
            return color, depth
        small = torch.nn.functional.interpolate(color.movedim(-1, 0)[None], self.size, mode="bilinear", antialias=True)
        return small[0].movedim(0, -1), depth

    def _undistorted(self, image: Tensor, K: Tensor) -> Tensor:
        if self.lens is None:
            return image
        size = _size(image)
        if size not in self.seen_at:
            self.seen_at[size] = undistortion_map(K, self.lens, size)
        return sample(image, self.seen_at[size], mode="nearest" if image.shape[-1] == 1 else "bilinear")


def _size(image: np.ndarray | Tensor) -> tuple[int, int]:
    return int(image.shape[0]), int(image.shape[1])


def _resized(camera: Camera, color_size: tuple[int, int], size: tuple[int, int]) -> Camera:
    """The color camera at the size of depth images registered to it; ValueError where these have another shape."""
    scale = size[1] / color_size[1], size[0] / color_size[0]
    if abs(scale[0] / scale[1] - 1) > SAME_SHAPE:
        sizes = f"color is {color_size[1]}x{color_size[0]}, depth is {size[1]}x{size[0]}"
        raise ValueError(f"camera: {sizes}, of another shape: expected the depth camera too, or registered images")
    return replace(camera, K=scale_intrinsics(camera.K, scale), size=size)


def with_color(depth: Camera, color: Camera, T_color_depth: Tensor) -> Camera:
    """The camera of depth, with that of color beside it; T_color_depth (4, 4), meters."""
    beside = ColorCamera(color.K, T_color_depth, color.size, color.distortion, color.lens_model)
    return replace(depth, color=beside, findings=(*depth.findings, *color.findings))


def with_given(camera: Camera, given: Intrinsics | None) -> Camera:
    """The camera that the user gives, if any, with the color camera that is beside the one of the recording."""
    told = None if given is None else find_camera(given, [])
    if told is None:
        return camera
    return told if told.color is not None or camera.color is None else replace(told, color=camera.color)
