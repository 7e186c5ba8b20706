"""Reintegration of frames into a volume after a correction of their poses (Dai et al. 2017, BundleFusion)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.mapping import TSDFFuser
from gradslam_ng.preprocessing import Noise, axial_noise, measure_surface
from gradslam_ng.structures import LiveFrame, RGBDFrames, VoxelGrid


@dataclass(eq=False)
class FusedFrame:
    """What is kept of a frame that a volume holds, 7 bytes a pixel."""

    T_wc: Tensor  # (4, 4), where it was fused
    K: Tensor  # (1, 3, 3)
    depth: Tensor  # (1, H, W), meters
    color: Tensor  # (1, H, W, 3), uint8

    def prepare(self, noise: Noise) -> LiveFrame:
        """The frame as it was fused, but for its color, which has eight bits."""
        frame = RGBDFrames(self.color.to(self.depth.dtype) / 255, self.depth[..., None], self.K)
        return measure_surface(frame, noise=noise, max_depth=math.inf)  # limited when it was fused


class Reintegration:
    """The frames in a volume (a batch of one), so that they can be moved.

        fused = Reintegration()
        fused.add(live, T_wc)                        # each frame that was fused
        grid = fused.reintegrate(grid, T_wc)         # after a correction

    Distances come back as if the frames had never been elsewhere, but for free space that a wrong pose saw through
    blocks which it did not reach otherwise; colors to eight bits.

    Args:
        noise: the depth noise that frames were fused with.
    """

    def __init__(self, noise: Noise = axial_noise) -> None:
        self.fuser, self.noise = TSDFFuser(), noise
        self.frames: list[FusedFrame] = []

    def add(
        self,
        live: LiveFrame,
        T_wc: Tensor,  # (4, 4)
    ) -> None:
        """A frame that was fused at T_wc."""
        self.frames.append(FusedFrame(T_wc, live.surface.K, live.depth, (255 * live.color).round().byte()))

    @torch.no_grad()
    def reintegrate(
        self,
        grid: VoxelGrid,
        T_wc: Tensor,  # (L, 4, 4)
        tolerance: tuple[float, float] = (0.002, 0.002),
    ) -> VoxelGrid:
        """The volume with all frames at T_wc, in the order in which they came. Those that moved by less than
        `tolerance`, meters and radians, stay.

        Raises:
            ValueError: another number of poses than of frames, or a batch of volumes.
        """
        if len(T_wc) != len(self.frames):
            raise ValueError(f"T_wc: expected one for each of {len(self.frames)} frames, got {len(T_wc)}")
        if grid.batch != 1:
            raise ValueError(f"grid: expected a batch of one, got {grid.batch}")
        if not self.frames:
            return grid
        meters, radians = se3.distance(torch.stack([frame.T_wc for frame in self.frames]), T_wc.to(self.frames[0].T_wc))
        for k in ((meters > tolerance[0]) | (radians > tolerance[1])).nonzero()[:, 0].tolist():
            frame = self.frames[k]
            live, ok = frame.prepare(self.noise), torch.ones(1, dtype=torch.bool, device=grid.keys.device)
            grid = self.fuser.integrate(grid, live, frame.T_wc[None], ok, -1)
            frame.T_wc = T_wc[k].to(frame.T_wc)
            grid = self.fuser.integrate(grid, live, frame.T_wc[None], ok)
        return grid
