"""Images in messages of ROS, raw and compressed, as pixels (http://wiki.ros.org/compressed_depth_image_transport)."""

from __future__ import annotations

import re
import struct
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from gradslam_ng.datasets.bags.storage import StorageError
from gradslam_ng.datasets.images import decode_color

# Encodings of raw images: type of a number, numbers a pixel.
DEPTH = {"16UC1": ("u2", 1), "mono16": ("u2", 1), "Z16": ("u2", 1), "16SC1": ("i2", 1), "32FC1": ("f4", 1)}
DEPTH |= {"64FC1": ("f8", 1)}
COLOR = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "8UC4": 4, "mono8": 1, "8UC1": 1}  # bytes a pixel
BAYER = ("rggb", "bggr", "gbrg", "grbg")
YUV = {"yuv422": "UYVY", "uyvy": "UYVY", "yuv422_yuy2": "YUY2", "yuyv": "YUY2", "YUYV": "YUY2", "UYVY": "UYVY"}
DEPTH_HEADER = struct.Struct("<iff")  # in front of compressedDepth: a kind, and how depth was made of inverse depth
PNG = b"\x89PNG"


def is_depth_encoding(encoding: str) -> bool:
    """Whether a raw image of this encoding, or a compressed one of this format, is of depth."""
    if "compressedDepth" in encoding:
        return True
    return encoding.partition(";")[0].strip() in DEPTH


def is_color_encoding(encoding: str) -> bool:
    """Likewise of color."""
    name = encoding.partition(";")[0].strip()
    is_raw = name in COLOR or name in YUV or name.startswith("bayer_")
    return not is_depth_encoding(encoding) and (is_raw or re.search(r"jpe?g|png|webp", encoding) is not None)


def encoding_of(message: Any) -> str:
    """The encoding of an Image, or the format of a CompressedImage."""
    return message.format if is_compressed(message) else message.encoding


def is_compressed(message: Any) -> bool:
    return message.__msgtype__.endswith("CompressedImage")


def color_pixels(message: Any) -> np.ndarray:
    """Color (H, W, 3) uint8 of an Image or a CompressedImage.

    Raises:
        StorageError: an encoding that is not known, or pixels that are missing.
    """
    if is_compressed(message):
        return decode_color(bytes(message.data))
    encoding = message.encoding
    if encoding in YUV or encoding.startswith("bayer_"):
        return _converted(message)
    if encoding in ("16UC1", "mono16"):
        gray = (_rows(message, np.dtype("u2"), 1)[..., 0] >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=-1)
    if encoding not in COLOR:
        raise StorageError(f"color: expected one of {', '.join(COLOR)}, bayer or yuv422, got {encoding!r}")
    pixels = _rows(message, np.dtype("u1"), COLOR[encoding])
    if pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    is_bgr = encoding.startswith(("bgr", "8UC"))  # OpenCV's order where it is not told
    return np.ascontiguousarray(pixels[..., 2::-1] if is_bgr else pixels[..., :3])


def depth_pixels(message: Any) -> np.ndarray:
    """Depth (H, W), integers in the unit of the camera or floats in meters, of an Image or a CompressedImage.

    Raises:
        StorageError: an encoding that is not known, or pixels that are missing.
    """
    if is_compressed(message):
        return _unpacked_depth(message.format, bytes(message.data))
    if message.encoding not in DEPTH:
        raise StorageError(f"depth: expected one of {', '.join(DEPTH)}, got {message.encoding!r}")
    kind, channels = DEPTH[message.encoding]
    return _rows(message, np.dtype(kind), channels)[..., 0]


def _rows(message: Any, kind: np.dtype, channels: int) -> np.ndarray:
    """The numbers of a raw image (H, W, channels), without what pads its rows."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * channels * kind.itemsize
    data = np.asarray(message.data, dtype=np.uint8)
    step = max(step, row)
    if height < 1 or width < 1 or len(data) < step * (height - 1) + row:
        expected = f"{height} rows of {step} bytes"
        raise StorageError(f"an image of {width}x{height} in {message.encoding}: expected {expected}, got {len(data)}")
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1), writeable=False)
    numbers = np.ascontiguousarray(rows).view(kind.newbyteorder(">" if message.is_bigendian else "<"))
    return numbers.astype(kind, copy=False).reshape(height, width, channels)


def _converted(message: Any) -> np.ndarray:
    """Color of a Bayer pattern or of YUV 4:2:2."""
    import cv2

    encoding = message.encoding
    if encoding in YUV:
        pixels = _rows(message, np.dtype("u1"), 2)
        return cv2.cvtColor(pixels, cv2.COLOR_YUV2RGB_UYVY if YUV[encoding] == "UYVY" else cv2.COLOR_YUV2RGB_YUY2)
    pattern = encoding.removeprefix("bayer_")[:4]
    if pattern not in BAYER or not encoding.endswith("8"):
        raise StorageError(f"color: expected a Bayer pattern of 8 bit, got {encoding!r}")
    codes = {
        "rggb": cv2.COLOR_BayerRGGB2RGB,
        "bggr": cv2.COLOR_BayerBGGR2RGB,
        "gbrg": cv2.COLOR_BayerGBRG2RGB,
        "grbg": cv2.COLOR_BayerGRBG2RGB,
    }
    return cv2.cvtColor(_rows(message, np.dtype("u1"), 1)[..., 0], codes[pattern])


def _unpacked_depth(form: str, data: bytes) -> np.ndarray:
    """Depth of a PNG: as it is, or behind a header of 12 bytes that tells how inverse depth was written."""
    if "rvl" in form:
        raise StorageError(f"depth: expected png in compressedDepth, got {form!r}")
    scale = offset = 0.0
    if data[:4] != PNG and data[DEPTH_HEADER.size : DEPTH_HEADER.size + 4] == PNG:
        _, scale, offset = DEPTH_HEADER.unpack_from(data)
        data = data[DEPTH_HEADER.size :]
    try:
        with Image.open(BytesIO(data)) as image:
            pixels = np.asarray(image)
    except Exception as error:  # a decoder given broken bytes may raise anything at all
        raise StorageError(f"depth: not a readable image: {error}") from error
    if pixels.ndim != 2 or pixels.dtype.itemsize < 2:
        raise StorageError(f"depth: expected a PNG of 16 bit and one channel, got {form!r} of {pixels.dtype}")
    if not form.startswith("32FC1") or scale == 0:
        return pixels.astype(np.uint16)
    above = pixels.astype(np.float64) - offset
    is_known = (pixels > 0) & (above > 0)
    return np.where(is_known, scale / np.where(is_known, above, 1), 0).astype(np.float32)
