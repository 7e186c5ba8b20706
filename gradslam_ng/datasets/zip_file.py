"""Entries of a zip file, read in place by several threads and processes."""

from __future__ import annotations

import os
import threading
import zipfile
from pathlib import Path

from gradslam_ng.datasets.archive import BROKEN


class ZipEntries:
    """The files in a zip file; may be used by several threads, copied, and pickled.

    Args:
        path: of the zip file.
        largest: bytes that an entry may unpack to.

    Raises:
        ValueError: not a zip file.
    """

    def __init__(self, path: Path, *, largest: int = 1 << 28) -> None:
        self.path, self.largest = path, largest
        self._lock = threading.Lock()
        self._process = -1
        self.sizes = {entry.filename: entry.file_size for entry in self._open().infolist()}

    def _open(self) -> zipfile.ZipFile:
        with self._lock:
            if self._process != os.getpid():
                try:
                    self._file = zipfile.ZipFile(self.path)
                except BROKEN as error:
                    raise ValueError(f"{self.path}: expected a zip file: {error}") from error
                self._process = os.getpid()
            return self._file

    def read(self, name: str) -> bytes:
        """An entry's bytes; ValueError where it is missing, broken or too large."""
        if name not in self.sizes:
            raise ValueError(f"{self.path.name}: no entry {name!r}")
        if self.sizes[name] > self.largest:
            raise ValueError(f"{self.path.name}: {name}: {self.sizes[name]} bytes, expected at most {self.largest}")
        try:
            return self._open().read(name)
        except (*BROKEN, NotImplementedError) as error:
            raise ValueError(f"{self.path.name}: {name}: {error}") from error

    def __reduce__(self) -> tuple:
        return _reopen, (self.path, self.largest)


def _reopen(path: Path, largest: int) -> ZipEntries:
    return ZipEntries(path, largest=largest)
