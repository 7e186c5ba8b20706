"""Image corruptions for any sequence: depth dropout, exposure drift, a covered lens, cuts and kidnapped cameras.

    sequence = Corrupted(load("rgbd_dataset_freiburg1_desk"), Dropout(0.5), GainDrift(0.5, frames=100))

A corruption is called with a frame's index, color (H, W, 3) and depth (H, W, 1) and returns both, changed; the same
index gives the same change. They follow one another in the order given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory

Corruption = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
STRIDE = 1_000_003  # between the seeds of two sequences; a frame's is its own


class Corrupted(RGBDSequence):
    """A sequence as it is but for its images, which pass through corruptions; truth, camera and times stay."""

    def __init__(self, sequence: RGBDSequence, *corruptions: Corruption) -> None:
        super().__init__(
            name=sequence.name,
            layout=sequence.layout,
            K=sequence.K,
            size=sequence.size,
            timestamps=sequence.timestamps,
            ground_truth=sequence.ground_truth,
            T_wc=sequence.T_wc,
            depth_scale=sequence.depth_scale,
            notes=[*sequence.notes, *(f"corrupted: {corruption}" for corruption in corruptions)],
            findings=sequence.findings,
        )
        self.sequence, self.corruptions = sequence, corruptions

    @property
    def mesh(self) -> tuple[Tensor, Tensor] | None:
        return self.sequence.mesh

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        frame = self.sequence[index]
        color, depth = frame.color, frame.depth
        for corrupt in self.corruptions:
            color, depth = corrupt(index, color, depth)
        return color, depth


class Concatenated(RGBDSequence):
    """Sequences of one camera end to end, in time as well: a cut, after which the camera may be anywhere.

    Raises:
        ValueError: other intrinsics or size of image, later times before earlier ones, or poses known of some only.
    """

    def __init__(self, *parts: RGBDSequence) -> None:
        first = parts[0]
        if any(part.size != first.size or not torch.equal(part.K, first.K) for part in parts):
            raise ValueError("parts: expected one camera, got different intrinsics or sizes of image")
        if len({part.T_wc is None for part in parts}) > 1:
            raise ValueError("parts: expected poses of all of them or of none")
        timestamps = torch.cat([part.timestamps for part in parts])
        if not bool((timestamps.diff() > 0).all()):
            raise ValueError("parts: expected each to begin after the one before has ended")
        T_wc = None if first.T_wc is None else torch.cat([part.T_wc for part in parts])
        super().__init__(
            name=" + ".join(part.name for part in parts),
            layout=first.layout,
            K=first.K,
            size=first.size,
            timestamps=timestamps,
            ground_truth=None if T_wc is None else Trajectory(timestamps, T_wc),
            T_wc=T_wc,
            depth_scale=first.depth_scale,
            notes=[note for part in parts for note in part.notes],
            findings=[finding for part in parts for finding in part.findings],
        )
        self.frames = [(part, i) for part in parts for i in range(len(part))]

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        part, i = self.frames[index]
        frame = part[i]
        return frame.color, frame.depth


@dataclass(frozen=True)
class Dropout:
    """Depth measurements go missing, each by itself with probability `share`; the same ones for the same seed."""

    share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share: expected 0 to 1, got {self.share}")

    def __call__(self, index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(STRIDE * self.seed + index)
        missing = torch.rand(depth.shape, generator=generator, dtype=torch.float32, device="cpu").to(depth) < self.share
        return color, torch.where(missing, 0, depth)


@dataclass(frozen=True)
class GainDrift:
    """An exposure that follows the light: color times a gain from 1 to `factor` over `frames`, back, and so on.

    The gain moves by the same ratio every frame. What it drives beyond white is cut off, and the image is rounded to 8
    bits again, as a camera would.
    """

    factor: float = 0.5
    frames: int = 100

    def __post_init__(self) -> None:
        if not self.factor > 0 or self.frames < 1:
            raise ValueError(f"expected a positive factor and at least 1 frame, got {self.factor} and {self.frames}")

    def gain(self, index: int) -> float:
        away = index % (2 * self.frames)
        return self.factor ** (min(away, 2 * self.frames - away) / self.frames)

    def __call__(self, index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        return ((color * self.gain(index)).clamp(0, 1) * 255).round() / 255, depth


@dataclass(frozen=True)
class LensCover:
    """A hand over the lens for `count` frames from `first` on: black, and no depth.

    With `palm` (near, far), meters, a sensor that sees as near as that reports the palm: a smooth surface between the
    two that moves a little from frame to frame.
    """

    first: int
    count: int = 15
    palm: tuple[float, float] | None = None

    def __call__(self, index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        if not self.first <= index < self.first + self.count:
            return color, depth
        return torch.zeros_like(color), torch.zeros_like(depth) if self.palm is None else self._palm(index, depth)

    def _palm(self, index: int, depth: Tensor) -> Tensor:
        near, far = self.palm
        y, x = (torch.linspace(-1, 1, n, dtype=torch.float32).to(depth) for n in depth.shape[:2])
        bend = torch.cos(2.0 * x + 0.3 * math.sin(index)) * torch.cos(1.5 * y[:, None] + 0.3 * math.cos(index))
        return (near + (far - near) * (0.5 - 0.5 * bend))[..., None]


def put_back(
    T_wc: Tensor, first: int, count: int = 15, meters: float = 0.2, degrees: float = 10.0, seed: int = 0
) -> Tensor:
    """The path of a camera that is taken away for `count` frames from `first` on and put back somewhere else.

    It stands still meanwhile (covered, it sees nothing anyway), comes back `meters` and `degrees` from where it last
    was, in a direction and about an axis that the seed picks, and goes on from there as it would have.

    Args:
        T_wc: (L, 4, 4), for `Synthetic.along`.
        first: at least 1: there must be a place from which it is taken.

    Raises:
        ValueError: the frames are not all within the path.
    """
    end = first + count
    if not (1 <= first and 0 <= count and end <= len(T_wc)):
        raise ValueError(f"first, count: expected frames 1 to {len(T_wc) - 1}, got {first} to {end - 1}")
    random = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(T_wc)
    direction, axis = torch.nn.functional.normalize(random, dim=-1)
    T_moved = torch.eye(4).to(T_wc)
    T_moved[:3, :3] = se3.exp(torch.cat([torch.zeros_like(axis), math.radians(degrees) * axis]))[:3, :3]
    T_moved[:3, 3] = meters * direction
    T_last = T_wc[first - 1]
    onwards = T_last @ T_moved @ se3.inverse(T_last) @ T_wc[first - 1 : len(T_wc) - count - 1]
    return torch.cat([T_wc[:first], T_last.expand(count, 4, 4), onwards])
