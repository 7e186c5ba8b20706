"""Volumes that follow a correction: frames are taken out where they were and put back where they belong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.loops.loop_closure import LoopCloser
from gradslam_ng.loops.pose_graph import Loop
from gradslam_ng.mapping import PointFuser, TSDFFuser
from gradslam_ng.places.keyframes import distance
from gradslam_ng.preprocessing import Noise, axial_noise, measure_surface
from gradslam_ng.slam.state import State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, RGBDFrames, SurfelMap, VoxelGrid


@dataclass(eq=False)
class Kept:
    """What a volume needs of a frame that it holds, 7 bytes a pixel."""

    T_wc: Tensor  # (4, 4), where it was fused
    K: Tensor  # (1, 3, 3)
    depth: Tensor  # (1, H, W), metres
    color: Tensor  # (1, H, W, 3), uint8


class Reintegration:
    """The frames in a volume (a batch of one), so that they can be moved (Dai et al. 2017, BundleFusion).

        fused = Reintegration()
        fused.remember(live, T_wc)               # each frame that was fused
        grid = fused.correct(grid, T_wc)         # after a correction

    Distances come back as if the frames had never been elsewhere, but for free space that a wrong pose saw through
    blocks which it did not reach otherwise; colours to eight bits.

    Args:
        noise: the depth noise that frames were fused with.
    """

    def __init__(self, noise: Noise = axial_noise) -> None:
        self.fuser, self.noise, self.kept = TSDFFuser(), noise, []

    def remember(self, live: LiveFrame, T_wc: Tensor) -> None:
        """A frame that was fused at T_wc (4, 4)."""
        self.kept.append(Kept(T_wc, live.surface.K, live.depth, (255 * live.color).round().byte()))

    @torch.no_grad()
    def correct(self, grid: VoxelGrid, T_wc: Tensor, tolerance: tuple[float, float] = (0.002, 0.002)) -> VoxelGrid:
        """The volume with all frames at T_wc (L, 4, 4), in the order in which they came. Those that moved by less than
        `tolerance`, metres and radians, stay.

        Raises:
            ValueError: another number of poses than of frames, or a batch of volumes.
        """
        if len(T_wc) != len(self.kept):
            raise ValueError(f"T_wc: expected one for each of {len(self.kept)} frames, got {len(T_wc)}")
        if grid.batch != 1:
            raise ValueError(f"grid: expected a batch of one, got {grid.batch}")
        if not self.kept:
            return grid
        metres, radians = distance(torch.stack([kept.T_wc for kept in self.kept]), T_wc.to(self.kept[0].T_wc))
        for k in ((metres > tolerance[0]) | (radians > tolerance[1])).nonzero()[:, 0].tolist():
            kept = self.kept[k]
            frame = RGBDFrames(kept.color.to(kept.depth.dtype) / 255, kept.depth[..., None], kept.K)
            live, ok = (
                measure_surface(frame, noise=self.noise),
                torch.ones(1, dtype=torch.bool, device=grid.keys.device),
            )
            grid = self.fuser.integrate(grid, live, kept.T_wc[None], ok, -1)
            kept.T_wc = T_wc[k].to(kept.T_wc)
            grid = self.fuser.integrate(grid, live, kept.T_wc[None], ok)
        return grid


class VolumeLoopCloser:
    """Closes loops of a system whose map is a volume; see `System.run`. One for each run.

    A `LoopCloser` looks for them in surfels of the keyframes, which it moves as it goes. Tracking goes on where it was:
    a camera that returns finds the old surface in the volume and stays with it. At the end frames move to where the
    pose graph has them.
    """

    def __init__(self, closer: LoopCloser | None = None) -> None:
        self.closer = LoopCloser() if closer is None else closer
        self.mapper = PointFuser(
            stable_confidence=0.05, max_unseen_frames=10**9
        )  # keyframes alone are fused: a surfel is met rarely
        self.surfels: SurfelMap | None = None
        self.correction = torch.eye(4, dtype=torch.float64)  # from where tracking has the camera to where the loops do
        self.fused: Reintegration | None = None
        self.which: list[int] = []  # of the frames, those in the volume
        self.last: VoxelGrid | None = None

    @property
    def loops(self) -> list[Loop]:
        """Those closed."""
        return self.closer.loops

    @torch.no_grad()
    def process(self, system: System, state: State, live: LiveFrame) -> State:
        """After each step; the state goes on as it is."""
        if self.surfels is None:
            self.surfels = SurfelMap.empty(device=state.T_wc.device, dtype=state.T_wc.dtype)
            self.fused = Reintegration(system.noise)
        keyframes = self.closer.keyframes
        if state.map is not self.last and bool(state.tracking.ok[0]):
            self.fused.remember(live, state.T_wc[0])
            self.which.append(len(keyframes.hanging))
        self.last = state.map
        T_wc = (self.correction.to(state.T_wc) @ state.T_wc[0])[None]
        shadow = replace(state, map=self.surfels, T_wc=T_wc, tracking=replace(state.tracking, T_wc=T_wc))
        count = len(keyframes)
        shadow = self.closer.process(self, shadow, live)
        self.correction = (shadow.T_wc[0] @ se3.inverse(state.T_wc[0])).double().cpu()
        self.surfels = shadow.map
        if len(keyframes) > count:
            self.surfels = self.mapper(self.surfels, live, shadow.T_wc, state.tracking.ok, state.frames - 1)
        return state

    @torch.no_grad()
    def finalize(self, map_: VoxelGrid) -> tuple[VoxelGrid, Tensor]:
        """The volume and all frames' poses (L, 4, 4) float64, as the last optimum has them."""
        _, T_wc = self.closer.finalize(self.surfels)
        if not self.loops:
            return map_, T_wc
        half = 0.5 * map_.voxel_size  # a volume tells no less; by turning, a reading three metres away moves as far
        return self.fused.correct(map_, T_wc[self.which], (half, half / 3)), T_wc
