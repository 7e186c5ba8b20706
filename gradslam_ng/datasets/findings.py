"""What is odd about a recording: findings, each with a severity, a code and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["note", "warning", "error"]


class RecordingWarning(UserWarning):
    """A recording was read, but something about it is questionable."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    A note is worth knowing; a warning is probably wrong; with an error the results cannot be right.
    """

    severity: Severity
    code: str  # what it concerns and what it is, such as "camera.assumed"
    message: str  # one sentence

    @property
    def is_serious(self) -> bool:
        """Whether a run that must not go wrong should stop here."""
        return self.severity != "note"

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}"


def unfinished(name: str, told: int, there: int) -> list[Finding]:
    """That a file tells of another number of frames than are whole in it, if it does."""
    if told == there:
        return []
    text = f"{name} tells of {told} frames, {there} whole ones are there"
    return [Finding("warning", "files.unfinished", text)]
