"""SLAM systems: localize each frame against the map, then fuse it."""

from gradslam_ng.slam.loop_closure import LoopClosure
from gradslam_ng.slam.settings import PRESETS, Settings
from gradslam_ng.slam.state import Result, State
from gradslam_ng.slam.stream import StreamingSystem
from gradslam_ng.slam.system import System
from gradslam_ng.slam.systems import ICPSLAM, ICPOdometry, KinectFusion, PointFusion

__all__ = [
    "ICPSLAM",
    "PRESETS",
    "ICPOdometry",
    "KinectFusion",
    "LoopClosure",
    "PointFusion",
    "Result",
    "Settings",
    "State",
    "StreamingSystem",
    "System",
]
