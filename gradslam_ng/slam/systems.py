"""The systems, each its paper's figure."""

from __future__ import annotations

from torch import Tensor, nn

from gradslam_ng.mapping import Aggregate, PointFuser
from gradslam_ng.rendering import predict
from gradslam_ng.slam.state import State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, Surface, SurfelMap
from gradslam_ng.structures.live import Noise, axial_noise


class ICPOdometry(System):
    """Visual odometry: each frame aligned with the one before, no map."""

    def model(self, state: State, T_wm: Tensor, live: LiveFrame) -> tuple[Surface, Tensor]:
        return state.last, state.T_wc

    def fuse(self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> SurfelMap:
        return map_


class ICPSLAM(ICPOdometry):
    """Frame-to-frame odometry whose readings are gathered in one map (Jatavallabhula et al. 2020)."""

    def __init__(
        self, odometry: str | nn.Module = "gradicp", factor: int | None = None, noise: Noise = axial_noise
    ) -> None:
        super().__init__(odometry, factor, noise)
        self.mapper = Aggregate()

    def fuse(self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> SurfelMap:
        return self.mapper(map_, live, T_wc, ok, frame)


class PointFusion(System):
    """Surfel SLAM: each frame aligned with what the map predicts it to see, then fused into it (Keller et al. 2013).

    Args:
        odometry, factor, noise: see `System`.
        mapper: how frames are fused, by default `PointFuser()`.
    """

    def __init__(
        self,
        odometry: str | nn.Module = "gradicp",
        factor: int | None = None,
        noise: Noise = axial_noise,
        mapper: PointFuser | None = None,
    ) -> None:
        super().__init__(odometry, factor, noise)
        self.mapper = PointFuser() if mapper is None else mapper

    def model(self, state: State, T_wm: Tensor, live: LiveFrame) -> tuple[Surface, Tensor]:
        return predict(state.map, T_wm, live.surface.K, live.surface.size, self.mapper.stable), T_wm

    def fuse(self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> SurfelMap:
        return self.mapper(map_, live, T_wc, ok, frame)
