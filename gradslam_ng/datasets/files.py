"""Sequences of image files: one color and one depth file for each frame, undistorted on loading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from gradslam_ng.datasets.images import check_depth_pixels, image_kind, read_color, read_depth
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.geometry.camera import undistort_images, undistortion_map

FRAME_RATE = 30.0  # Hz, of the cameras of these data sets, where a recording has no time stamps


class FileSequence(RGBDSequence):
    """A sequence of image files; its loader finds the files, the camera and the ground truth.

    A file that is named but missing, or broken, does not stop the sequence: reading that frame raises FrameError.

    Args:
        color, depth: the files of each frame.
        depth_scale: units of the depth files in a meter.
        no_depth: the value, besides 0, that marks a pixel without depth.
        distortion: coefficients k1, k2, p1, p2, k3, ... of the lens (Brown-Conrady) that both images were taken with,
            see `camera.undistortion_map`: they are undistorted on loading, to the pinhole camera `K`; default: none.
        **about: as for RGBDSequence, without `size`.

    Raises:
        FileNotFoundError: no frame has both its files.
        ValueError: the first readable frame has depth of 8 bit or several channels, or color and depth differ in size.
    """

    same_size = True  # color and depth are registered pixel to pixel

    def __init__(
        self,
        *,
        color: Sequence[Path],
        depth: Sequence[Path],
        depth_scale: float,
        no_depth: int = 0,
        distortion: Sequence[float] | None = None,
        **about,
    ) -> None:
        if not depth_scale > 0:
            raise ValueError(f"depth_scale: expected a positive number of units in a meter, got {depth_scale}")
        self.color, self.depth, self.no_depth = list(color), list(depth), no_depth
        super().__init__(size=self._first_size(about["name"]), depth_scale=depth_scale, **about)
        self.seen_at = None if distortion is None else undistortion_map(self.K, distortion, self.size)  # (H, W, 2)

    def _first_size(self, name: str) -> tuple[int, int]:
        """Height and width of the depth images, from the headers of the first frame that can be read."""
        broken = ""
        for color, depth in zip(self.color, self.depth, strict=True):
            if not (color.is_file() and depth.is_file()):
                continue
            try:
                (color_shape, _), (depth_shape, depth_dtype) = image_kind(color), image_kind(depth)
            except ValueError as error:
                broken = broken or f"; {error}"
                continue
            try:
                check_depth_pixels(depth_dtype, depth_shape)
            except ValueError as error:
                raise ValueError(f"{depth}: {error}") from None
            if self.same_size and color_shape[:2] != depth_shape[:2]:
                sizes = f"color is {_size(color_shape)}, depth is {_size(depth_shape)}"
                raise ValueError(f"{color}: {sizes}; expected one size, registered pixel to pixel")
            return depth_shape[0], depth_shape[1]
        raise FileNotFoundError(
            f"{name}: none of its {len(self.color)} frames can be read: each lacks its color or its depth file{broken}"
        )

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        color = self._read_file(index, self.color[index], read_color)
        depth = self._read_file(index, self.depth[index], read_depth, self.depth_scale, self.no_depth)
        return self.register_images(index, color, depth)

    def register_images(self, index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """The two images as taken, brought to one pinhole camera `self.K` of size `self.size`."""
        self.check_size(index, self.color[index], color)
        self.check_size(index, self.depth[index], depth)
        if self.seen_at is None:
            return color, depth
        return undistort_images(color, depth, self.seen_at)

    def check_size(self, index: int, path: Path, image: Tensor) -> None:
        if image.shape[:2] != self.size:
            raise FrameError(
                index, path=path, reason=f"is {_size(image.shape)}; expected {_size(self.size)} as in other frames"
            )

    @staticmethod
    def _read_file(index: int, path: Path, reader, *args) -> Tensor:
        try:
            return reader(path, *args)
        except FileNotFoundError:
            raise FrameError(index, path=path, reason="no such file") from None
        except (ValueError, OSError) as error:
            raise FrameError(index, path=path, reason=str(error)) from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
