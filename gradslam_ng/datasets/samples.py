"""Samples of other libraries as a sequence: dicts of a torch Dataset, of WebDataset or of a HuggingFace dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gradslam_ng.datasets.camera import Camera
from gradslam_ng.datasets.images import decode_color
from gradslam_ng.datasets.intrinsics import parse_intrinsics
from gradslam_ng.datasets.recorded import FRAME_RATE, RecordedSequence
from gradslam_ng.datasets.text import per_frame_truth


class Indexable(Protocol):
    """What has samples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Samples(RecordedSequence):
    """Samples that are dicts with a color and a depth image, in order of time, as a sequence.

    An image is an array, a tensor (H, W, C) or (C, H, W), a Pillow image, or the bytes of an image file; color of 8 bit
    or floats in [0, 1]; depth in integers, `depth_scale` in a meter, or in floats, meters. Of a WebDataset, which has
    no numbers, give `list(dataset)`: undecoded samples are small.

    Args:
        samples: anything with a length, whose items are dicts.
        K: (3, 3), or fx, fy, cx, cy, pixels, of the color images; depth is registered to them.
        color, depth: under which names the samples have their images.
        T_wc: (L, 4, 4) camera to world, meters, NaN where a pose is not known.
        timestamps: (L,) seconds; default: 30 frames a second.
        depth_scale: units of integers in a meter; default 1000.
        name: of the sequence, for titles.

    Raises:
        ValueError: no sample has such images; poses or times that are not one for each.
    """

    def __init__(
        self,
        samples: Indexable,
        *,
        K: Tensor | np.ndarray | Sequence[float],
        color: str = "color",
        depth: str = "depth",
        T_wc: Tensor | np.ndarray | None = None,
        timestamps: Tensor | np.ndarray | None = None,
        depth_scale: float | None = None,
        name: str = "samples",
    ) -> None:
        self.samples, self.color, self.depth = samples, color, depth
        count = len(samples)
        times = torch.arange(count, dtype=torch.float64) / FRAME_RATE
        if timestamps is not None:
            times = torch.as_tensor(timestamps, dtype=torch.float64)
        poses = None if T_wc is None else torch.as_tensor(T_wc, dtype=torch.float64)
        if times.shape != (count,) or (poses is not None and poses.shape != (count, 4, 4)):
            shapes = f"{tuple(times.shape)} and {None if poses is None else tuple(poses.shape)}"
            raise ValueError(f"samples: expected timestamps ({count},) and T_wc ({count}, 4, 4), got {shapes}")
        super().__init__(
            name=name,
            layout="samples",
            camera=Camera(parse_intrinsics(K), "as given"),
            depth_scale=depth_scale,
            timestamps=times,
            **({} if poses is None else per_frame_truth(list(poses), times)),
        )

    def decode_color(self, index: int) -> np.ndarray:
        value = self._value(index, self.color)
        if isinstance(value, bytes | bytearray):
            return decode_color(bytes(value))
        if isinstance(value, Image.Image):
            return np.asarray(value.convert("RGB"))
        pixels = _array(value)
        pixels = pixels.transpose(1, 2, 0) if pixels.ndim == 3 and pixels.shape[0] == 3 != pixels.shape[2] else pixels
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype.kind not in "uf":
            kind = f"shape {pixels.shape} of {pixels.dtype}"
            raise ValueError(f"{self.color}: expected color (H, W, 3), of 8 bit or floats in [0, 1], got {kind}")
        return pixels

    def decode_depth(self, index: int) -> np.ndarray:
        value = self._value(index, self.depth)
        if isinstance(value, bytes | bytearray):
            try:
                value = Image.open(BytesIO(value))
                value.load()
            except Exception as error:  # a decoder given broken bytes may raise anything at all
                raise ValueError(f"{self.depth}: not a readable image: {error}") from error
        pixels = np.asarray(value) if isinstance(value, Image.Image) else _array(value)
        return pixels[0] if pixels.ndim == 3 and pixels.shape[0] == 1 else pixels

    def _value(self, index: int, name: str) -> Any:
        """What a sample has under a name."""
        sample = self.samples[index]
        if not isinstance(sample, Mapping) or name not in sample:
            names = list(sample) if isinstance(sample, Mapping) else type(sample).__name__
            raise ValueError(f"sample {index}: expected a dict with {name!r}, got {names}")
        return sample[name]


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
