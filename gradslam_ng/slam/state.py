"""What a SLAM system carries from frame to frame, and what a run leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.odometry import TrackingResult, TrackingStatus
from gradslam_ng.structures import SurfaceView, SurfelMap, Trajectory, VoxelGrid

Map = SurfelMap | VoxelGrid


@dataclass(frozen=True, eq=False)
class State:
    """After `frames` frames of B sequences."""

    map: Map
    T_wc: Tensor  # (B, 4, 4), of the last frame
    motion: Tensor  # (B, 4, 4), from the last frame but one to the last: T_wc = T_wc_before @ motion
    frames: int | Tensor  # a tensor () int64 within a frame that is captured
    tracking: TrackingResult
    last: SurfaceView  # the last frame that was tracked, for odometry from frame to frame
    started: Tensor  # (B,) bool: some frame had readings

    def predict(self) -> Tensor:
        """Where the next frame is expected: at constant velocity (B, 4, 4)."""
        return self.T_wc @ self.motion

    def advance(self, map_: Map, tracking: TrackingResult, live: SurfaceView) -> State:
        """After one frame more. A lost frame does not move the camera, and the model to track from stays."""
        ok = tracking.ok[:, None, None]
        T_wc = torch.where(ok, tracking.T_wc, self.T_wc)
        still = torch.eye(4, dtype=T_wc.dtype, device=T_wc.device)
        started = self.started | tracking.ok
        moved = (self.started & tracking.ok)[:, None, None]
        motion = torch.where(moved, se3.inverse(self.T_wc) @ T_wc, still)
        return State(map_, T_wc, motion, self.frames + 1, tracking, live.where(tracking.ok, self.last), started)


@dataclass
class Result:
    """What a run leaves."""

    map: Map
    trajectory: Trajectory
    statuses: Tensor  # (L,) int64, a `TrackingStatus` per pose of the trajectory
    skipped: list[str] = field(default_factory=list)  # frames that could not be read, and why
    milliseconds: dict[str, float] = field(default_factory=dict)  # mean per frame, by stage
    interrupted: bool = False
    loops: int = 0  # closed
    relocalized: list[int] = field(default_factory=list)  # frames in which a camera that was lost was found again
    seconds_compiling: float = 0.0  # beside the above

    @property
    def tracked(self) -> Tensor:
        """(L,) bool: poses that can be trusted."""
        return TrackingStatus.is_tracked(self.statuses)
