"""Whether halves of a recording, each on its own, tell the same cameras."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.calibration.cameras import DEPTH, NAMES, CameraPair, lift, see

GRID = 12, 16  # pixels down and across at which cameras are compared
SHARE = 0.5
DISTANCES = 1.0, 2.0, 4.0  # meters, at which they are

IS_DEPTH = torch.arange(len(NAMES)) < len(DEPTH)


class Difference(NamedTuple):
    """How two pairs of cameras differ: means over the image and over `DISTANCES`."""

    depth: float  # of the points that depth shows, relative to how far they are
    color: float  # pixels of color, where color lies on depth
    time: float  # seconds


def difference(a: CameraPair, b: CameraPair, size: tuple[int, int]) -> Difference:
    """Of cameras whose depth images are of `size` (height, width)."""
    v, u = torch.meshgrid(*((torch.arange(n) + 0.5) / n * s for n, s in zip(GRID, size, strict=True)), indexing="ij")
    uv = torch.stack([u, v], -1).reshape(-1, 2).to(a.K_depth)
    depth, color = [], []
    for z in DISTANCES:
        points = [lift(uv, torch.full_like(uv[:, 0], z), each)[0] for each in (a, b)]
        depth.append((points[0] - points[1]).norm(dim=-1) / z)
        color.append((see(points[0], a)[0] - see(points[1], b)[0]).norm(dim=-1))
    time = float((a.time_offset - b.time_offset).abs())
    return Difference(float(torch.cat(depth).mean()), float(torch.cat(color).mean()), time)


def disagreement(
    told: CameraPair, found: CameraPair, halves: tuple[CameraPair, CameraPair], size: tuple[int, int]
) -> Tensor:
    """What halves of a recording disagree about (17,) bool: the depth camera, how color lies on depth, and the time
    between the two, each where the halves differ by more than `SHARE` of what was found does from what was told.

    The whole is as uncertain as half of what the halves differ by, which one difference tells but roughly.
    """
    apart, moved = difference(*halves, size), difference(told, found, size)
    open_depth, open_color, open_time = (a > SHARE * b for a, b in zip(apart, moved, strict=True))
    color = torch.full((len(NAMES),), open_color)
    color[-1] = open_time
    return torch.where(IS_DEPTH, torch.full_like(color, open_depth), color)


def split(
    i: Tensor,  # (M,), pairs of keyframes
    j: Tensor,  # (M,)
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The pairs of the recording's first half and those of its second; which have next to no keyframe in common."""
    middle = (i + j).double()
    early = middle <= middle.median()
    return (i[early], j[early]), (i[~early], j[~early])
