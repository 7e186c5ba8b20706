"""A sequence that lies on disk as one colour and one depth file per frame, and what its loaders share."""

from __future__ import annotations

import math
from collections.abc import Sequence as Paths
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.datasets.images import check_depth_pixels, image_kind, read_color, read_depth
from gradslam_ng.datasets.sequence import FrameError, Sequence
from gradslam_ng.structures import Trajectory

FRAME_RATE = 30.0  # Hz, of the cameras of these data sets, where a recording has no time stamps


class FileSequence(Sequence):
    """A Sequence of image files; its loader finds the files, the camera and the ground truth.

    A file that is named but missing, or broken, does not stop the sequence: reading that frame raises FrameError.

    Args:
        color, depth: the files of each frame.
        depth_scale: units of the depth files in a metre.
        no_depth: the value, besides 0, that marks a pixel without reading.
        **about: as for Sequence, without `size`.

    Raises:
        FileNotFoundError: there is no frame, or none of which both files are there.
        ValueError: depth of 8 bit or several channels, or colour and depth of different size, in the first readable frame.
    """

    same_size = True  # colour and depth are registered pixel to pixel

    def __init__(
        self, *, color: Paths[Path], depth: Paths[Path], depth_scale: float, no_depth: int = 0, **about
    ) -> None:
        self.color, self.depth, self.no_depth = list(color), list(depth), no_depth
        if not self.color:
            raise FileNotFoundError(f"{about['name']}: no frames; the {about['layout']} layout was recognised but is empty")
        super().__init__(size=self._first_size(), depth_scale=depth_scale, **about)

    def _first_size(self) -> tuple[int, int]:
        """Height and width of the depth images, from the header of the first frame that can be read."""
        reason = None
        for color, depth in zip(self.color, self.depth, strict=True):
            if not (color.is_file() and depth.is_file()):
                continue
            try:
                color_shape, _ = image_kind(color)
                depth_shape, depth_dtype = image_kind(depth)
            except ValueError as error:
                reason = reason or f"{depth}: {error}"
                continue
            try:
                check_depth_pixels(depth_dtype, depth_shape)
            except ValueError as error:
                raise ValueError(f"{depth}: {error}") from None
            if self.same_size and color_shape[:2] != depth_shape[:2]:
                raise ValueError(f"{color}: colour {_size(color_shape)} and depth {_size(depth_shape)}: expected one size")
            return depth_shape[0], depth_shape[1]
        raise FileNotFoundError(
            f"no frame can be read: of {len(self.color)} named, the first are {self.color[0]} and {self.depth[0]}"
            + (f" ({reason})" if reason else "")
        )

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        color = self._read_file(index, self.color[index], read_color)
        depth = self._read_file(index, self.depth[index], lambda path: read_depth(path, self.depth_scale, self.no_depth))
        return self.registered(index, color, depth)

    def registered(self, index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """The two images as taken, brought to one pinhole camera `self.K` of size `self.size`."""
        for path, image in ((self.color[index], color), (self.depth[index], depth)):
            if image.shape[:2] != self.size:
                raise FrameError(index, path, f"is {_size(image.shape)}, expected {_size(self.size)} as in the other frames")
        return color, depth

    @staticmethod
    def _read_file(index: int, path: Path, reader) -> Tensor:
        try:
            return reader(path)
        except FileNotFoundError:
            raise FrameError(index, path, "no such file") from None
        except (ValueError, OSError) as error:
            raise FrameError(index, path, str(error)) from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def inside(folder: Path, name: str, where: str) -> Path:
    """The file `name` of a list, which must lie inside the folder; ValueError where it leaves it, by `..`, root or link."""
    root = folder.resolve()
    if not (root / name).resolve().is_relative_to(root):
        raise ValueError(f"{where}: {name!r} leaves the sequence folder {folder}; refused")
    return folder / name


def list_lines(path: Path) -> list[tuple[int, list[str]]]:
    """The words of every line of a list file with its line number; `#` starts a comment."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    words = [(number, line.partition("#")[0].split()) for number, line in enumerate(lines, start=1)]
    return [(number, row) for number, row in words if row]


def number(word: str, where: str) -> float:
    """A finite number, or ValueError that tells where it should stand."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: expected a time stamp, got {word[:100]!r}")
    return value


def read_matrix(path: Path) -> Tensor:
    """A pose file of 4x4 numbers as (4, 4) float64; ValueError names the file. Numbers that are not finite mean a lost pose."""
    words = path.read_text(encoding="utf-8", errors="replace").split()
    return matrix(words, str(path))


def matrix(words: Paths[str], where: str) -> Tensor:
    """A pose of 16 or 12 numbers, row by row, as (4, 4) float64, NaN throughout where a number is not finite."""
    try:
        values = torch.tensor([float(word) for word in words], dtype=torch.float64)
    except ValueError:
        values = torch.zeros(0)
    if len(values) not in (12, 16):
        raise ValueError(f"{where}: expected a pose as 4x4 numbers, got {' '.join(words)[:100]!r}")
    if not bool(values.isfinite().all()):
        return torch.full((4, 4), math.nan, dtype=torch.float64)
    T = torch.eye(4, dtype=torch.float64)
    T[:3] = values[:12].reshape(3, 4)
    return T


def frame_poses(poses: list[Tensor], timestamps: Tensor) -> tuple[Trajectory, Tensor]:
    """Ground truth given frame by frame: the trajectory of the known poses, and T_wc (L, 4, 4) with NaN for the others."""
    T_wc = torch.stack(poses)
    known = T_wc.isfinite().all(-1).all(-1)
    return Trajectory(timestamps[known], T_wc[known]), T_wc
