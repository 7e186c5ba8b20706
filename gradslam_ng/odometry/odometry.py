"""Odometry: the base of what finds the pose of a frame."""

from __future__ import annotations

from torch import Tensor

from gradslam_ng.compute.configurable import Configurable
from gradslam_ng.odometry.tracking_result import TrackingResult
from gradslam_ng.structures import LiveFrame, SurfaceView


class Odometry(Configurable):
    """Finds the pose of a frame against a model of what it should see. Derive from it to write one of your own."""

    provides_pose = False  # poses come with the frames: they need no model, and a frame without one is not relocalized
    capturable = False  # it never waits for the device and keeps nothing in Python: frames may become a CUDA graph

    def forward(
        self,
        live: LiveFrame,
        model: SurfaceView,
        T_wc_init: Tensor,  # (B, 4, 4)
        T_wc_last: Tensor | None = None,  # (B, 4, 4)
    ) -> TrackingResult:
        """Where B frames were seen from.

        Args:
            live: the frames, each in its camera c.
            model: what the map shows, as seen from camera m, with that camera's pose `T_wm`.
            T_wc_init: where the camera is expected, the pose returned for a frame that is lost. Systems do not use it
                then: their camera stays at the last pose that was tracked.
            T_wc_last: where the camera was before, None if that is not known.
        """
        raise NotImplementedError
