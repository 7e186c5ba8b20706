"""Loop closure of a volumetric map: detection in surfels of the keyframes, frames reintegrated where they belong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.loops.loop_closure import LoopCloser, surfels_of
from gradslam_ng.loops.pose_graph import Loop
from gradslam_ng.loops.reintegration import FusedFrame, Reintegration
from gradslam_ng.mapping import PointFuser
from gradslam_ng.slam.state import Map, State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, SurfelMap, VoxelGrid


class VolumeLoopCloser:
    """Closes loops of a system whose map is a volume; see `StreamingSystem.run`. One for each run.

    A `LoopCloser` looks for them in surfels of the keyframes, which it moves as it goes. Tracking goes on where it was:
    a camera that returns finds the old surface in the volume and stays with it. At the end frames move to where the
    pose graph has them.
    """

    moves_map = False

    def __init__(self, detector: LoopCloser | None = None) -> None:
        self.detector = LoopCloser() if detector is None else detector
        # keyframes alone are fused: a surfel is updated rarely
        self.mapper = PointFuser(stable_confidence=0.05, max_unseen_frames=10**9)
        self.surfels = SurfelMap.empty()
        self.correction = torch.eye(
            4, dtype=torch.float64, device="cpu"
        )  # from the tracked pose to that of the pose graph
        self.fused = Reintegration()
        self.fused_frames: list[int] = []  # of the frames, those in the volume

    def fresh(self) -> VolumeLoopCloser:
        """Another one of the same settings, for another map."""
        return VolumeLoopCloser(self.detector.fresh())

    saved_types = (*LoopCloser.saved_types, FusedFrame)

    def saved(self) -> dict[str, Any]:
        """What it knows between two frames, for `restore`."""
        known = {name: value for name, value in vars(self).items() if name in ("surfels", "correction", "fused_frames")}
        return known | {"detector": self.detector.saved(), "fused": self.fused.frames}

    def restore(self, saved: dict[str, Any], system: System) -> None:
        """Go on from where another one of the same settings was."""
        self.detector.restore(saved["detector"], system)
        self.surfels, self.correction = saved["surfels"], saved["correction"]
        self.fused = Reintegration(system.noise)
        self.fused.frames, self.fused_frames = saved["fused"], saved["fused_frames"]

    @property
    def loops(self) -> list[Loop]:
        """Those closed."""
        return self.detector.loops

    @property
    def archive(self) -> SurfelMap:
        """Empty: all of the volume is tracked against."""
        return SurfelMap.empty()

    def loop_frames(self) -> list[tuple[int, int]]:
        """The two frames of each loop closed, counted from 0."""
        return self.detector.loop_frames()

    def poses(self) -> Tensor:
        """Of all frames so far (L, 4, 4) float64, as the pose graph has them."""
        return self.detector.poses()

    @torch.no_grad()
    def process(self, system: System, state: State, live: LiveFrame, in_map: bool = True) -> State:
        """After each step; the state goes on as it is. in_map: the frame, if it was tracked, is in the map."""
        keyframes = self.detector.keyframes
        if not len(keyframes):
            self.surfels = SurfelMap.empty(device=state.T_oc.device, dtype=state.T_oc.dtype)
            self.fused = Reintegration(system.noise)
        if in_map and bool(state.tracking.ok[0]):
            self.fused.add(live, state.T_oc[0])
            self.fused_frames.append(len(keyframes.relative_poses))
        T_wc = (self.correction.to(state.T_oc) @ state.T_oc[0])[None]
        corrected = replace(state, map=self.surfels, T_oc=T_wc, tracking=replace(state.tracking, T_wc=T_wc))
        count = len(keyframes)
        corrected = self.detector.process_frame(corrected, live, self.mapper.stable_confidence)
        self.correction = (corrected.T_oc[0] @ se3.inverse(state.T_oc[0])).double().cpu()
        self.surfels = surfels_of(corrected.map)
        if len(keyframes) > count:
            ok, number = state.tracking.ok, state.frames - 1
            self.surfels = self.mapper(self.surfels, live, corrected.T_oc, ok, number)
            self.surfels = self.mapper.prune_if_due(self.surfels, ok, number)
        return state

    def reactivate(self, state: State) -> State:
        """The state as it is: all of the volume is tracked against."""
        return state

    def recall(self, T_wc: Sequence[Tensor]) -> None:
        """Nothing: all of the volume is in memory."""

    def stored(self) -> Iterator[SurfelMap]:
        """Nothing is on disk."""
        return iter(())

    @torch.no_grad()
    def finalize(self, map_: Map) -> tuple[Map, Tensor]:
        """The volume and all frames' poses (L, 4, 4) float64, as the last optimum has them.

        Raises:
            TypeError: the map is no volume.
        """
        if not isinstance(map_, VoxelGrid):
            raise TypeError(f"VolumeLoopCloser: expected a volume, got {type(map_).__name__}; see LoopCloser")
        _, T_wc = self.detector.finalize(self.surfels)
        if not self.loops:
            return map_, T_wc
        # half a voxel is no change of the volume; by rotation, a point three meters away moves as far
        half = 0.5 * map_.voxel_size
        return self.fused.reintegrate(map_, T_wc[self.fused_frames], (half, half / 3)), T_wc
