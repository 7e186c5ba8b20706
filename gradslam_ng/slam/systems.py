"""PointFusion, KinectFusion, ICP-SLAM and visual odometry: the systems, each its paper's figure."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.mapping import Aggregate, Mapper, PointFuser, TSDFFuser
from gradslam_ng.odometry import Odometry
from gradslam_ng.preprocessing import MAX_DEPTH, Noise, axial_noise, with_raw_vertices
from gradslam_ng.rendering import predict_surfels, predict_surfels_softly, predict_volume
from gradslam_ng.slam.settings import Settings
from gradslam_ng.slam.state import State
from gradslam_ng.slam.stream import StreamingSystem
from gradslam_ng.slam.timing import stage
from gradslam_ng.structures import Camera, LiveFrame, RGBDFrames, SurfaceView, VoxelGrid


class ICPOdometry(StreamingSystem):
    """Visual odometry: each frame aligned with the one before, no map. For the arguments see `System`."""

    supports_relocalization = False

    @stage("predict")
    def predict_view(self, state: State, T_wm: Tensor, camera: Camera) -> SurfaceView:
        """The last frame that was tracked, from where it was seen."""
        return state.last.with_pose(state.T_oc)


class ICPSLAM(ICPOdometry):
    """Frame-to-frame odometry whose frames are gathered in one map (Jatavallabhula et al. 2020)."""

    mapper_type = Aggregate


class PointFusion(StreamingSystem):
    """Surfel SLAM: each frame aligned with what the map predicts it to see, then fused into it (Keller et al. 2013).

    For the arguments see `System`.
    """

    mapper_type = PointFuser

    def make_mapper(self) -> Mapper:
        """Point fusion, soft where the settings are."""
        return PointFuser(association=self.settings.association)

    @stage("predict")
    def predict_view(self, state: State, T_wm: Tensor, camera: Camera) -> SurfaceView:
        """The surfels seen from T_wm (B, 4, 4)."""
        predict = predict_surfels_softly if self.settings.soft else predict_surfels
        return predict(state.surfels, T_wm, camera.K, camera.size, self.mapper.stable_confidence)


class KinectFusion(StreamingSystem):
    """Volumetric SLAM: each frame aligned with the ray-cast volume, then averaged into it (Newcombe et al. 2011).

    Args:
        odometry, mapper, noise, factor, settings, max_depth: see `System`.
        voxel_size: edge of a voxel, meters; a number, since where voxels lie has no gradient.
        truncation: distance from the surface, meters, that is told from farther ones; an `nn.Parameter` is learned.

    Raises:
        ValueError: sizes that no volume can have; and as `System`.
        TypeError: a voxel size that is a tensor; and as `System`.
    """

    mapper_type = TSDFFuser
    map_type = VoxelGrid

    def __init__(
        self,
        odometry: str | Odometry = "gradicp",
        *,
        voxel_size: float = 0.01,
        truncation: float | Tensor = 0.04,
        mapper: Mapper | None = None,
        noise: Noise = axial_noise,
        factor: int | None = None,
        settings: str | Settings = "default",
        max_depth: float = MAX_DEPTH,
    ) -> None:
        super().__init__(odometry, mapper=mapper, noise=noise, factor=factor, settings=settings, max_depth=max_depth)
        VoxelGrid.empty(1, voxel_size, truncation)  # refuses bad sizes at once
        self.voxel_size, self.truncation = voxel_size, truncation

    def make_mapper(self) -> Mapper:
        """Integration into the volume, soft where the settings are."""
        return TSDFFuser(association=self.settings.association)

    def empty_map(self, batch: int, device: torch.device, dtype: torch.dtype) -> VoxelGrid:
        """The volumes before the first frame."""
        return VoxelGrid.empty(batch, self.voxel_size, self.truncation, device, dtype)

    @stage("preprocess")
    def preprocess(self, frame: RGBDFrames) -> LiveFrame:
        """The frame with its depth unsmoothed, as it is fused: the model's corners are sharp."""
        return with_raw_vertices(super().preprocess(frame))

    @stage("predict")
    def predict_view(self, state: State, T_wm: Tensor, camera: Camera) -> SurfaceView:
        """The surface in the volume, seen from T_wm (B, 4, 4)."""
        return predict_volume(state.volume, T_wm, camera.K, camera.size)
