"""Where the messages of a bag lie: what every kind of bag file tells, whatever its container."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

LARGEST_CHUNK = 1 << 30  # bytes: what a compressed chunk may say that it unpacks to


class StorageError(ValueError):
    """A file that is no bag, or of a kind that cannot be read; says why."""


class Position(NamedTuple):
    """Where a message lies: in a file, or in an unpacked chunk of it."""

    chunk: int  # where the chunk begins in the file; -1: none, the message lies in the file itself
    start: int  # bytes from there; of a database the number of its row
    size: int  # bytes


class Message(NamedTuple):
    """A message as recorded."""

    topic: str
    time: int  # nanoseconds, when it was recorded
    position: Position
    data: bytes | memoryview


@dataclass(frozen=True)
class Topic:
    """A topic of a bag."""

    name: str
    kind: str  # of its messages, such as "sensor_msgs/msg/Image"
    definition: str = ""  # of these, as text; empty where the bag has none
    language: str = "ros2msg"  # of the definition: ros1msg, ros2msg or ros2idl
    encoding: str = "cdr"  # of the messages: ros1 or cdr


class Storage(Protocol):
    """One file of a bag, open for reading."""

    topics: dict[str, Topic]  # complete when `messages` has ended
    problems: list[str]  # why not all can be read, likewise

    def messages(self) -> Iterator[Message]:
        """All that can be read, in the order of the file."""

    def read(self, position: Position) -> bytes | memoryview:
        """The message at a position that `messages` gave."""


class ChunkCache:
    """The chunks unpacked last, for frames that are read in order by several threads."""

    def __init__(self, capacity: int = 4) -> None:
        self.capacity = capacity
        self._chunks: dict[int, bytes | memoryview] = {}
        self._lock = threading.Lock()

    def read(self, file: memoryview, position: Position, unpack: Callable[[int], bytes | memoryview]) -> memoryview:
        """The bytes at a position, in the file itself or in the chunk that `unpack` gives from where it begins."""
        chunk, start, size = position
        if chunk < 0:
            return file[start : start + size]
        with self._lock:
            unpacked = self._chunks.get(chunk)
        if unpacked is None:
            unpacked = unpack(chunk)
            with self._lock:
                self._chunks[chunk] = unpacked
                while len(self._chunks) > self.capacity:
                    del self._chunks[next(iter(self._chunks))]
        return memoryview(unpacked)[start : start + size]

    def __reduce__(self) -> tuple:
        return ChunkCache, (self.capacity,)


def unpack_chunk(data: memoryview, compression: str, size: int) -> bytes | memoryview:
    """A chunk as it was before compression, which says that it has `size` bytes.

    Raises:
        StorageError: a compression that is not known, another size, or bytes that are broken.
    """
    if not 0 <= size <= LARGEST_CHUNK:
        raise StorageError(f"a chunk of {size} bytes; expected at most {LARGEST_CHUNK}")
    if compression in ("", "none"):
        return data
    try:
        unpacked = _decompress(data, compression, size)
    except ImportError:
        raise
    except StorageError:
        raise
    except Exception as error:  # each library has errors of its own
        raise StorageError(f"a broken chunk, packed by {compression}: {error}") from error
    if len(unpacked) != size:
        raise StorageError(f"a broken chunk: expected {size} bytes, got {len(unpacked)}")
    return unpacked


def _decompress(data: memoryview, compression: str, size: int) -> bytes:
    """Unpacked bytes, no more than `size`, so that nothing hostile fills the memory."""
    if compression == "bz2":
        import bz2

        return bz2.BZ2Decompressor().decompress(data, max_length=size)
    if compression == "lz4":
        with_hint("lz4")
        import lz4.frame

        return lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size)
    if compression == "zstd":
        return unpack_zstd(data, size)
    raise StorageError(f"compression {compression!r}: expected none, bz2, lz4 or zstd")


def unpack_zstd(data: bytes | memoryview, size: int = LARGEST_CHUNK) -> bytes:
    """What zstandard packed, at most `size` bytes."""
    with_hint("rosbags")
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        from backports import zstd  # type: ignore[no-redef,unused-ignore]
    return zstd.ZstdDecompressor().decompress(data, max_length=size)


def with_hint(package: str) -> None:
    """ImportError in one line where what reads bags is not installed."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{package} is needed to read bags of ROS: pip install gradslam_ng[rosbag]")
