"""Image files decoded to color in [0, 1] and depth in meters."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor


def read_color(path: Path) -> Tensor:
    """Color (H, W, 3) float32 in [0, 1]; gray is spread over the three channels, alpha is left out.

    Raises:
        ValueError: not an image, broken, or not 8 or 16 bit.
        FileNotFoundError: no such file.
    """
    pixels = _decode(path)
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3):
        raise ValueError(f"expected a color image of 8 or 16 bit, got {pixels.dtype} of shape {pixels.shape}")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[-1] in (1, 2):
        pixels = pixels[..., :1].repeat(3, axis=-1)
    # NumPy, not torch, which would bring more threads into those that read ahead
    return torch.from_numpy(np.divide(pixels[..., :3], np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32))


def read_depth(path: Path, scale: float, no_depth: int = 0) -> Tensor:
    """Depth (H, W, 1) float32, meters, 0 where nothing was measured.

    Integers are divided by `scale`, units in a meter; 0 and `no_depth` are no measurement, and neither is the largest
    number that the file can hold: what saturates was farther than that, or not measured at all. Floats are meters
    already; what is not finite or not positive is no measurement.

    Raises:
        ValueError: not an image, broken, not one channel, or of 8 bit, which cannot hold depth.
        FileNotFoundError: no such file.
    """
    pixels = _decode(path)
    check_depth_pixels(pixels.dtype, pixels.shape)
    pixels = pixels.reshape(pixels.shape[:2])
    if pixels.dtype.kind == "f":
        depth = np.where(np.isfinite(pixels) & (pixels > 0), pixels, 0).astype(np.float32)
    else:
        depth = pixels.astype(np.float32) / np.float32(scale)
        depth[(pixels == no_depth) | (pixels < 0) | (pixels == np.iinfo(pixels.dtype).max)] = 0
    return torch.from_numpy(depth)[..., None]


def check_depth_pixels(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Raise ValueError where pixels of this kind cannot be depth."""
    if len(shape) != 2 and (len(shape) != 3 or shape[2] != 1):
        raise ValueError(f"expected a depth image of one channel, got shape {tuple(shape)}")
    if dtype.kind not in "iuf" or dtype.itemsize < 2:
        raise ValueError(f"expected depth of 16 bit or float, got {8 * dtype.itemsize} bit ({dtype}), too coarse")


def image_kind(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an image file, from its header; ValueError names the file where it cannot be read."""
    try:
        if path.suffix == ".npy":
            pixels = np.load(path, mmap_mode="r", allow_pickle=False)
            return pixels.shape, pixels.dtype
        properties = iio.improps(path, plugin="pillow")
    except Exception as error:  # a decoder given broken bytes may raise anything at all
        raise ValueError(f"{path}: not a readable image: {error}") from error
    return properties.shape, properties.dtype


def _decode(path: Path) -> np.ndarray:
    """The pixels of a file. Nothing in it is ever unpickled."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        return iio.imread(path, plugin="pillow")
    except Exception as error:  # as above
        raise ValueError(f"not a readable image: {error}") from error
