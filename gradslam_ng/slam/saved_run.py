"""A run on disk: written now and then while it goes on, and taken up again where it was left."""

from __future__ import annotations

import importlib.metadata
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.io.tensor_tree import load_about, save_tree
from gradslam_ng.odometry import TrackingResult
from gradslam_ng.places.features import FeatureFrame, LocalFeatures
from gradslam_ng.places.keyframes import Keyframes
from gradslam_ng.places.search_turns import SearchTurns
from gradslam_ng.slam.link_search import Link
from gradslam_ng.slam.loop_closure import LoopClosure
from gradslam_ng.slam.recovery import TrackedFrame
from gradslam_ng.slam.state import State
from gradslam_ng.slam.submaps import Record
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, RGBDFrames, SurfaceView, SurfelMap, VoxelGrid

log = logging.getLogger("gradslam_ng")

FORMAT = 6  # of the tree that `Stream.saved` makes
SAVE_EVERY = 30.0  # seconds
SHARE = 0.05  # of the time of a run that may go to writing it
SAVED_TYPES: tuple[type, ...] = (
    State,
    SurfelMap,
    VoxelGrid,
    TrackingResult,
    LiveFrame,
    SurfaceView,
    RGBDFrames,
    Record,
    Link,
)
SAVED_TYPES += (TrackedFrame, Keyframes, FeatureFrame, LocalFeatures, SearchTurns)
torch.serialization.add_safe_globals([*SAVED_TYPES])  # what torch.save writes of a state, torch.load reads as it is
NAMED = int | float | str | tuple | None  # settings that are told by their value


class StateWriter:
    """Writes the state of a run to a file every so often, and after its last frame.

    A file that cannot be written costs a warning, not the run.

    Args:
        path: of the file, which is replaced at once.
        seconds: between two of them, at least; longer where writing takes long, see `SHARE`. 0: after every frame.
        about: what is written beside the state, for `json.dumps`.
    """

    def __init__(self, path: Path, *, seconds: float = SAVE_EVERY, about: dict[str, Any] | None = None) -> None:
        self.path, self.seconds, self.about = path, seconds, about or {}
        self.due = time.monotonic() + seconds
        self.is_written = True  # as far as it was tried

    def after_frame(self, saved: Callable[[], Any], about: dict[str, Any]) -> None:
        """Write what `saved` returns where it is time to."""
        if time.monotonic() >= self.due:
            self.save(saved, about)

    def save(self, saved: Callable[[], Any], about: dict[str, Any]) -> None:
        """Write what `saved` returns now."""
        began = time.monotonic()
        try:
            save_tree(self.path, saved(), about | self.about)
            self.is_written = True
        except OSError as error:
            self.is_written = False
            log.warning("the state of the run was not saved: %s: cannot be written: %s", self.path, error.strerror)
        spent = time.monotonic() - began
        self.due = time.monotonic() + (max(self.seconds, spent / SHARE) if self.seconds else 0.0)


def describe_run(system: System, sequence: RGBDSequence, loops: LoopClosure | None) -> dict[str, Any]:
    """What a run must have in common with the one whose state it takes up."""
    return {
        "format": FORMAT,
        "version": importlib.metadata.version("gradslam_ng"),
        "system": type(system).__name__,
        "settings": settings_of(system),
        "loops": None if loops is None else type(loops).__name__,
        "sequence": describe_sequence(sequence),
    }


def describe_sequence(sequence: RGBDSequence) -> dict[str, Any]:
    """By what a recording is known again."""
    first, last = (float(sequence.timestamps[i]) for i in (0, -1)) if len(sequence.timestamps) else (0.0, 0.0)
    K = [round(value, 3) for value in sequence.K.flatten().tolist()]
    return {"frames": len(sequence), "size": list(sequence.size), "times": [first, last], "K": K}


def settings_of(system: System) -> dict[str, str]:
    """What a system and its parts were made with: numbers and names, and of what else there is the kind."""
    parts = {"": system, "odometry.": system.odometry, "mapping.": system.mapper, "settings.": system.settings}
    found = {name: repr(value.flatten().tolist()) for name, value in system.named_parameters()}
    for where, part in parts.items():
        for name, value in vars(part).items():
            if name[0] != "_":
                found[where + name] = repr(value) if isinstance(value, NAMED) else type(value).__name__
    return found


def read_about(path: Path) -> dict[str, Any]:
    """What is told of the state in a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no state, or one of another version.
    """
    about = load_about(path)
    if about.get("format") != FORMAT:
        raise ValueError(f"{path}: expected a state of this version, format {FORMAT}, got {about.get('format')}")
    return about


def check_run(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """What is told of the state in a file, which must go with a run, see `describe_run`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no state, or one of another version, system, setting or recording; says what differs.
    """
    about = read_about(path)
    for name, wanted in expected.items():
        found = about.get(name)
        if found == wanted:
            continue
        if isinstance(found, dict) and isinstance(wanted, dict):
            differ = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            name, found, wanted = f"{name}, {differ[0]}", found.get(differ[0]), wanted.get(differ[0])
        raise ValueError(f"{path}: the state of another run: {name} was {found}, and is {wanted}")
    return about
