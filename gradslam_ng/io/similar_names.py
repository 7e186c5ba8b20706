"""Names like one that is not there, for messages about it."""

from __future__ import annotations

import difflib
import os
from itertools import islice
from pathlib import Path

MOST_NAMES = 5000  # of a folder that are compared; larger ones hold frames, which nobody types


def like_it(path: Path) -> str:
    """The end of a message about a path that does not exist: names in its folder that are like it, nothing without."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, MOST_NAMES)]
    except OSError:
        return ""
    found = difflib.get_close_matches(path.name, sorted(names), n=3, cutoff=0.7)
    return f"; like it: {', '.join(str(path.with_name(name)) for name in found)}" if found else ""
