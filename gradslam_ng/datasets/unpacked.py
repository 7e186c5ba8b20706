"""Recordings in the archive they were downloaded as: unpacked once, beside it or in a cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import uuid
import zipfile
from pathlib import Path

from gradslam_ng.datasets.archive import sequence_folder, unpack
from gradslam_ng.io.numpy_files import unpacked_limit

ENDINGS = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar", ".zip")


def is_archive(path: Path) -> bool:
    """Whether a path is an archive by its name; ValueError where the file of such a name is none."""
    if not path.name.lower().endswith(ENDINGS) or not path.is_file():
        return False
    if not (zipfile.is_zipfile(path) or _is_tar(path)):
        raise ValueError(f"{path}: expected a zip or tar archive, got other bytes, or one that is cut off")
    return True


def unpacked(archive: Path) -> Path:
    """The folder of an archive's files: its name without the ending, beside it, else in the user's cache.

    What is there already is taken; nothing is left behind where unpacking fails.

    Raises:
        ValueError: not a readable archive, or one with links, with names that lead out of it, or far too large.
        OSError: no room, or nowhere to write.
    """
    name = next(archive.name[: -len(ending)] for ending in ENDINGS if archive.name.lower().endswith(ending))
    folder = archive.resolve().parent / name
    if folder.is_dir():
        return sequence_folder(folder)
    if not os.access(archive.resolve().parent, os.W_OK):
        folder = _cache() / f"{_key(archive)}" / name
        if folder.is_dir():
            return sequence_folder(folder)
    limit = unpacked_limit(archive)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{name}.{uuid.uuid4().hex[:8]}")  # a name of its own for each process
    try:
        unpack(archive, fresh, min(limit, shutil.disk_usage(folder.parent).free))
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return sequence_folder(folder)


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError):
        return False


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gradslam_ng"


def _key(archive: Path) -> str:
    """Of this archive as it is now."""
    about = archive.stat()
    text = f"{archive.resolve()} {about.st_size} {about.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
