"""Localise, then map: the systems."""

from gradslam_ng.slam.settings import PRESETS, Settings
from gradslam_ng.slam.state import Result, State
from gradslam_ng.slam.systems import ICPSLAM, ICPOdometry, KinectFusion, PointFusion

__all__ = ["ICPSLAM", "PRESETS", "ICPOdometry", "KinectFusion", "PointFusion", "Result", "Settings", "State"]
