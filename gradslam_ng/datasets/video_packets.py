"""Packets of a video file, undecoded: images that are whole by themselves, such as JPEG and raw depth (by PyAV)."""

from __future__ import annotations

import importlib.util
import os
import threading
from pathlib import Path
from typing import Any

AHEAD = 30  # packets of the stream that are passed over rather than sought
KEPT = 32  # packets, for threads that ask a little out of order


def require_av(what: str) -> None:
    """ImportError in one line where PyAV is not installed."""
    if importlib.util.find_spec("av") is None:
        raise ImportError(f"av is needed to read {what}: pip install gradslam_ng[mkv]")


class VideoPackets:
    """The packets of the streams of a file by number; may be used by several threads, copied, and pickled.

    Raises:
        ValueError: a file that cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._process = -1
        self._readers: dict[int, Any] = {}  # of streams: packets that come
        self._kept: dict[tuple[int, int], bytes] = {}
        self.times: dict[int, list[float]] = {}  # seconds, by stream
        self.stamps: dict[int, list[int]] = {}  # in the stream's unit
        self.is_whole = True
        self._index()

    def _open(self) -> Any:
        import av

        try:
            return av.open(str(self.path))
        except (av.FFmpegError, OSError) as error:
            raise ValueError(f"{self.path}: not a readable video: {error.strerror or error}") from error

    def _index(self) -> None:
        import av

        with self._open() as file:
            self.streams = {s.index: dict(s.metadata) for s in file.streams.video}
            self.sizes = {s.index: (s.height, s.width) for s in file.streams.video}
            self.codecs = {s.index: s.codec_context.name for s in file.streams.video}
            self.attachments = {s.name: s.data for s in file.streams if s.type == "attachment"}
            self.tags = dict(file.metadata)
            try:
                self._index_packets(file)
            except (av.FFmpegError, OSError):
                self.is_whole = False

    def _index_packets(self, file: Any) -> None:
        for packet in file.demux(file.streams.video):
            if packet.pts is not None and packet.size:
                self.times.setdefault(packet.stream.index, []).append(float(packet.pts * packet.time_base))
                self.stamps.setdefault(packet.stream.index, []).append(packet.pts)

    def read(self, stream: int, number: int) -> bytes:
        """A packet's bytes; ValueError where it cannot be read."""
        import av

        key = stream, self.stamps[stream][number]
        with self._lock:
            if self._process != os.getpid():
                self._readers, self._kept, self._process = {}, {}, os.getpid()
            if key not in self._kept:
                try:
                    self._advance(stream, number)
                except (av.FFmpegError, OSError) as error:
                    raise ValueError(f"{self.path.name}: {error}") from error
            if key not in self._kept:
                raise ValueError(f"{self.path.name}: no packet at {self.times[stream][number]:.3f} s")
            return self._kept[key]

    def _advance(self, stream: int, number: int) -> None:
        """Pass over packets to the one asked for; each stream has a reader of its own."""
        stamp = self.stamps[stream][number]
        file, packets, passed = self._readers.get(stream, (None, None, -1))
        if file is None or not passed < number <= passed + AHEAD:
            file = self._open() if file is None else file
            file.seek(stamp, stream=file.streams[stream], backward=True, any_frame=True)
            packets = file.demux(file.streams[stream])
        for packet in packets:
            if packet.pts is None or packet.pts > stamp:
                break
            self._kept[stream, packet.pts] = bytes(packet)
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
            if packet.pts == stamp:
                break
        self._readers[stream] = file, packets, number

    def __reduce__(self) -> tuple:
        return VideoPackets, (self.path,)
