"""The systems, each its paper's figure."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradslam_ng.mapping import Aggregate, PointFuser, TSDFFuser
from gradslam_ng.preprocessing import Noise, axial_noise, with_raw_vertices
from gradslam_ng.rendering import predict_surfels, predict_volume
from gradslam_ng.slam.graphed_step import Recorder, cuda_graph
from gradslam_ng.slam.settings import Settings
from gradslam_ng.slam.state import State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import Camera, LiveFrame, RGBDFrames, SurfaceView, SurfelMap, VoxelGrid


class ICPOdometry(System):
    """Visual odometry: each frame aligned with the one before, no map."""

    supports_relocalization = False

    def predict_view(self, state: State, T_wm: Tensor, camera: Camera) -> SurfaceView:
        return state.last.with_pose(state.T_wc)

    def fuse(self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> SurfelMap:
        return map_


class ICPSLAM(ICPOdometry):
    """Frame-to-frame odometry whose readings are gathered in one map (Jatavallabhula et al. 2020)."""

    def __init__(
        self,
        odometry: str | nn.Module = "gradicp",
        factor: int | None = None,
        noise: Noise = axial_noise,
        settings: str | Settings = "default",
    ) -> None:
        super().__init__(odometry, factor, noise, settings)
        self.mapper = Aggregate()

    def fuse(self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> SurfelMap:
        return self.mapper(map_, live, T_wc, ok, frame)


class PointFusion(System):
    """Surfel SLAM: each frame aligned with what the map predicts it to see, then fused into it (Keller et al. 2013).

    Args:
        odometry, factor, noise, settings: see `System`.
        mapper: how frames are fused, by default `PointFuser()`.
    """

    def __init__(
        self,
        odometry: str | nn.Module = "gradicp",
        factor: int | None = None,
        noise: Noise = axial_noise,
        mapper: PointFuser | None = None,
        settings: str | Settings = "default",
    ) -> None:
        super().__init__(odometry, factor, noise, settings)
        self.mapper = PointFuser() if mapper is None else mapper

    def predict_view(self, state: State, T_wm: Tensor, camera: Camera) -> SurfaceView:
        return predict_surfels(state.map, T_wm, camera.K, camera.size, self.mapper.stable_confidence)

    @property
    def stable_confidence(self) -> float:
        return self.mapper.stable_confidence

    def concluded(self, state: State) -> SurfelMap:
        return self.mapper.finalize(state.map)

    def recorder(self) -> Recorder | None:
        """On a GPU a CUDA graph, for parts that are `capturable`: they never wait for the device, and remember
        nothing in Python from frame to frame."""
        return (
            cuda_graph if self.odometry.capturable and self.mapper.capturable and self.device.type == "cuda" else None
        )

    def fuse(self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> SurfelMap:
        map_ = self.mapper(map_, live, T_wc, ok, frame)
        if isinstance(frame, Tensor) or frame % self.mapper.prune_every:
            return map_
        return self.mapper.prune(map_, ok, frame)


class KinectFusion(System):
    """Volumetric SLAM: each frame aligned with the ray-cast volume, then averaged into it (Newcombe et al. 2011).

    Args:
        voxel_size: edge of a voxel, metres.
        truncation: distance from the surface, metres, that is told from farther ones.
        odometry, factor, noise, settings: see `System`.
    """

    def __init__(
        self,
        voxel_size: float = 0.01,
        truncation: float = 0.04,
        odometry: str | nn.Module = "gradicp",
        factor: int | None = None,
        noise: Noise = axial_noise,
        settings: str | Settings = "default",
    ) -> None:
        super().__init__(odometry, factor, noise, settings)
        VoxelGrid.empty(1, voxel_size, truncation)  # refuses bad sizes at once
        self.voxel_size, self.truncation = voxel_size, truncation
        self.mapper = TSDFFuser()

    def empty(self, batch: int, device: torch.device, dtype: torch.dtype) -> VoxelGrid:
        return VoxelGrid.empty(batch, self.voxel_size, self.truncation, device, dtype)

    def prepare(self, frame: RGBDFrames) -> LiveFrame:
        return with_raw_vertices(super().prepare(frame))  # as it is fused: the model's corners are sharp

    def predict_view(self, state: State, T_wm: Tensor, camera: Camera) -> SurfaceView:
        return predict_volume(state.map, T_wm, camera.K, camera.size)

    def fuse(self, map_: VoxelGrid, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> VoxelGrid:
        return self.mapper(map_, live, T_wc, ok, frame)
