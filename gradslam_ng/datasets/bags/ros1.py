"""ROS 1 bags (format 2.0), also those whose recording was never finished and which have no index.

The records are read in their order, which needs no index; http://wiki.ros.org/Bags/Format/2.0 describes them. Where the
file ends within one, what came before is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gradslam_ng.datasets.bags.storage import (
    ChunkCache,
    Message,
    Position,
    StorageError,
    Topic,
    unpack_chunk,
)
from gradslam_ng.datasets.mapped_file import MappedFile

MAGIC = b"#ROSBAG V2.0\n"
MESSAGE, HEADER, CHUNK, CONNECTION = 2, 3, 5, 7  # kinds of records
U32 = struct.Struct("<I")
TIME = struct.Struct("<II")
Fields = dict[bytes, bytes]


class Record(NamedTuple):
    """A record of a bag."""

    fields: Fields
    at: int  # where it begins
    start: int  # where its data begin
    size: int  # of these, bytes

    @property
    def kind(self) -> int:
        return (self.fields.get(b"op") or b"\0")[0]


class Ros1File:
    """One `.bag`."""

    def __init__(self, path: Path) -> None:
        self.file, self.chunks = MappedFile(path), ChunkCache()
        self.topics: dict[str, Topic] = {}
        self.problems: list[str] = []
        self._names: dict[bytes, str] = {}  # of topics, by the number of a connection
        if self.file.bytes[: len(MAGIC)] != MAGIC:
            got = bytes(self.file.bytes[:13])
            raise StorageError(f"{path}: expected a ROS 1 bag of version 2.0, got a file that begins with {got!r}")

    @staticmethod
    def recognizes(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC

    def messages(self) -> Iterator[Message]:
        """Every message that can be read, in the order of the file."""
        try:
            for record in records(self.file.bytes, len(MAGIC)):
                if record.kind == HEADER and record.fields.get(b"encryptor"):
                    raise StorageError("it is encrypted")
                if record.kind == HEADER and record.fields.get(b"index_pos") == bytes(8):
                    self.problems.append("it was not closed when its recording ended")
                elif record.kind == CHUNK:
                    yield from self._messages_of(record)
                else:
                    position = Position(-1, record.start, record.size)
                    yield from self._message(record, self.file.bytes, position)
        except StorageError as error:
            self.problems.append(str(error))

    def read(self, position: Position) -> bytes | memoryview:
        """The message at a position."""
        content = self.file.bytes
        return self.chunks.read(content, position, lambda at: self._unpack(next(records(content, at))))

    def _messages_of(self, chunk: Record) -> Iterator[Message]:
        """Those of a chunk; a broken one costs its messages, not those behind it."""
        try:
            content = memoryview(self._unpack(chunk))
            for record in records(content, 0):
                yield from self._message(record, content, Position(chunk.at, record.start, record.size))
        except StorageError as error:
            self.problems.append(str(error))

    def _message(self, record: Record, content: memoryview, position: Position) -> Iterator[Message]:
        """The message of a record, or none; connections are kept."""
        fields, number = record.fields, record.fields.get(b"conn", b"")
        data = content[record.start : record.start + record.size]
        if record.kind == CONNECTION:
            about = parse_fields(data)
            name = fields.get(b"topic", about.get(b"topic", b"")).decode(errors="replace")
            package, _, short = about.get(b"type", b"").decode(errors="replace").partition("/")
            definition = about.get(b"message_definition", b"").decode(errors="replace")
            self._names[number] = name
            self.topics.setdefault(name, Topic(name, f"{package}/msg/{short}", definition, "ros1msg", "ros1"))
        elif record.kind == MESSAGE and number in self._names and len(fields.get(b"time", b"")) == TIME.size:
            seconds, nanoseconds = TIME.unpack(fields[b"time"])
            yield Message(self._names[number], seconds * 10**9 + nanoseconds, position, data)

    def _unpack(self, record: Record) -> bytes | memoryview:
        compression = record.fields.get(b"compression", b"none").decode(errors="replace")
        told = record.fields.get(b"size", b"")
        if len(told) != U32.size:
            raise StorageError("a chunk does not tell its size")
        data = self.file.bytes[record.start : record.start + record.size]
        return unpack_chunk(data, compression, U32.unpack(told)[0])


def records(content: memoryview, at: int) -> Iterator[Record]:
    """The records from there to the end.

    Raises:
        StorageError: the bytes end within a record.
    """
    while at < len(content):
        if at + U32.size > len(content):
            raise StorageError(f"cut off after {at} bytes")
        (length,) = U32.unpack_from(content, at)
        start = at + U32.size + length + U32.size
        if start > len(content):
            raise StorageError(f"cut off after {at} bytes")
        (size,) = U32.unpack_from(content, start - U32.size)
        if start + size > len(content):
            raise StorageError(f"cut off after {at} bytes")
        yield Record(parse_fields(content[at + U32.size : at + U32.size + length]), at, start, size)
        at = start + size


def parse_fields(header: memoryview) -> Fields:
    """`name=value` fields, each behind its length; what cannot be read ends them."""
    fields: Fields = {}
    at = 0
    while at + U32.size <= len(header):
        (length,) = U32.unpack_from(header, at)
        name, _, value = bytes(header[at + U32.size : at + U32.size + length]).partition(b"=")
        fields[name] = value
        at += U32.size + length
    return fields
