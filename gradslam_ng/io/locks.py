"""Files and folders that one process at a time works on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def lock(path: Path, wait: bool) -> Iterator[None]:
    """Keep other processes that ask for the same lock out as long as the block lasts; it ends with the process, however
    that ends. path: a file or a folder that exists. On Windows, and where a file system has no locks, none is held.

    Raises:
        BlockingIOError: another process holds it, and it is not to be waited for.
    """
    try:
        import fcntl
    except ImportError:  # on Windows
        yield
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(opened)
