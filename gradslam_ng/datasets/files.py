"""Sequences of image files: one color and one depth file for each frame, undistorted and registered on loading."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.camera_files import Camera, fit_camera
from gradslam_ng.datasets.findings import Finding, RecordingWarning
from gradslam_ng.datasets.images import check_depth_pixels, image_kind, read_color, read_depth
from gradslam_ng.datasets.registration import Registration
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.geometry.camera import sample
from gradslam_ng.geometry.depth_distortion import undistort_depth
from gradslam_ng.geometry.lens import Lens, undistort_images, undistortion_map

FRAME_RATE = 30.0  # Hz, of the cameras of these data sets, where a recording has no time stamps
LOOKED_AT = 5  # frames whose headers tell the size of all
Kind = tuple[tuple[int, ...], np.dtype]  # shape and type of an image


class FileSequence(RGBDSequence):
    """A sequence of image files; its loader finds the files, the camera and the ground truth.

    A file that is named but missing, or broken, does not stop the sequence: reading that frame raises FrameError. What
    is questionable is in `findings`, and warned of (`RecordingWarning`).

    Args:
        color, depth: the files of each frame.
        camera: of the images as taken; is scaled to their size, and its distortion undone on loading. With a color
            camera of its own, color is registered to depth.
        depth_scale: units of the depth files in a meter, as the user gives it; default: the camera file's.
        default_scale: where neither tells it; files of floats are then in meters.
        no_depth: the value, besides 0, that marks a pixel without depth.
        **about: as for RGBDSequence, without `K` and `size`.

    Raises:
        FileNotFoundError: no frame has both its files.
        ValueError: the first readable frame has depth of 8 bit or several channels, or color and depth differ in size;
            the camera is not that of these images; a depth scale below 1.
    """

    is_recorded = True
    same_size = True  # color and depth are registered pixel to pixel

    def __init__(
        self,
        *,
        color: Sequence[Path],
        depth: Sequence[Path],
        camera: Camera,
        depth_scale: float | None = None,
        default_scale: float = 1000.0,
        no_depth: int = 0,
        findings: Sequence[Finding] = (),
        notes: Sequence[str] = (),
        **about,
    ) -> None:
        self.color, self.depth, self.no_depth = list(color), list(depth), no_depth
        self.same_size = self.same_size and camera.color is None
        kinds = self._look(about["name"])
        size = _most_common(depth_kind for _, depth_kind in kinds)
        camera = fit_camera(camera, size)
        told = camera.depth_scale if depth_scale is None else depth_scale
        scale = check_scale(default_scale if told is None else told)
        # files of floats are in meters unless a scale is told
        self.integer_scale, self.float_scale = scale, 1.0 if told is None else scale
        origin = "as given" if depth_scale is not None else "the default" if told is None else camera.scale_source
        floats = ", meters where files hold floats" if told is None else ""
        super().__init__(
            K=camera.K,
            size=size,
            depth_scale=self.float_scale if kinds[0][1][1].kind == "f" else scale,
            notes=[camera.note, *notes, f"depth unit: 1/{scale:g} m ({origin}){floats}"],
            findings=[*camera.findings, *findings],
            **about,
        )
        lens = None if camera.distortion is None else Lens(camera.distortion, camera.lens_model)
        self.seen_at = None if lens is None else undistortion_map(self.K, lens, size)  # (H, W, 2)
        self.camera = camera
        self.registration: Registration | None = None
        if camera.color is not None:
            color_size = _most_common(color_kind for color_kind, _ in kinds)
            self.registration = Registration(camera, size=size, color_size=color_size)
        for finding in self.findings:
            if finding.is_serious:
                warnings.warn(f"{self.name}: {finding.message}", RecordingWarning, stacklevel=3)

    def _look(self, name: str) -> list[tuple[Kind, Kind]]:
        """Shape and type of color and depth of a few frames over the whole sequence, from their headers."""
        found, misfits, broken = [], [], ""
        count = len(self.color)
        spread = np.linspace(0, count - 1, LOOKED_AT).round().astype(int).tolist() if count else []
        for index in dict.fromkeys([*spread, *range(count)]):  # those spread first
            if not (self.color[index].is_file() and self.depth[index].is_file()):
                continue
            try:
                kinds = image_kind(self.color[index]), image_kind(self.depth[index])
            except ValueError as error:
                broken = broken or f"; {error}"
                continue
            misfit = self._misfit(index, *kinds)
            if misfit:
                misfits.append(misfit)
            else:
                found.append(kinds)
            if len(found) + len(misfits) == LOOKED_AT:
                break
        if misfits and not found:
            raise ValueError(misfits[0])
        if not found:
            absent = next(
                (path for pair in zip(self.color, self.depth, strict=True) for path in pair if not path.is_file()), None
            )
            missing = "" if absent is None else f"; no such file: {absent}"
            raise FileNotFoundError(f"{name}: none of its {count} frames can be read{missing}{broken}")
        return found

    def _misfit(self, index: int, color: Kind, depth: Kind) -> str:
        """What is wrong with the kinds of a frame's two images; empty where nothing is."""
        (color_shape, color_dtype), (depth_shape, depth_dtype) = color, depth
        try:
            check_depth_pixels(depth_dtype, depth_shape)
        except ValueError as error:
            swapped = len(depth_shape) == 3 and len(color_shape) == 2 and color_dtype.itemsize > 1
            return f"{self.depth[index]}: {error}" + ("; are color and depth swapped?" if swapped else "")
        if self.same_size and color_shape[:2] != depth_shape[:2]:
            sizes = f"color is {_size(color_shape)}, depth is {_size(depth_shape)}"
            return f"{self.color[index]}: {sizes}; expected one size, registered pixel to pixel"
        return ""

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        return self.register_images(index, *self._read_raw(index))

    def _read_raw(self, index: int) -> tuple[Tensor, Tensor]:
        """The two images as taken, but for what is known to be wrong with depth."""
        color = self._read_file(index, self.color[index], read_color)
        scales = self.integer_scale, self.no_depth, self.float_scale
        depth = self._read_file(index, self.depth[index], read_depth, *scales)
        if self.camera.depth_distortion is not None and depth.shape[:2] == self.size:
            depth = undistort_depth(depth, self.K, torch.tensor(self.camera.depth_distortion, device="cpu"))
        return color, depth

    def read_apart(self, index: int) -> tuple[Tensor, Tensor]:
        """Color (H', W', 3) and depth (H, W, 1), meters, of a frame, each as its own pinhole camera sees it."""
        color, depth = self._read_raw(index)
        if self.registration is None:
            return self.register_images(index, color, depth)
        self._check_sizes(index, color, depth)
        if self.seen_at is not None:
            depth = sample(depth, self.seen_at, mode="nearest")
        return self.registration.undistort_color(color), depth

    def register_images(self, index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """The two images as taken, brought to one pinhole camera `self.K` of size `self.size`."""
        self._check_sizes(index, color, depth)
        if self.registration is not None:
            return self.registration(color, depth)
        if self.seen_at is None:
            return color, depth
        return undistort_images(color, depth, self.seen_at)

    def _check_sizes(self, index: int, color: Tensor, depth: Tensor) -> None:
        color_size = self.size if self.registration is None else self.registration.color_size
        self.check_size(index, self.color[index], color, color_size)
        self.check_size(index, self.depth[index], depth, self.size)

    def check_size(self, index: int, path: Path, image: Tensor, size: tuple[int, int]) -> None:
        if image.shape[:2] != size:
            raise FrameError(
                index, path=path, reason=f"is {_size(image.shape)}; expected {_size(size)} as in other frames"
            )

    @staticmethod
    def _read_file(index: int, path: Path, reader, *args) -> Tensor:
        try:
            return reader(path, *args)
        except FileNotFoundError:
            raise FrameError(index, path=path, reason="no such file") from None
        except (ValueError, OSError) as error:
            raise FrameError(index, path=path, reason=str(error)) from error


def _most_common(kinds: Iterable[Kind]) -> tuple[int, int]:
    """The height and width that most images have."""
    height, width = Counter(shape[:2] for shape, _ in kinds).most_common(1)[0][0]
    return height, width


def check_scale(value: float) -> float:
    """Units in a meter as a number; ValueError where it is none, or below 1."""
    try:
        if isinstance(value, bool):
            raise TypeError
        scale = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"depth_scale: expected a number of units in a meter, got {value!r}") from None
    if not 1 <= scale < float("inf"):
        swapped = f"; for units of {scale:g} m give {1 / scale:g}" if 0 < scale < 1 else ""
        raise ValueError(f"depth_scale: expected a positive number of units in a meter, got {scale:g}{swapped}")
    return scale


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
