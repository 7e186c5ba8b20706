"""A frame made ready: what tracking and fusion read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.geometry import camera, images
from gradslam_ng.structures.frames import RGBDFrames
from gradslam_ng.structures.surface import Surface


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """One frame of each of B sequences at working resolution."""

    surface: Surface
    color: Tensor  # (B, H, W, 3)
    T_wc: Tensor | None  # (B, 4, 4), the pose that came with the frame, NaN where unknown

    @staticmethod
    def of(frame: RGBDFrames, factor: int = 1, smooth: bool = True) -> LiveFrame:
        """Images shrunk by `factor`, depth smoothed but for its edges, vertices and normals. frame (B,)."""
        color, depth, K = frame.color, frame.depth, frame.K
        depth = torch.where((depth > 0) & (depth < torch.inf), depth, 0.0)  # NaN too is no reading
        if factor > 1:
            color, depth = images.downsample_color(color, factor), images.downsample_depth(depth, factor)
            K = camera.scale_intrinsics(K, 1 / factor)
        if smooth:
            depth = images.bilateral_depth(depth)
        return LiveFrame(Surface.of_depth(depth, K), color, frame.T_wc)
