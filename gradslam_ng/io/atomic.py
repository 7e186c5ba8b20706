"""Files that are there whole or not at all: written beside their place, and moved to it when they are done."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to, which becomes `path` once the block is left without an error; else `path` stays as it was.

    Whoever reads `path`, whenever, finds the old file or the new one, also where the disk is full or the process is
    killed. A link stays a link, to the new file; what is no file, such as a pipe, is written to as it is.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    place = Path(os.path.realpath(path))
    part = place.with_name(f".{place.name}.part")
    try:
        yield part
        part.replace(place)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error  # not of the part, which nobody asked for
        raise


@contextlib.contextmanager
def whole_files(path: str | os.PathLike) -> Iterator[Path]:
    """As `whole_file`, for libraries that read the format off the name and write files of like names beside it, such as
    the material of an .obj: a path of the same name in a folder of its own, all files of which are moved beside `path`.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    place = Path(os.path.realpath(path))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as folder:
            yield Path(folder) / place.name
            for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == place.name):  # that itself last
                file.replace(place.with_name(file.name))
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(path: str | os.PathLike, data: bytes | str) -> None:
    """Write a file, text as UTF-8 with lines as they are, as `whole_file` does.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    with whole_file(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
