"""Loop closure: detection, verification, pose graph optimization, and maps that follow."""

from gradslam_ng.loops.loop_closure import LoopCloser
from gradslam_ng.loops.pose_graph import Loop
from gradslam_ng.loops.reintegration import Reintegration
from gradslam_ng.loops.volume_loop_closure import VolumeLoopCloser

__all__ = ["Loop", "LoopCloser", "Reintegration", "VolumeLoopCloser"]
