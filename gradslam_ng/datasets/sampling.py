"""A sample of a sequence's frames, reduced to what tells whether they are what they should be."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.datasets.sequence import FrameError, RGBDSequence


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

    @property
    def read(self) -> int:
        """Frames that could be read."""
        return self.picked - len(self.failed)


def sample_frames(sequence: RGBDSequence, count: int, far: float) -> Sample:
    """Up to `count` frames spread evenly over a sequence. Depth is far from beyond `far` meters."""
    picked = torch.linspace(0, len(sequence) - 1, min(count, len(sequence))).round().long().unique().tolist()
    failed, frames = [], []
    for index in picked:
        try:
            color, depth = sequence.read(sequence.indices[index])
        except FrameError as error:
            failed.append(error)
            continue
        frames.append((color, depth))
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
    )


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
