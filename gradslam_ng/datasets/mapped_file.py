"""A file mapped into memory, for recordings that hold many images in one file."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path


class MappedFile:
    """The bytes of a file, mapped into memory when first asked for, in each process anew; only what is read is loaded.

    It may be used by several threads, copied, and pickled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = memoryview(b"")
        self._process = -1
        self._lock = threading.Lock()

    @property
    def bytes(self) -> memoryview:
        """All bytes of the file; OSError where it cannot be opened."""
        with self._lock:
            if self._process != os.getpid():
                with self.path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    self._bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
                self._process = os.getpid()
            return self._bytes

    def __reduce__(self) -> tuple:
        return MappedFile, (self.path,)
