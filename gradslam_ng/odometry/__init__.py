"""How a frame finds its pose."""

from gradslam_ng.odometry.alignment import Alignment, Reason
from gradslam_ng.odometry.given import GroundTruthOdometer
from gradslam_ng.odometry.icp import ICPOdometer
from gradslam_ng.odometry.linearization import point_to_plane
from gradslam_ng.odometry.nearest import nearest
from gradslam_ng.odometry.points import align_points

__all__ = ["Alignment", "GroundTruthOdometer", "ICPOdometer", "Reason", "align_points", "nearest", "point_to_plane"]
