"""Volumes that follow a correction: frames are taken out where they were and put back where they belong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.mapping import TSDFFuser
from gradslam_ng.slam.keyframes import distance
from gradslam_ng.structures import LiveFrame, RGBDFrames, VoxelGrid


@dataclass(eq=False)
class Kept:
    """What a volume needs of a frame that it holds, 9 bytes a pixel."""

    T_wc: Tensor  # (4, 4), where it was fused
    K: Tensor  # (1, 3, 3)
    depth: Tensor  # (1, H, W), metres
    sigma: Tensor  # (1, H, W), metres, half
    color: Tensor  # (1, H, W, 3), uint8

    def live(self) -> LiveFrame:
        """The frame, made ready once more."""
        frame = RGBDFrames(self.color.to(self.depth.dtype) / 255, self.depth[..., None], self.K)
        return LiveFrame.of(frame, noise=lambda surface, color: self.sigma.to(self.depth.dtype))


class Reintegration:
    """A volume (a batch of one) and the frames in it, so that they can be moved (Dai et al. 2017, BundleFusion).

        volume = Reintegration(gs.VoxelGrid.empty())
        volume.add(live, T_wc)                            # frame by frame
        volume.correct(closer.keyframes.trajectory())     # after a loop

    Colour is kept with eight bits, so that it is fused and taken out alike; distances come back as if the frames had
    never been elsewhere, but for free space that a wrong pose saw through blocks which it did not reach otherwise.
    """

    def __init__(self, grid: VoxelGrid) -> None:
        if grid.batch != 1:
            raise ValueError(f"grid: expected a batch of one, got {grid.batch}")
        self.grid, self.fuser, self.kept = grid, TSDFFuser(), []

    @torch.no_grad()
    def add(self, live: LiveFrame, T_wc: Tensor) -> None:
        """One frame more, at T_wc (4, 4)."""
        color = (255 * live.color).round().byte()
        kept = Kept(T_wc, live.surface.K, live.depth, live.sigma.half(), color)
        self.kept.append(kept)
        self._integrate(kept, 1)

    @torch.no_grad()
    def correct(self, T_wc: Tensor, tolerance: tuple[float, float] = (0.002, 0.002)) -> int:
        """All frames at T_wc (L, 4, 4), in the order in which they came. Those that moved by less than `tolerance`,
        metres and radians, stay. Returns how many were moved.

        Raises:
            ValueError: another number of poses than of frames.
        """
        if len(T_wc) != len(self.kept):
            raise ValueError(f"T_wc: expected one for each of {len(self.kept)} frames, got {len(T_wc)}")
        metres, radians = distance(torch.stack([kept.T_wc for kept in self.kept]), T_wc.to(self.kept[0].T_wc))
        moved = ((metres > tolerance[0]) | (radians > tolerance[1])).nonzero()[:, 0].tolist()
        for k in moved:
            self._integrate(self.kept[k], -1)
            self.kept[k].T_wc = T_wc[k].to(self.kept[k].T_wc)
            self._integrate(self.kept[k], 1)
        return len(moved)

    def _integrate(self, kept: Kept, sign: int) -> None:
        ok = torch.ones(1, dtype=torch.bool, device=kept.depth.device)
        self.grid = self.fuser.integrate(self.grid, kept.live(), kept.T_wc.to(kept.depth)[None], ok, sign)
