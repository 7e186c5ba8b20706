"""How a frame finds its pose."""

from gradslam_ng.odometry.given import GroundTruthOdometer
from gradslam_ng.odometry.icp import Alignment, ICPOdometer
from gradslam_ng.odometry.linearization import point_to_plane

__all__ = ["Alignment", "GroundTruthOdometer", "ICPOdometer", "point_to_plane"]
