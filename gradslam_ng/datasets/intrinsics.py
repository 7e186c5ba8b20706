"""Camera intrinsics, and what else a file may tell of a camera."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.geometry.lens import LensModel
from gradslam_ng.io.text import parse_numbers

Intrinsics = Tensor | np.ndarray | Sequence[float] | str | os.PathLike  # of a file

FORMS = "K as 3x3, or four numbers fx fy cx cy"


@dataclass(frozen=True, eq=False)
class ColorCamera:
    """A color camera beside the depth camera."""

    K: Tensor  # (3, 3) float64, pixels
    T_color_depth: Tensor  # (4, 4) float64, meters, from the depth camera to this one
    size: tuple[int, int] | None = None  # height and width of the images that K belongs to; None: those at hand
    distortion: tuple[float, ...] | None = None  # of the lens
    lens_model: LensModel = "brown_conrady"


@dataclass(frozen=True, eq=False)
class CameraFile:
    """What a file tells of a camera."""

    K: Tensor  # (3, 3) float64, pixels
    size: tuple[int, int] | None = None  # height and width of the images
    distortion: tuple[float, ...] | None = None  # k1, k2, p1, p2, ...
    depth_scale: float | None = None  # units of the depth files in a meter
    unused: tuple[str, ...] = ()  # what else it has
    lens_model: LensModel = "brown_conrady"
    color: ColorCamera | None = None  # of color images that are not registered to depth
    time_offset: float = 0.0  # seconds: time stamps of color less those of depth of the same moment
    depth_distortion: tuple[float, float] | None = None  # 1/m, see `geometry.depth_distortion`

    def is_same(self, other: CameraFile) -> bool:
        """Whether another is the same camera."""
        return self._lens == other._lens and torch.equal(self.K, other.K)

    @property
    def _lens(self) -> tuple[object, ...]:
        return self.size, self.distortion, self.lens_model


def parse_intrinsics(value: Intrinsics, where: str = "intrinsics", y_up: bool = False) -> Tensor:
    """K (3, 3) float64, pixels, of a 3x3 or 4x4 matrix, of fx, fy, cx, cy, or of a text of such, as "525,525,320,240".

    With `y_up` fy may be negative, as in axes with y up, and is brought to ours.

    Raises:
        ValueError: another shape, numbers that are not finite, or a focal length that is not positive; names `where`.
    """
    try:
        numbers = parse_numbers(value, where, FORMS) if isinstance(value, str) else value
        values = torch.as_tensor(np.asarray(numbers, dtype=np.float64))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: expected {FORMS}; got {str(value)[:100]!r}") from None
    if values.shape == (4,):
        fx, fy, cx, cy = values.tolist()
        K = values.new_tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    elif values.shape in ((9,), (3, 3)):
        K = values.reshape(3, 3).clone()
    elif values.shape in ((12,), (3, 4), (16,), (4, 4)):
        K = values.reshape(-1, 4)[:3, :3].clone()
        if values.reshape(-1, 4)[:3, 3].any() or values.reshape(-1, 4)[3:].tolist() not in ([], [[0, 0, 0, 1]]):
            raise ValueError(f"{where}: expected {FORMS}; got more than K: {values.reshape(-1, 4).tolist()}")
    else:
        raise ValueError(f"{where}: expected {FORMS}; got shape {tuple(values.shape)}")
    if y_up:
        K[1, 1] = K[1, 1].abs()
    lower = torch.stack([K[1, 0], K[2, 0], K[2, 1], K[2, 2]]).tolist()
    if not bool(K.isfinite().all()) or K[0, 0] <= 0 or K[1, 1] <= 0 or lower != [0, 0, 0, 1]:
        form = "positive focal lengths and a matrix [fx s cx; 0 fy cy; 0 0 1]"
        raise ValueError(f"{where}: expected {form}; got {K.tolist()}")
    return K
