"""`gradslam-ng calibrate SOURCE --out camera.json`: the cameras of a recording from nothing but its images."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradslam_ng.calibration import Calibration, Scale, calibrate_sequence
from gradslam_ng.calibration.calibrate import rounds
from gradslam_ng.calibration.camera_file import describe_cameras
from gradslam_ng.calibration.cameras import COLOR, DEPTH, MOTION, NAMES, CameraPair
from gradslam_ng.commands.console import CountingBar, WorkConsole
from gradslam_ng.commands.errors import UnreliableError, UsageError
from gradslam_ng.commands.progress import run_with_progress
from gradslam_ng.commands.recording import RecordingOptions
from gradslam_ng.commands.run_folder import check_writable
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.geometry import so3
from gradslam_ng.io.atomic import write_whole
from gradslam_ng.slam import Result
from gradslam_ng.slam.stream import Stream, StreamingSystem

Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
MIN_KEYFRAMES, MAX_KEYFRAMES = 6, 60
# Of each unknown the unit that it is shown in, how many of it there are in ours, and digits
PIXELS, INVERSE, MILLIMETERS, DEGREES = ("px", 1.0, 2), ("1/m", 1.0, 5), ("mm", 1e3, 1), ("degrees", 180 / math.pi, 3)
GROUPS = ((DEPTH[:4], PIXELS), (DEPTH[4:], INVERSE), (COLOR, PIXELS), (MOTION[:3], MILLIMETERS), (MOTION[3:], DEGREES))
UNITS = {name: unit for names, unit in GROUPS for name in names} | {"time offset": ("ms", 1e3, 2)}
RELATIVE = ("fx", "fy", "color fx", "color fy")


def calibrate(
    source: Source,
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")],
    recording: Annotated[RecordingOptions, tyro.conf.OmitArgPrefixes],
    keyframes: int = 24,
) -> None:
    """Find focal lengths, centers, depth distortion, and how color lies on depth in space and time, from a recording.

    Args:
        source: Folder of a sequence, or synthetic:NAME.
        out: Camera file (JSON) to write, for run --camera.
        keyframes: Views that take part, at most.
    """
    if out.suffix.lower() != ".json":
        raise UsageError(f"out: expected a file that ends in .json, got {out}")
    if not MIN_KEYFRAMES <= keyframes <= MAX_KEYFRAMES:
        raise UsageError(f"keyframes: expected {MIN_KEYFRAMES} to {MAX_KEYFRAMES}, got {keyframes}")
    check_writable(out.parent)
    console = WorkConsole()
    sequence = recording.load(source)
    recording.inspect(source, sequence, console)
    found = _calibrate(sequence, keyframes, console)
    console.print(_table(found, str(out)))
    console.print(_say_scale(found, sequence), soft_wrap=True, markup=False)
    if found.is_as_told:
        reason = (
            "nothing to change: halves of it differ from each other by as much as from what is told, or tell nothing"
        )
        raise UnreliableError(f"{source}: {reason}; nothing is written")
    if not found.is_better:
        reason = "pairs of frames that took no part fit no better with the cameras found"
        raise UnreliableError(f"{source}: {reason}; nothing is written")
    if found.astray:
        reason = f"{', '.join(found.astray)}: found farther from what was told than any device is off"
        raise UnreliableError(f"{source}: {reason}; nothing is written")
    write_whole(out, json.dumps(describe_cameras(found, sequence), indent=2) + "\n")
    console.print(f"{out}: written, for run --camera", soft_wrap=True, markup=False)


def _calibrate(sequence: RGBDSequence, keyframes: int, console: Console) -> Calibration:
    """With a bar for each run over the frames, and one for the refinement."""
    refined = CountingBar("refined", console=console, total=rounds(), say="refined {} of {} times".format)
    done = itertools.count(1)

    def track(system: StreamingSystem, frames: RGBDSequence) -> Result:
        refined.stop()
        stream = Stream(system, sequence=frames, on_frame=None, compile=False, loops=None)
        result = run_with_progress(stream, console, handlers=[], total=len(frames))
        refined.start()
        return result

    try:
        return calibrate_sequence(sequence, keyframes=keyframes, track=track, on_round=lambda: refined.tell(next(done)))
    finally:
        refined.stop()


def _say_scale(found: Calibration, sequence: RGBDSequence) -> str:
    """What is to be known of the scale of depth."""
    if found.scale is None:
        return (
            "scale of depth: images do not tell it, those of a larger world with a longer way are the same; poses in "
            "meters do, with --prior FILE"
        )
    if sequence.depth_scale is None:
        return "scale of depth: not written, since this recording's depth has no units to tell it by"
    return f"scale of depth: by the poses of --prior, {sequence.depth_scale / found.scale.factor:g} units in a meter"


def _table(found: Calibration, title: str) -> Table:
    """What was told and what was found, with standard deviations; and what the recording does not tell."""
    table = Table("", "told", "found", "standard deviation", title=escape(title))
    values = _numbers(found.told), _numbers(found.cameras), found.sigma.tolist()
    for name, told, value, sigma in zip(NAMES, *values, strict=True):
        unit, factor, digits = UNITS[name]
        relative = abs(value) if name in RELATIVE else 1.0  # focal lengths, whose tangent is a logarithm
        spread = "not determined" if sigma == math.inf else f"{factor * sigma * relative:.{digits}f}"
        shown = (f"{factor * number:.{digits}f}" for number in (told, value))
        table.add_row(f"{name}, {unit}", *shown, spread)
    scale = found.scale or Scale(1.0, math.inf)
    spread = "not determined" if scale.sigma == math.inf else f"{scale.sigma:.5f}"
    table.add_row("scale of depth", "1", f"{scale.factor:.5f}" if found.scale else "1", spread)
    for name, (told, value) in found.misfit.items():
        table.add_row(f"misfit of {name}", f"{told:.4g}", f"{value:.4g}", "")
    return table


def _numbers(cameras: CameraPair) -> list[float]:
    """The values of `NAMES`; of rotations the rotation vector."""
    K, K_color, T = cameras.K_depth, cameras.K_color, cameras.T_color_depth
    intrinsics = [[float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])] for k in (K, K_color)]
    motion = [*T[:3, 3].tolist(), *so3.log(T[:3, :3]).tolist()]
    return [*intrinsics[0], *cameras.depth_distortion.tolist(), *intrinsics[1], *motion, float(cameras.time_offset)]
