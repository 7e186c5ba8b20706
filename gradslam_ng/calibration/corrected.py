"""A recording as its cameras, once found, have seen it: depth corrected, and the color of each pixel of the moment that
its depth is of."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.calibration.cameras import CameraPair
from gradslam_ng.calibration.keyframes import REACH, frames_of, read_apart
from gradslam_ng.calibration.motion import interpolate_motion
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.geometry import se3
from gradslam_ng.geometry.depth_distortion import undistort_depth
from gradslam_ng.geometry.registration import register_color
from gradslam_ng.structures import Trajectory


class CorrectedSequence(RGBDSequence):
    """Frames of `sequence` seen by one pinhole camera.

    Color that is late is registered from where its camera was, by the trajectory of an earlier run: what is left of its
    delay is an error of that trajectory within the delay.

    Args:
        sequence: as it was recorded.
        cameras: of its images.
        trajectory: of an earlier run over it, in the meters of its depth.
    """

    def __init__(self, sequence: RGBDSequence, *, cameras: CameraPair, trajectory: Trajectory) -> None:
        super().__init__(
            name=sequence.name,
            layout=sequence.layout,
            K=cameras.K_depth,
            size=sequence.size,
            timestamps=sequence.timestamps,
        )
        self.source, self.cameras = sequence, cameras
        self.max_depth, self.T_prior = sequence.max_depth, sequence.T_prior
        self.T_color_depth = self._extrinsics(trajectory)

    def _extrinsics(self, trajectory: Trajectory) -> Tensor:
        """(L, 4, 4) from each frame's depth camera to its color camera, which has moved on meanwhile."""
        cameras, count = self.cameras, len(trajectory.timestamps)
        T = cameras.T_color_depth.expand(len(self.timestamps), 4, 4).clone()
        if count > 2 * REACH and cameras.time_offset != 0:
            each = torch.arange(count)
            xi, _ = interpolate_motion(trajectory.timestamps, trajectory.T_wc, each, REACH).at(
                each, cameras.time_offset
            )
            T[frames_of(trajectory, self)] = cameras.T_color_depth @ se3.exp(-xi)
        return T

    @torch.no_grad()
    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Color (H, W, 3) and depth (H, W, 1), meters."""
        color, depth = read_apart(self.source, index)
        cameras = self.cameras
        depth = undistort_depth(depth, self.K, cameras.depth_distortion)
        K_color, T = cameras.K_color.to(depth), self.T_color_depth[index].to(depth)
        color, seen = register_color(color, depth, K_color, self.K, T)
        return color, torch.where(seen, depth, 0.0)
