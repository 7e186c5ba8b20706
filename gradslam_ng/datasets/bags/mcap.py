"""MCAP files, as ROS 2 and Foxglove record them, also those whose recording was never finished.

The records are read in their order, which needs neither index nor summary; https://mcap.dev/spec describes them. Where
the file ends within one, what came before is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from gradslam_ng.datasets.bags.storage import (
    ChunkCache,
    Message,
    Position,
    StorageError,
    Topic,
    unpack_chunk,
)
from gradslam_ng.datasets.mapped_file import MappedFile

MAGIC = b"\x89MCAP0\r\n"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F  # kinds of records
RECORD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, number, times of recording and of publication
CHUNK_HEAD = struct.Struct("<QQQI")  # times, size when unpacked, checksum


class McapFile:
    """One `.mcap`."""

    def __init__(self, path: Path) -> None:
        self.file, self.chunks = MappedFile(path), ChunkCache()
        self.topics: dict[str, Topic] = {}
        self.problems: list[str] = []
        self._schemas: dict[int, tuple[str, str, str]] = {}  # name, language and text, by number
        self._names: dict[int, str] = {}  # of topics, by the number of a channel
        if self.file.bytes[: len(MAGIC)] != MAGIC:
            raise StorageError(f"{path}: expected an MCAP file, got other bytes")

    @staticmethod
    def recognizes(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC

    def messages(self) -> Iterator[Message]:
        """Every message that can be read, in the order of the file."""
        content = self.file.bytes
        try:
            for kind, start, size in records(content, len(MAGIC)):
                if kind in (DATA_END, FOOTER):
                    return
                if kind == CHUNK:
                    yield from self._messages_of(start, size)
                else:
                    yield from self._message(kind, content[start : start + size], -1, start)
            self.problems.append("it was not closed when its recording ended")
        except (StorageError, struct.error) as error:
            self.problems.append(str(error))

    def read(self, position: Position) -> bytes | memoryview:
        """The message at a position."""
        content = self.file.bytes
        return self.chunks.read(
            content, position, lambda at: self._unpack(at, RECORD.unpack_from(content, at - RECORD.size)[1])
        )

    def _messages_of(self, start: int, size: int) -> Iterator[Message]:
        """Those of a chunk; a broken one costs its messages, not those behind it."""
        try:
            content = memoryview(self._unpack(start, size))
            for kind, inner, inner_size in records(content, 0):
                yield from self._message(kind, content[inner : inner + inner_size], start, inner)
        except (StorageError, struct.error) as error:
            self.problems.append(str(error))

    def _message(self, kind: int, record: memoryview, chunk: int, start: int) -> Iterator[Message]:
        """The message of a record, or none; schemas and channels are kept."""
        if kind == SCHEMA:
            name, rest = _text(record[2:])
            language, rest = _text(rest)
            self._schemas[_u16(record)] = name, language, _text(rest)[0]
        elif kind == CHANNEL:
            name, rest = _text(record[4:])
            schema, language, definition = self._schemas.get(_u16(record[2:]), ("", "", ""))
            self._names[_u16(record)] = name
            kind_of = schema if "/msg/" in schema else schema.replace("/", "/msg/", 1)
            self.topics.setdefault(name, Topic(name, kind_of, definition, language, _text(rest)[0]))
        elif kind == MESSAGE:
            channel, _, time, _ = MESSAGE_HEAD.unpack_from(record)
            if channel in self._names:
                head = MESSAGE_HEAD.size
                position = Position(chunk, start + head, len(record) - head)
                yield Message(self._names[channel], time, position, record[head:])

    def _unpack(self, start: int, size: int) -> bytes | memoryview:
        record = self.file.bytes[start : start + size]
        _, _, unpacked, _ = CHUNK_HEAD.unpack_from(record)
        compression, rest = _text(record[CHUNK_HEAD.size :])
        (packed,) = struct.unpack_from("<Q", rest)
        return unpack_chunk(rest[8 : 8 + packed], compression, unpacked)


def records(content: memoryview, at: int) -> Iterator[tuple[int, int, int]]:
    """Kind of each record, and where its content begins and how many bytes it has.

    Raises:
        StorageError: the bytes end within a record.
    """
    while at < len(content):
        if at + RECORD.size > len(content) or content[at:] == MAGIC:
            break
        kind, size = RECORD.unpack_from(content, at)
        start = at + RECORD.size
        if start + size > len(content):
            raise StorageError(f"cut off after {at} bytes")
        yield kind, start, size
        at = start + size


def _u16(record: memoryview) -> int:
    return struct.unpack_from("<H", record)[0]


def _text(record: memoryview) -> tuple[str, memoryview]:
    """A text behind its length, and what follows."""
    (length,) = struct.unpack_from("<I", record)
    return bytes(record[4 : 4 + length]).decode(errors="replace"), record[4 + length :]
