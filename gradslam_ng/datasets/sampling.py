"""A sample of a sequence's frames, reduced to what tells whether they are what they should be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.geometry import camera, se3, so3

PAIRS = 3  # of frames, that poses are held against
MOVED, TURNED = 0.05, math.radians(5)  # share of the depth, radians: from where a motion shows in depth
NEXT = 60  # frames within which the other of a pair is looked for
GRID = 40  # points across an image that are compared


@dataclass(frozen=True)
class DepthStatistics:
    """Depth as recorded, meters, over a sample of frames."""

    min: float
    median: float
    max: float
    valid: float  # share of the pixels that have any
    beyond: float  # share of the pixels whose depth is left out of frames, since it is beyond the `max_depth`
    far: float  # share of the pixels with depth from beyond any sensor's range


@dataclass(frozen=True)
class Sample:
    """Frames picked over a sequence."""

    picked: int  # of these, how many were asked for
    failed: tuple[FrameError, ...]  # those that could not be read
    depth: DepthStatistics | None  # None where no frame has any
    constant_depth: int  # frames whose measurements are all the same
    constant_color: int  # frames that are of one color throughout
    brightness: float  # mean of color, 0 to 1, NaN where nothing was read
    color_range: tuple[float, float]  # smallest and largest value, NaN where one is not finite
    repeated: int  # frames that are equal to the one picked before
    repeated_color: int  # of whose images color alone is, and not all of one value
    repeated_depth: int  # of whose images depth alone is, and not all of one value
    pose_errors: tuple[tuple[float, float], ...]  # see `_pose_errors`

    @property
    def read(self) -> int:
        """Frames that could be read."""
        return self.picked - len(self.failed)


def sample_frames(sequence: RGBDSequence, count: int, far: float) -> Sample:
    """Up to `count` frames spread evenly over a sequence. Depth is far from beyond `far` meters."""
    picked = torch.linspace(0, len(sequence) - 1, min(count, len(sequence))).round().long().unique().tolist()
    failed, readable = [], {}
    for index in picked:
        try:
            readable[index] = sequence.read(sequence.indices[index])
        except FrameError as error:
            failed.append(error)
    frames = list(readable.values())
    depths = [depth[depth > 0] for _, depth in frames]
    same = [tuple(map(_repeats, a, b)) for a, b in itertools.pairwise(frames)]
    colors = torch.tensor([[float(c.min()), float(c.max()), float(c.mean())] for c, _ in frames]).reshape(-1, 3)
    return Sample(
        picked=len(picked),
        failed=tuple(failed),
        depth=_statistics(depths, sum(depth.numel() for _, depth in frames), sequence.max_depth, far),
        constant_depth=sum(len(values) > 1 and bool((values == values[0]).all()) for values in depths),
        constant_color=sum(bool((color == color[:1, :1]).all()) for color, _ in frames),
        brightness=float(colors[:, 2].mean()),
        color_range=(float(colors[:, 0].amin()), float(colors[:, 1].amax())) if frames else (0.0, 1.0),
        repeated=sum(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in itertools.pairwise(frames)),
        repeated_color=same.count((True, False)),
        repeated_depth=same.count((False, True)),
        pose_errors=tuple(_pose_errors(sequence, {index: depth for index, (_, depth) in readable.items()})),
    )


def _pose_errors(sequence: RGBDSequence, depths: dict[int, Tensor]) -> Iterator[tuple[float, float]]:
    """Of some frames by how much depth (H, W, 1) is off in a frame soon after, median, as a share of it: by the ground
    truth, and as if the camera had stood still."""
    if sequence.T_wc is None:
        return
    K, still = sequence.K.double(), torch.eye(4, dtype=torch.float64)
    for first in list(depths)[:: max(1, len(depths) // PAIRS)][:PAIRS]:
        depth = depths[first].double()
        other = _moved(sequence, first, float(depth[depth > 0].median()) if bool((depth > 0).any()) else math.nan)
        if other is None:
            continue
        try:
            seen = sequence.read(sequence.indices[other])[1].double()
        except FrameError:
            continue
        T = se3.inverse(sequence.T_wc[other]) @ sequence.T_wc[first]
        errors = _depth_error(depth, seen, K, T), _depth_error(depth, seen, K, still)
        if not any(map(math.isnan, errors)):
            yield errors


def _moved(sequence: RGBDSequence, first: int, depth: float) -> int | None:
    """The next frame whose pose is known and differs enough, of a scene so far away, meters; None where none is."""
    assert sequence.T_wc is not None
    T = se3.inverse(sequence.T_wc[first]) @ sequence.T_wc[first + 1 : first + 1 + NEXT]
    enough = (T[:, :3, 3].norm(dim=-1) > MOVED * depth) | (so3.log(T[:, :3, :3]).norm(dim=-1) > TURNED)
    found = enough.nonzero().flatten().tolist()
    return first + 1 + found[0] if found else None


def _depth_error(depth: Tensor, seen: Tensor, K: Tensor, T: Tensor) -> float:
    """By how much depth (H, W, 1) is off in a camera at T, which sees (H, W, 1): median, as a share; NaN if unknown."""
    height, width, _ = depth.shape
    stride = max(1, width // GRID)
    points = camera.unproject(depth, K)[::stride, ::stride][depth[::stride, ::stride, 0] > 0]
    uv, z = camera.project(se3.transform(T, points), K)
    column, row = uv.round().long().unbind(-1)
    inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    z, measured = z[inside], seen[row[inside], column[inside], 0]
    return float(((z - measured).abs() / z)[measured > 0].nanmedian())


def _repeats(before: Tensor, image: Tensor) -> bool:
    """Whether an image is that before, and has anything in it that could change."""
    return torch.equal(before, image) and not bool((image == image[:1, :1]).all())


def _statistics(depths: list[Tensor], pixels: int, max_depth: float, far: float) -> DepthStatistics | None:
    """Of measurements (N,) of each frame, out of so many pixels."""
    values = torch.cat(depths) if depths else torch.zeros(0)
    if len(values) == 0:
        return None
    return DepthStatistics(
        min=float(values.min()),
        median=float(values.median()),
        max=float(values.max()),
        valid=len(values) / pixels,
        beyond=int((values > max_depth).sum()) / pixels,
        far=int((values > far).sum()) / pixels,
    )
