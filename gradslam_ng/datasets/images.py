"""Image files decoded to color in [0, 1] and depth in meters."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gradslam_ng.io.numpy_files import read_npy

# What Pillow calls the kinds of pixels: channels and type. Those of color are converted to RGB.
COLOR_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
DEPTH_MODES = {"I;16": np.uint16, "I;16B": np.uint16, "I;16L": np.uint16, "I": np.int32, "F": np.float32}
ORIENTATION = 0x0112  # the tag of EXIF
PGM_HEADER = re.compile(rb"P([25])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s")  # width, height, largest value


def load_color(path: Path) -> np.ndarray:
    """Color (H, W, 3) uint8 or uint16; gray is spread over the three channels, alpha is left out.

    Palettes and CMYK are converted, and an orientation in the file (EXIF) is applied.

    Raises:
        ValueError: not an image, broken, or not 8 or 16 bit.
        FileNotFoundError: no such file.
    """
    image = _decode(path)
    if not isinstance(image, Image.Image) or image.mode not in COLOR_MODES | {"I;16", "I;16B", "I;16L", "I"}:
        kind = f"mode {image.mode}" if isinstance(image, Image.Image) else f"an array of shape {image.shape}"
        raise ValueError(f"expected a color image of 8 or 16 bit, got {kind}")
    if image.mode in COLOR_MODES:
        return np.asarray(image.convert("RGB"))
    gray = np.asarray(image)
    if gray.min(initial=0) < 0 or gray.max(initial=0) > 65535:
        raise ValueError("expected a color image of 8 or 16 bit, got 32 bit")
    return gray.astype(np.uint16)[..., None].repeat(3, axis=-1)


def decode_color(data: bytes) -> np.ndarray:
    """Color (H, W, 3) uint8 of the bytes of an image file; ValueError where they are none."""
    try:
        with Image.open(BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # as below
        raise ValueError(f"not a readable image: {error}") from error


def unit_color(
    pixels: np.ndarray,  # (H, W, 3)
) -> Tensor:
    """Color (H, W, 3) float32 in [0, 1] of pixels of 8 or 16 bit, or of floats, which are in [0, 1] already."""
    if pixels.dtype.kind == "f":
        return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
    # NumPy, not torch, which would bring more threads into those that read ahead
    return torch.from_numpy(np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32))


def load_depth(path: Path) -> np.ndarray:
    """Depth as it is stored in a file, (H, W) or (H, W, 1), or of a color image what shows that it is none.

    Raises:
        ValueError: not an image, or broken.
        FileNotFoundError: no such file.
    """
    pixels = _decode(path, depth=True)
    if isinstance(pixels, Image.Image):
        return np.asarray(pixels.convert("RGB") if pixels.mode == "P" else pixels)  # a palette is no depth
    return pixels


def depth_in_meters(
    pixels: np.ndarray,  # (H, W) or (H, W, 1)
    scale: float,
    no_depth: int = 0,
    float_scale: float = 1.0,
) -> Tensor:
    """Depth (H, W, 1) float32, meters, of pixels as they were stored, 0 where nothing was measured.

    Integers are divided by `scale`, floats by `float_scale`, units in a meter. 0, `no_depth`, and what is not finite
    or not positive is no measurement, and neither is the largest number that a file of integers can hold: what
    saturates was farther than that, or not measured at all.

    Raises:
        ValueError: not one channel, or of 8 bit.
    """
    check_depth_pixels(pixels.dtype, pixels.shape)
    pixels = pixels.reshape(pixels.shape[:2])
    if pixels.dtype.kind == "f":
        depth = np.where(np.isfinite(pixels) & (pixels > 0), pixels, 0).astype(np.float32) / np.float32(float_scale)
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
    """Shape, upright, and dtype of an image file, from its header; ValueError names the file if it cannot be read."""
    try:
        if path.suffix.lower() == ".npy":
            pixels = read_npy(path)
            return pixels.shape, pixels.dtype
        if (pgm := _pgm_header(path)) is not None:
            width, height, largest = map(int, pgm.groups()[1:])
            return (height, width), np.dtype(np.uint8 if largest < 256 else np.uint16)
        with Image.open(path) as image:
            width, height = image.size
            # of a PNG without the tag in front of its pixels, Pillow would decode these to look behind them
            exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
            if exif.get(ORIENTATION, 1) >= 5:  # turned by a quarter
                width, height = height, width
            gray = image.mode in ("1", "L", *DEPTH_MODES)
            return (height, width) if gray else (height, width, 3), np.dtype(DEPTH_MODES.get(image.mode, np.uint8))
    except Exception as error:  # a decoder given broken bytes may raise anything at all
        raise ValueError(f"{path}: not a readable image: {error}") from error


def _decode(path: Path, depth: bool = False) -> Image.Image | np.ndarray:
    """The image in a file, upright, or the array in a `.npy`, or of depth in a PGM. Nothing in it is ever unpickled."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        if path.suffix.lower() == ".npy":
            return np.array(read_npy(path))
        if depth and (header := _pgm_header(path)) is not None:
            return _read_pgm(path, header)
        with Image.open(path) as image:
            if image.format != "MPO" and _has_more(image):  # MPO: a photograph with previews behind it
                raise ValueError("expected one image, got several in one file")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except Exception as error:  # as above
        raise ValueError(f"not a readable image: {error}") from error


def _has_more(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _pgm_header(path: Path) -> re.Match[bytes] | None:
    with path.open("rb") as file:
        return PGM_HEADER.match(file.read(1024))


def _read_pgm(path: Path, header: re.Match[bytes]) -> np.ndarray:
    """Numbers as they stand in a PGM: Pillow scales them where the largest value of the header is not 65535."""
    kind, width, height, largest = map(int, header.groups())
    rest = path.read_bytes()[header.end() :]
    if kind == 2:
        pixels = np.array(rest.split()[: width * height], dtype=np.uint16)
    else:
        pixels = np.frombuffer(rest, np.uint8 if largest < 256 else ">u2", width * height)
    return pixels.reshape(height, width)
