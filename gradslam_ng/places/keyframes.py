"""Keyframes: what remains of the past once its frames are gone, and how one that looks alike is found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from gradslam_ng.geometry import se3
from gradslam_ng.structures import LiveFrame

Descriptor = Callable[[LiveFrame], Tensor]
TINY_IMAGE_SIZE = (12, 16)


def tiny_image_descriptor(live: LiveFrame) -> Tensor:
    """A compact code (D,) of unit length: colour and inverse depth on 12 x 16 cells, each less its mean.

    No weights and no vocabulary; the dot product of two codes is a correlation, which brightness and contrast leave
    alone. Alike from within about 0.3 m and 15 degrees.
    """
    depth = live.surface.vertices[..., 2]
    inverse = torch.where(depth > 0, 1 / torch.where(depth > 0, depth, 1.0), 0.0)
    cells = adaptive_avg_pool2d(torch.cat([live.color.movedim(-1, 1), inverse[:, None]], 1), TINY_IMAGE_SIZE)[0]
    return normalize(normalize((cells - cells.mean((-2, -1), keepdim=True)).flatten(1), dim=-1).flatten(), dim=-1)


def distance(T_a: Tensor, T_b: Tensor) -> tuple[Tensor, Tensor]:
    """Metres and radians (...) between poses T_a and T_b (..., 4, 4)."""
    T_ab = se3.inverse(T_a) @ T_b
    cosine = (T_ab[..., :3, :3].diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return T_ab[..., :3, 3].norm(dim=-1), cosine.clamp(-1, 1).arccos()


@dataclass(eq=False)
class Keyframes:
    """Poses that carry the map and the frames between them.

    Every frame hangs on the keyframe before it, every surfel on the keyframe that was the last when it was founded.
    """

    frames: list[int] = field(default_factory=list)  # numbers of the frames that became keyframes
    T_wk: list[Tensor] = field(default_factory=list)  # (4, 4) float64
    codes: list[Tensor] = field(default_factory=list)
    hanging: list[tuple[int, Tensor]] = field(default_factory=list)  # of every frame: its keyframe and T_kf

    def __len__(self) -> int:
        return len(self.frames)

    def add(self, frame: int, T_wk: Tensor, code: Tensor) -> None:
        self.frames.append(frame)
        self.T_wk.append(T_wk)
        self.codes.append(code)

    def hang(self, T_wf: Tensor) -> None:
        """One frame more, at T_wf (4, 4), on the last keyframe."""
        self.hanging.append((len(self) - 1, se3.inverse(self.T_wk[-1]) @ T_wf))

    def trajectory(self) -> Tensor:
        """All frames' poses T_wf (L, 4, 4), as the keyframes lie now."""
        which = torch.tensor([k for k, _ in self.hanging])
        return torch.stack(self.T_wk)[which] @ torch.stack([T for _, T in self.hanging])

    def owner(self, created: Tensor) -> Tensor:
        """The keyframe (...) that surfels founded in frames `created` (...) ride on."""
        starts = torch.tensor(self.frames, device=created.device)
        return (torch.searchsorted(starts, created, right=True) - 1).clamp(min=0)

    def alike(self, code: Tensor, before: int) -> Tensor:
        """Similarity (K,) in [-1, 1] of the keyframes of frames earlier than `before`."""
        count = sum(frame < before for frame in self.frames)
        return torch.stack(self.codes[:count]) @ code if count else code.new_zeros(0)

    def apart(self, T_wc: Tensor, before: int) -> tuple[Tensor, Tensor]:
        """Metres and radians (K,) from T_wc (4, 4) to the keyframes of frames earlier than `before`."""
        count = sum(frame < before for frame in self.frames)
        if not count:
            return T_wc.new_zeros(0), T_wc.new_zeros(0)
        return distance(torch.stack(self.T_wk[:count]), T_wc)
