"""Poses that come with the frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradslam_ng.odometry.tracking_result import TrackingResult
from gradslam_ng.structures import LiveFrame, SurfaceView


class KnownPoses(nn.Module):
    """Takes the pose that a frame came with; a frame without one is lost."""

    capturable = True  # see `slam.captured`

    def forward(
        self, live: LiveFrame, model: SurfaceView, T_wm: Tensor, T_wc: Tensor, T_last: Tensor | None = None
    ) -> TrackingResult:
        """See `ProjectiveICP.forward`.

        Raises:
            ValueError: the frames carry no poses at all.
        """
        if live.T_wc is None:
            raise ValueError("odometry 'ground-truth' needs frames with poses (T_wc); these have none")
        ok = torch.isfinite(live.T_wc).flatten(1).all(-1)
        return TrackingResult.from_pose(torch.where(ok[:, None, None], live.T_wc, T_wc), ok)
