"""What a run reads: a recording, whole or at its own pace, or a live camera."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape

from gradslam_ng.cameras import LatestFrames, LiveSequence, at_own_pace, is_camera, open_camera
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.recording import RecordingOptions, describe
from gradslam_ng.commands.settings import parse_frames
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.sequence import RGBDSequence

# Options that mean nothing to a camera
OF_FILES = ("intrinsics", "depth_scale", "topics", "noise", "strict", "prior", "prior_extrinsics")


class Incoming(NamedTuple):
    """A sequence, what is odd about it, and its frames as they come; None where it is read as fast as it can be."""

    sequence: RGBDSequence
    findings: list[Finding]
    frames: LatestFrames | None

    @property
    def length(self) -> int | None:
        """Frames in all, where that is known."""
        return None if isinstance(self.sequence, LiveSequence) else len(self.sequence)

    def describe(self) -> str:
        """What was found, in one line."""
        if self.length is not None:
            return describe(self.sequence)
        height, width = self.sequence.size
        return f"{self.sequence.name}: {self.sequence.layout}, live, frames of {width}x{height}; Ctrl-C ends the run"


@contextmanager
def open_source(source: str, recording: RecordingOptions, realtime: bool, console: Console) -> Iterator[Incoming]:
    """A recording or a camera, which is closed at the end. Says what it is, and what is odd about it.

    Raises:
        UsageError: an option that means nothing to a camera, or out of range.
        RefusedError: see `RecordingOptions.inspect`.
        CameraError, FileNotFoundError, ValueError: see `open_camera` and `datasets.load`.
    """
    if not is_camera(source):
        sequence = recording.load(source)
        findings = recording.inspect(source, sequence, console)
        yield Incoming(sequence, findings, LatestFrames(at_own_pace(sequence)) if realtime else None)
        return
    given = [name for name in OF_FILES if getattr(recording, name)]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{source}: {names} means nothing to a camera, which tells what it is")
    chosen = parse_frames(recording.frames)
    if min(chosen.start or 0, chosen.stop or 0) < 0:
        raise UsageError(f"frames: expected numbers from the first one on for a camera, got {recording.frames!r}")
    with open_camera(source) as camera:
        live = LiveSequence(camera)
        frames = islice(live.frames(), chosen.start, chosen.stop, chosen.step)
        incoming = Incoming(live, [], LatestFrames(frames))
        console.print(escape(incoming.describe()), soft_wrap=True)
        yield incoming
