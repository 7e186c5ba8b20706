"""Download of archives, resumed where it broke off, and safe unpacking of zip and tar files."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import lzma
import math
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

BLOCK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte
# What damaged or encrypted archives raise while being read.
BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def fetch(url: str, part: Path, progress: Callable[[int, int | None], None] | None = None) -> None:
    """Stream `url` into the file `part`, going on after what is there already if the server can, else from the start.

    Raises:
        OSError: the address cannot be read, or broke off before its announced end; what came is kept for another try.
    """
    try:
        _stream(url, part, progress)
    except urllib.error.HTTPError as error:
        raise OSError(f"{url}: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        reason = (error.reason.strerror if isinstance(error.reason, OSError) else None) or error.reason
        raise OSError(f"{url}: cannot be reached: {reason}; is this machine online?") from error
    except (TimeoutError, http.client.HTTPException) as error:
        raise ConnectionError(f"{url}: broke off: {error}; run again to go on") from error


def _stream(url: str, part: Path, progress: Callable[[int, int | None], None] | None) -> None:
    have = part.stat().st_size if part.is_file() else 0
    try:
        response = _open(url, have)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing after what is there, so it is whole or stale
            raise
        part.unlink()
        have, response = 0, _open(url, 0)
    with response:
        resumed = have > 0 and _range_start(response) == have
        have = have if resumed else 0
        announced = response.headers.get("Content-Length")
        total = None if announced is None else have + int(announced)
        for block in _append_blocks(part, response, resumed):
            have += len(block)
            if progress is not None:
                progress(have, total)
    if total is not None and have != total:
        raise ConnectionError(f"{url}: broke off at {have} of {total} bytes; run again to go on")


def _open(url: str, start: int):
    headers = {"User-Agent": "gradslam_ng"} | ({"Range": f"bytes={start}-"} if start else {})
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _append_blocks(part: Path, response, resumed: bool) -> Iterator[bytes]:
    """The blocks of an answer, each after it was written to the file."""
    with part.open("ab" if resumed else "wb") as file:
        while block := response.read(BLOCK):
            file.write(block)
            yield block


def _range_start(response) -> int | None:
    """Where a partial answer begins: `Content-Range: bytes 100-199/200`; None for a whole one."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, folder: Path, largest: float = math.inf) -> None:
    """Unpack a zip or tar archive, compressed or not, into `folder`. Only plain files and folders are accepted.

    largest: bytes that all its files together may have.

    Raises:
        ValueError: not a readable archive, one that is larger, or an entry that is absolute, climbs out by `..`, or is
            a link or a device.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder, largest)
        elif tarfile.is_tarfile(archive):
            _unpack_tar(archive, folder, largest)
        else:
            raise ValueError(f"{archive}: not a zip or tar archive")
    except BROKEN as error:
        raise ValueError(f"{archive}: not a readable archive: {error}") from error


def _unpack_zip(archive: Path, folder: Path, largest: float) -> None:
    with zipfile.ZipFile(archive) as file:
        _check_size(archive, sum(member.file_size for member in file.infolist()), largest)
        for member in file.infolist():
            mode = member.external_attr >> 16
            _check(archive, member.filename, stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR))
        file.extractall(folder)


def _unpack_tar(archive: Path, folder: Path, largest: float) -> None:
    size = 0
    with tarfile.open(archive) as file:
        for member in file:  # one pass, since seeking back in a compressed file means reading it twice
            _check(archive, member.name, member.isfile() or member.isdir())
            size += member.size
            _check_size(archive, size, largest)
            file.extract(member, folder, filter="data")


def _check_size(archive: Path, size: int, largest: float) -> None:
    if size > largest:
        raise ValueError(f"{archive}: unpacks to more than {largest:.0f} bytes; refused")


def _check(archive: Path, name: str, plain: bool) -> None:
    """Refuse an entry that is not a file or folder below where the archive is unpacked, by any system's rules."""
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or ".." in path.parts:
            raise ValueError(f"{archive}: entry {name!r} would unpack outside its folder; refused")
    if not plain:
        raise ValueError(f"{archive}: entry {name!r} is a link or a device; refused")


def sequence_folder(folder: Path) -> Path:
    """The single folder that an unpacked archive holds, if so: its name may tell the camera."""
    inside = [path for path in folder.iterdir() if path.name[0] != "." and path.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
