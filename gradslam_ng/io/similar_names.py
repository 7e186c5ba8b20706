"""Names like one that is not there, for messages about it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

MOST_NAMES = 5000  # of a folder that are compared; larger ones hold frames, which nobody types
MOST_TOLD = 3
CUTOFF = 0.7  # of difflib's ratio


def similar(name: str, known: Iterable[str], most: int = MOST_TOLD, cutoff: float = CUTOFF) -> list[str]:
    """Known names like another, the likest first."""
    return difflib.get_close_matches(name, sorted(known), most, cutoff)


def meant(name: str, known: Iterable[str], most: int = MOST_TOLD, cutoff: float = CUTOFF) -> str:
    """The end of a message about a name that is not known: those that are and are like it; nothing without."""
    return _tell(similar(name, known, most, cutoff))


def meant_path(path: Path) -> str:
    """The end of a message about a path that does not exist: names in its folder that are like it, nothing without."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, MOST_NAMES)]
    except OSError:
        return ""
    return _tell([str(path.with_name(name)) for name in similar(path.name, names)])


def _tell(names: list[str]) -> str:
    return f"; perhaps you meant {' or '.join(names)}" if names else ""
