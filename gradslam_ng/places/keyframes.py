"""Keyframes with global image descriptors: a pose graph's vertices, and place recognition by appearance."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import is_

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize, pad, unfold

from gradslam_ng.geometry import se3
from gradslam_ng.places.features import FeatureFrame
from gradslam_ng.structures import LiveFrame

# Of a batch of one, to (S, D) or (D,), rows of unit length: a frame, then what cameras turned away from it may see
Descriptor = Callable[[LiveFrame], Tensor]
TINY_IMAGE_SIZE = (12, 16)
MAX_SHIFT = (3, 6)  # cells, up or down and to either side


def tiny_image_descriptor(live: LiveFrame) -> Tensor:
    """A tiny image (Milford and Wyeth 2012), color and inverse depth on 12 x 16 cells, each less its mean; then the
    same image shifted by up to 3 and 6 cells, as a camera that is turned away would see it. Rows (91, 768) of unit
    length.

    No weights and no vocabulary; the dot product of two tiny images is a correlation, which brightness and contrast
    leave alone. The greatest one of all shifts is high from within about 0.6 m and 40 degrees.
    """
    depth = live.surface.vertices[..., 2]  # (1, H, W)
    inverse = torch.where(depth > 0, 1 / torch.where(depth > 0, depth, 1.0), 0.0)
    cells = adaptive_avg_pool2d(torch.cat([live.color.movedim(-1, 1), inverse[:, None]], 1), TINY_IMAGE_SIZE)
    windows, inside = (
        unfold(pad(x, (MAX_SHIFT[1],) * 2 + (MAX_SHIFT[0],) * 2), TINY_IMAGE_SIZE)[0].mT.unflatten(1, (x.shape[1], -1))
        for x in (cells, torch.ones_like(cells[:, :1]))
    )  # (S, 4, 192) and (S, 1, 192)
    mean = windows.sum(-1, keepdim=True) / inside.sum(-1, keepdim=True)
    rows = normalize(normalize((windows - mean) * inside, dim=-1).flatten(1), dim=-1)
    middle = len(rows) // 2  # not shifted
    return torch.cat([rows[middle:], rows[:middle]])


@dataclass(eq=False)
class Keyframes:
    """Poses of keyframes, and of all frames and surfels relative to them.

    Every frame is attached to the keyframe before it, every surfel to the keyframe that was the last when it was
    created.
    """

    frames: list[int] = field(default_factory=list)  # numbers of the frames that became keyframes
    T_wk: list[Tensor] = field(default_factory=list)  # (4, 4) float64
    descriptors: list[Tensor] = field(default_factory=list)  # (D,), of frames as they are
    last_descriptors: Tensor | None = None  # (S, D), of the last one, all rows
    images: list[FeatureFrame] = field(default_factory=list)  # where a relocalizer keeps them
    relative_poses: list[tuple[int, Tensor]] = field(default_factory=list)  # of every frame: its keyframe and T_kf
    _stacked: tuple[list[Tensor], Tensor] | None = field(default=None, init=False)  # `T_wk` as it was, the same as one

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def poses(self) -> Tensor:
        """(K, 4, 4) float64; stacked once for each change, since every frame asks for them."""
        before = [] if self._stacked is None else self._stacked[0]
        if self._stacked is None or len(before) != len(self) or not all(map(is_, before, self.T_wk)):
            self._stacked = list(self.T_wk), torch.stack(self.T_wk)
        return self._stacked[1]

    def add(
        self,
        frame: int,
        T_wk: Tensor,  # (4, 4) float64
        descriptors: Tensor,  # (S, D) or (D,), see `Descriptor`
    ) -> None:
        """One keyframe more, which is frame number `frame`."""
        self.frames.append(frame)
        self.T_wk.append(T_wk)
        self.last_descriptors = torch.atleast_2d(descriptors)
        self.descriptors.append(self.last_descriptors[0].clone())

    def attach(
        self,
        T_wf: Tensor,  # (4, 4) float64
    ) -> None:
        """One frame more, whose pose follows that of the last keyframe."""
        self.relative_poses.append((len(self) - 1, se3.inverse(self.T_wk[-1]) @ T_wf))

    def follow(
        self,
        T_wf: Tensor,  # (L, 4, 4) float64, of all frames so far
    ) -> None:
        """Keyframes lie where their frames do."""
        self.T_wk = list(T_wf[self.frames].unbind(0))

    def trajectory(self) -> Tensor:
        """All frames' poses T_wf (L, 4, 4), as the keyframes lie now."""
        which = torch.tensor([k for k, _ in self.relative_poses], device="cpu")
        return self.poses[which] @ torch.stack([T for _, T in self.relative_poses])

    def keyframe_of(
        self,
        created: Tensor,  # (...) int64
    ) -> Tensor:
        """The keyframe (...) that surfels created in frames `created` are attached to."""
        return last_at_or_before(self.frames, created)

    def similarities(
        self,
        descriptors: Tensor,  # (S, D) or (D,), see `Descriptor`
        before: int | None = None,
    ) -> Tensor:
        """Similarity (K,) in [-1, 1] of a frame with the keyframes of frames earlier than `before`, with all without
        it: that of the row that is most like each."""
        count = self._count(before)
        if not count:
            return descriptors.new_zeros(0)
        return (torch.stack(self.descriptors[:count]) @ torch.atleast_2d(descriptors).mT).amax(-1)

    def distances(
        self,
        T_wc: Tensor,  # (4, 4) float64
        before: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Meters and radians (K,) to the keyframes of frames earlier than `before`, to all without it."""
        count = self._count(before)
        if not count:
            return T_wc.new_zeros(0), T_wc.new_zeros(0)
        return se3.distance(self.poses[:count], T_wc)

    def is_near(
        self,
        T_wc: Tensor,  # (4, 4) float64
        meters: float,
        radians: float,
    ) -> bool:
        """Whether a keyframe is less than that far away and turned."""
        if not len(self):
            return False
        close = self.poses[(self.poses[:, :3, 3] - T_wc[:3, 3]).square().sum(-1) < meters**2]  # few; angles take long
        return bool((se3.distance(close, T_wc)[1] < radians).any())

    def _count(self, before: int | None) -> int:
        return len(self) if before is None else bisect_left(self.frames, before)


def last_at_or_before(
    starts: Sequence[int],  # rising
    frames: Tensor,  # (...) int64
) -> Tensor:
    """Which of these numbers (...) is the last that is not after a frame; the first where all are."""
    return (torch.searchsorted(torch.tensor(starts, device=frames.device), frames, right=True) - 1).clamp(min=0)
