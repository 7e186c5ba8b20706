"""Sequences of image files: one color and one depth file for each frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gradslam_ng.datasets.images import check_depth_pixels, image_kind, load_color, load_depth
from gradslam_ng.datasets.recorded import ImageKind, RawImages, RecordedSequence

LOOKED_AT = 5  # frames whose headers tell the size of all


class ImageFiles(RecordedSequence):
    """A recording of image files, one of color and one of depth for each frame, whatever the camera of each.

    Args:
        color, depth: the files of each frame.
        **about: as for RecordedSequence.
    """

    warning_level = 4

    def __init__(self, *, color: Sequence[Path], depth: Sequence[Path], **about) -> None:
        self.color, self.depth = list(color), list(depth)
        super().__init__(**about)

    def decode_color(self, index: int) -> np.ndarray:
        return load_color(self.color[index])

    def decode_depth(self, index: int) -> np.ndarray:
        return load_depth(self.depth[index])

    def image_path(self, index: int, kind: str) -> Path:
        return (self.color if kind == "color" else self.depth)[index]

    def image_files(self) -> dict[str, list[Path]]:
        return {"color": self.color, "depth": self.depth}


class FileSequence(ImageFiles):
    """A sequence of image files; its loader finds the files, the camera and the ground truth.

    A file that is named but missing, or broken, does not stop the sequence: reading that frame raises FrameError.

    Args:
        color, depth: the files of each frame.
        **about: as for ImageFiles.

    Raises:
        FileNotFoundError: no frame has both its files.
        ValueError: the first readable frame has depth of 8 bit or several channels, or color and depth differ in size
            though there is but one camera; see also RecordedSequence.
    """

    warning_level = 5

    def __init__(self, **about) -> None:
        self.same_size = about["camera"].color is None  # color and depth are registered pixel to pixel
        super().__init__(**about)

    def look(self, name: str, count: int) -> RawImages:
        """What most of a few images over the whole sequence are like, by their headers."""
        kinds = self._kinds(name)
        color_size, depth_size = (_most_common(kind[which][0] for kind in kinds) for which in (0, 1))
        return RawImages(color_size, depth_size, kinds[0][1][1])

    def _kinds(self, name: str) -> list[tuple[ImageKind, ImageKind]]:
        """Shape and type of color and depth of a few frames."""
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

    def _misfit(self, index: int, color: ImageKind, depth: ImageKind) -> str:
        """What is wrong with the kinds of a frame's two images; empty where nothing is."""
        (color_shape, color_dtype), (depth_shape, depth_dtype) = color, depth
        try:
            check_depth_pixels(depth_dtype, depth_shape)
        except ValueError as error:
            swapped = len(depth_shape) == 3 and len(color_shape) == 2 and color_dtype.itemsize > 1
            return f"{self.depth[index]}: {error}" + ("; are color and depth swapped?" if swapped else "")
        if self.same_size and color_shape[:2] != depth_shape[:2]:
            sizes = f"color is {_size(color_shape)}, depth is {_size(depth_shape)}"
            expected = "expected one size, registered pixel to pixel, or a file of both cameras"
            return f"{self.color[index]}: {sizes}; {expected}"
        return ""


def _most_common(shapes: Iterable[tuple[int, ...]]) -> tuple[int, int]:
    """The height and width that most images have."""
    height, width = Counter(shape[:2] for shape in shapes).most_common(1)[0][0]
    return height, width


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
