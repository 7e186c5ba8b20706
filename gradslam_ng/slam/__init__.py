"""Localise, then map: the systems."""

from gradslam_ng.slam.state import Result, State
from gradslam_ng.slam.systems import ICPSLAM, ICPOdometry, PointFusion

__all__ = ["ICPSLAM", "ICPOdometry", "PointFusion", "Result", "State"]
