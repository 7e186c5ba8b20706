"""Odometry by known poses, those that come with the frames."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.odometry.odometry import Odometry
from gradslam_ng.odometry.tracking_result import TrackingResult, TrackingStatus
from gradslam_ng.structures import LiveFrame, SurfaceView


class KnownPoses(Odometry):
    """Takes the pose that a frame came with; a frame without one is lost."""

    provides_pose = True
    capturable = True

    def forward(
        self,
        live: LiveFrame,
        model: SurfaceView,
        T_wc_init: Tensor,  # (B, 4, 4)
        T_wc_last: Tensor | None = None,  # (B, 4, 4)
    ) -> TrackingResult:
        """See `Odometry.forward`.

        Raises:
            ValueError: the frames carry no poses at all.
        """
        if live.T_wc is None:
            raise ValueError("odometry 'ground-truth' needs frames with poses (T_wc); these have none")
        ok = torch.isfinite(live.T_wc).flatten(1).all(-1)
        T_wc = torch.where(ok[:, None, None], live.T_wc, T_wc_init)
        return TrackingResult.from_pose(T_wc, ok, TrackingStatus.NO_POSE)
