"""Arrays in NumPy's `.npy` and `.npz` files: numbers only, of no more memory than the file accounts for."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

MAGIC = b"\x93NUMPY"
LARGEST_RATIO = 100  # times its own size that an archive may unpack to, and ...
ALWAYS = 1 << 30  # ... bytes that any may


def unpacked_limit(archive: Path) -> int:
    """Bytes that an archive may unpack to."""
    return max(ALWAYS, LARGEST_RATIO * archive.stat().st_size)


def read_npy(path: Path) -> np.ndarray:
    """The array in a `.npy` file, mapped into memory and not to be written to.

    Raises:
        ValueError: other bytes, an array of other things than numbers, or one larger than its file.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("expected an array of NumPy (.npy), got other bytes")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of many kinds, where the header is broken
        raise ValueError(f"expected an array of numbers (.npy): {_reason(error)}") from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a `.npz` file, by name.

    Raises:
        ValueError: other bytes, arrays of other things than numbers, or far too large.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("expected arrays of NumPy (.npz), got other bytes")
    try:
        with np.load(path, allow_pickle=False) as archive:
            size = sum(entry.file_size for entry in archive.zip.infolist())
            if size > unpacked_limit(path):
                raise ValueError(f"{size} bytes unpacked, of a file of {path.stat().st_size}")
            return {name: np.asarray(archive[name]) for name in archive.files}
    except Exception as error:  # of many kinds: a zip file, its members, their headers
        raise ValueError(f"expected arrays of numbers (.npz): {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Without NumPy's advice to trust what a file has pickled, which nothing here ever does."""
    text = str(error) or type(error).__name__
    return "got objects" if "pickle" in text or "Python objects" in text else text
