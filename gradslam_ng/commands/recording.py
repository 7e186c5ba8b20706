"""A recording as the commands load it, and what they say about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape

from gradslam_ng import datasets
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.datasets.camera_files import camera_path
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.intrinsics import parse_intrinsics
from gradslam_ng.datasets.sampling import sample_frames
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.datasets.validation import FAR, validate
from gradslam_ng.viz.scene_files import read_metrics

CameraOption = Annotated[str | None, tyro.conf.arg(name="camera", aliases=["--intrinsics"])]
Topics = Annotated[str | None, tyro.conf.arg(metavar="COLOR,DEPTH", help_behavior_hint="(bags only)")]
COLORS = {"note": "cyan", "warning": "yellow", "error": "red"}
SAMPLED = 8  # frames that are looked at before a run


def load(
    source: str, *, intrinsics: str | None, depth_scale: float | None, max_depth: float | None, **options
) -> RGBDSequence:
    """The recording, what is questionable about it in its findings; what is None is left to the loader.

    Raises:
        UsageError: an option out of range.
        FileNotFoundError, ValueError: see `datasets.load`.
    """
    if intrinsics is not None and camera_path(intrinsics) is None:
        try:
            parse_intrinsics(intrinsics, y_up=True)
        except ValueError as error:
            raise UsageError(str(error)) from None
    if depth_scale is not None:
        if not 0 < depth_scale < float("inf"):
            raise UsageError(f"depth_scale: expected a positive number of units in a meter, got {depth_scale:g}")
        options["depth_scale"] = depth_scale
    if max_depth is not None and not max_depth > 0:
        raise UsageError(f"max_depth: expected a positive number of meters, got {max_depth:g}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return datasets.load(source, intrinsics=intrinsics, max_depth=max_depth, **options)


def inspect(sequence: RGBDSequence) -> list[Finding]:
    """What is odd about a recording; of rendered scenes, whose images are right, none is looked at."""
    count = SAMPLED if sequence.is_recorded else 0
    return validate(sequence, sample_frames(sequence, count, FAR))


def describe(sequence: RGBDSequence) -> str:
    """What was found, in one line."""
    height, width = sequence.size
    seconds = float(sequence.timestamps[-1] - sequence.timestamps[0])
    return f"{sequence.name}: {sequence.layout}, {len(sequence)} frames of {width}x{height}, {seconds:.1f} s"


def print_findings(findings: list[Finding], console: Console) -> None:
    """Print one line for each."""
    for finding in findings:
        color = COLORS[finding.severity]
        console.print(f"[{color}]{finding.severity}:[/{color}] {escape(finding.message)}", soft_wrap=True)


def image_reader(sequence: RGBDSequence) -> Callable[[float], np.ndarray | None]:
    """Function (seconds) -> the color image (H, W, 3) uint8 of the frame of that time, None where it cannot be read."""

    def read(seconds: float) -> np.ndarray | None:
        index = int((sequence.timestamps - seconds).abs().argmin())
        try:
            return (sequence[index].color.clamp(0, 1) * 255).byte().numpy()
        except (FrameError, OSError, ValueError):
            return None

    return read


def load_recording(folder: Path) -> RGBDSequence:
    """The recording that the run in a folder was of.

    Raises:
        FileNotFoundError, ValueError: no run is in the folder, or the recording is no longer where it was.
    """
    settings = read_metrics(folder)["settings"]
    names = ("intrinsics", "depth_scale", "max_depth")
    options = {name: settings[name] for name in ("topics",) if settings.get(name)}
    return load(settings["source"], **{name: settings[name] for name in names}, **options)
