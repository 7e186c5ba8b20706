"""ROS 2 bags in SQLite (`.db3`), also RealSense's."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from gradslam_ng.datasets.bags.storage import Message, Position, StorageError, Topic, unpack_zstd

MAGIC = b"SQLite format 3\0"
ZSTD = b"\x28\xb5\x2f\xfd"  # how a message begins that was packed by itself


class _Connection(threading.local):
    """The open database of a thread, and the process that opened it: neither can be shared."""

    process = -1
    database: sqlite3.Connection


class SqliteFile:
    """One `.db3`; a message that was packed by zstandard is unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.topics: dict[str, Topic] = {}
        self._connection = _Connection()
        journal = path.with_name(f"{path.name}-wal")
        if journal.is_file() and journal.stat().st_size:
            self.problems.append(f"its journal, {journal.name}, is not read")
        try:
            self.topics = {topic.name: topic for topic in self._read_topics()}
        except sqlite3.Error as error:
            raise StorageError(f"{path}: expected a ROS 2 bag in SQLite: {error}") from error

    @staticmethod
    def recognizes(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC

    def messages(self) -> Iterator[Message]:
        """Every message that can be read, in order of time."""
        query = "SELECT messages.id, topics.name, timestamp, data FROM messages JOIN topics ON topics.id = topic_id"
        try:
            for number, name, time, data in self._database().execute(f"{query} ORDER BY timestamp"):
                yield Message(name, int(time), Position(-1, number, len(data)), _unpacked(data))
        except sqlite3.Error as error:
            self.problems.append(str(error))

    def read(self, position: Position) -> bytes | memoryview:
        """The message at a position."""
        try:
            row = self._database().execute("SELECT data FROM messages WHERE id = ?", (position.start,)).fetchone()
        except sqlite3.Error as error:
            raise StorageError(str(error)) from error
        if row is None:
            raise StorageError(f"no message {position.start}")
        return _unpacked(row[0])

    def _database(self) -> sqlite3.Connection:
        if self._connection.process != os.getpid():
            # as it lies there: no journal is looked for, and nothing written
            address = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
            self._connection.database = sqlite3.connect(address, uri=True, check_same_thread=False)
            self._connection.process = os.getpid()
        return self._connection.database

    def _read_topics(self) -> list[Topic]:
        database = self._database()
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"messages", "topics"} <= tables:
            raise StorageError(f"{self.path}: expected a ROS 2 bag, got a database without messages and topics")
        definitions = {}
        if "message_definitions" in tables:
            rows = database.execute("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions")
            definitions = {kind: (text, language) for kind, language, text in rows}
        rows = database.execute("SELECT name, type, serialization_format FROM topics")
        return [Topic(n, kind, *definitions.get(kind, ("", "ros2msg")), encoding) for n, kind, encoding in rows]

    def __reduce__(self) -> tuple:
        return SqliteFile, (self.path,)


def _unpacked(data: bytes) -> bytes:
    return unpack_zstd(data) if data[:4] == ZSTD else data
