"""A preprocessed frame: its surface, images and noise at working resolution, which tracking and fusion take."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gradslam_ng.structures.surface import Camera, SurfaceView


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """One frame of each of B sequences at working resolution; `preprocessing.measure_surface` makes one."""

    surface: SurfaceView
    color: Tensor  # (B, H, W, 3)
    depth: Tensor  # (B, H, W), meters, as measured, where the surface is smoothed; 0 for a hole
    sigma: Tensor  # (B, H, W), meters, standard deviation of the depth
    T_wc: Tensor | None  # (B, 4, 4), the pose that came with the frame, NaN where unknown or no rigid motion
    has_camera: Tensor | None = None  # (B,) bool, K is a pinhole camera's: no pixel has depth where not; None for all
    T_prior: Tensor | None = None  # (B, 4, 4), see `RGBDFrames`, NaN where unknown or no rigid motion
    T_wc_told: Tensor | None = None  # (B, 4, 4), where that says that the frame was seen from, for `Odometry`
    T_wc_before: Tensor | None = None  # (B, 4, 4), of the frame before; None for where the search is told it was

    @property
    def camera(self) -> Camera:
        return self.surface.camera
