"""Loop closure: detection, verification, pose graph optimization, and maps that follow."""

from gradslam_ng.loops.loop_closure import Loop, LoopCloser
from gradslam_ng.loops.reintegration import Reintegration, VolumeLoopCloser

__all__ = ["Loop", "LoopCloser", "Reintegration", "VolumeLoopCloser"]
