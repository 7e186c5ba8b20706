"""How a frame finds its pose."""

from gradslam_ng.odometry.icp import ICPOdometer
from gradslam_ng.odometry.known_poses import GroundTruthOdometer
from gradslam_ng.odometry.nearest_neighbors import nearest
from gradslam_ng.odometry.point_cloud_icp import align_points
from gradslam_ng.odometry.point_to_plane import point_to_plane
from gradslam_ng.odometry.tracking_result import Alignment, Reason

__all__ = ["Alignment", "GroundTruthOdometer", "ICPOdometer", "Reason", "align_points", "nearest", "point_to_plane"]
