"""Statistics of a sequence, and warnings for what is odd about it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.datasets.files import FileSequence
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.geometry import se3, so3

GAP = 1.5  # intervals between frames longer than this many usual ones
DEPTH_RANGE = (0.15, 15.0)  # meters: a median depth outside is not what RGB-D cameras in rooms see
FEW_VALID = 0.3  # share of the pixels with depth
FEW_BEYOND = 0.01  # share of the pixels with depth beyond the sensor's range, not worth a warning
SPEED = (5.0, 8.0)  # m/s and rad/s: faster is no hand-held camera but a jump of the ground truth
OFF_CENTER = 0.15  # distance of the principal point from the image's center, in image sizes


@dataclass(frozen=True)
class Depth:
    """Depth as recorded, meters, over a sample of frames; `valid` is the share of pixels that have any, `beyond` that
    of pixels whose depth is left out of frames, since it is beyond the sequence's `max_depth`."""

    min: float
    median: float
    max: float
    valid: float
    beyond: float


@dataclass(frozen=True)
class Info:
    """What `info` found. Rates in frames a second, lengths in meters, times in seconds."""

    name: str
    layout: str
    frames: int
    size: tuple[int, int]  # height and width
    duration: float
    rate: float
    K: list[list[float]]
    depth_scale: float | None  # units of the depth files in a meter
    depth: Depth | None  # None where no sampled frame could be read
    sampled: int
    posed: int | None  # frames with a ground truth pose; None where the sequence has no ground truth
    path: float | None  # length of the ground truth over the frames
    notes: list[str]
    warnings: list[str]


def info(sequence: RGBDSequence, sample: int = 20) -> Info:
    """Facts and warnings about a sequence; depth is read from `sample` frames spread over it."""
    steps = sequence.timestamps.diff()
    duration = float(sequence.timestamps[-1] - sequence.timestamps[0])
    depth, sampled, warnings = _depth(sequence, sample)
    posed, path, truth_warnings = _ground_truth(sequence)
    return Info(
        name=sequence.name,
        layout=sequence.layout,
        frames=len(sequence),
        size=sequence.size,
        duration=duration,
        rate=1 / float(steps.median()) if len(steps) and steps.median() > 0 else 0.0,
        K=sequence.K.tolist(),
        depth_scale=sequence.depth_scale,
        depth=depth,
        sampled=sampled,
        posed=posed,
        path=path,
        notes=list(sequence.notes),
        warnings=_files(sequence) + _times(sequence.timestamps) + _camera(sequence) + warnings + truth_warnings,
    )


def _files(sequence: RGBDSequence) -> list[str]:
    """Missing images."""
    if not isinstance(sequence, FileSequence):
        return []
    found = []
    for kind, files in (("color", sequence.color), ("depth", sequence.depth)):
        missing = [files[i] for i in sequence.indices if not files[i].is_file()]
        if missing:
            found.append(f"{len(missing)} {kind} files are missing, the first is {missing[0]}")
    return found


def _times(timestamps: Tensor) -> list[str]:
    """Gaps and repetitions in time."""
    steps = timestamps.diff()
    if len(steps) == 0:
        return ["only one frame"]
    found = []
    usual = steps.median()
    gaps = steps > GAP * usual
    if bool(gaps.any()):
        at = int(steps.argmax())
        found.append(
            f"{int(gaps.sum())} gaps in time, the longest {float(steps[at]):.3f} s after frame {at} "
            f"(usually {float(usual):.3f} s)"
        )
    if bool((steps == 0).any()):
        found.append(f"{int((steps == 0).sum())} frames have the time stamp of the frame before")
    return found


def _camera(sequence: RGBDSequence) -> list[str]:
    """A camera that does not look like that of these images, such as one for another image size."""
    height, width = sequence.size
    center = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    offset = (sequence.K[:2, 2] - center).abs() / torch.tensor([width, height])
    if bool((offset > OFF_CENTER).any()):
        cx, cy = sequence.K[:2, 2].tolist()
        return [f"principal point ({cx:.1f}, {cy:.1f}) is off the center of {width}x{height}: K of another image size?"]
    return []


def _depth(sequence: RGBDSequence, sample: int) -> tuple[Depth | None, int, list[str]]:
    """Statistics of the sampled frames, how many were read, and warnings."""
    picked = torch.linspace(0, len(sequence) - 1, min(sample, len(sequence))).round().long().unique().tolist()
    measured, pixels, beyond, failed = [], 0, 0, []
    for index in picked:
        try:
            _, image = sequence.read(sequence.indices[index])
        except FrameError as error:
            failed.append(error)
            continue
        measured.append(image[image > 0])
        pixels, beyond = pixels + image.numel(), beyond + int((image > sequence.max_depth).sum())
    found = [f"{len(failed)} of {len(picked)} sampled frames cannot be read, the first: {failed[0]}"] if failed else []
    values = torch.cat(measured) if measured else torch.zeros(0)
    if beyond > FEW_BEYOND * pixels:
        far = f"{sequence.max_depth:g} m, the greatest depth that counts (max_depth), and are left out"
        found.append(f"{beyond / pixels:.1%} of the pixels have depth beyond {far}")
    if len(values) == 0:
        return None, len(measured), [*found, "no depth in the sampled frames"]
    depth = Depth(
        float(values.min()), float(values.median()), float(values.max()), len(values) / pixels, beyond / pixels
    )
    if not DEPTH_RANGE[0] <= depth.median <= DEPTH_RANGE[1]:
        scale = "" if sequence.depth_scale is None else f"; is the depth unit 1/{sequence.depth_scale:g} m?"
        found.append(f"median depth of {depth.median:.3g} m is unusual{scale}")
    if depth.valid < FEW_VALID:
        found.append(f"only {depth.valid:.0%} of the pixels have depth")
    return depth, len(measured), found


def _ground_truth(sequence: RGBDSequence) -> tuple[int | None, float | None, list[str]]:
    """Frames with a pose, length of the path, and warnings."""
    if sequence.T_wc is None:
        return None, None, []
    known = sequence.T_wc.isfinite().all(-1).all(-1)
    count = int(known.sum())
    if count == 0:
        return 0, 0.0, ["no frame has a ground truth pose: its times and those of the frames do not meet"]
    found = []
    T_wc, times = sequence.T_wc[known], sequence.timestamps[known]
    if not bool(se3.is_rigid(T_wc).all()):
        found.append(f"{int((~se3.is_rigid(T_wc)).sum())} ground truth poses are not rigid motions")
    moved = T_wc[:, :3, 3].diff(dim=0).norm(dim=-1)
    turned = so3.log(T_wc[:-1, :3, :3].mT @ T_wc[1:, :3, :3]).norm(dim=-1)
    elapsed = times.diff().clamp(min=1e-3)
    jumps = (moved / elapsed > SPEED[0]) | (turned / elapsed > SPEED[1])
    if bool(jumps.any()):
        first = known.nonzero().flatten()[1:][jumps][0]
        found.append(f"the ground truth jumps {int(jumps.sum())} times, first before frame {int(first)}")
    return count, float(moved.sum()), found
