"""Odometry: point-to-plane and photometric ICP, known poses, and what they say of a frame."""

from gradslam_ng.odometry.icp import ProjectiveICP
from gradslam_ng.odometry.icp_settings import ICPSettings, step_strategy
from gradslam_ng.odometry.known_poses import KnownPoses
from gradslam_ng.odometry.nearest_neighbors import nearest_neighbors
from gradslam_ng.odometry.odometry import Odometry
from gradslam_ng.odometry.point_cloud_icp import align_points
from gradslam_ng.odometry.point_to_plane import point_to_plane
from gradslam_ng.odometry.tracking_result import TrackingResult, TrackingStatus

__all__ = [
    "ICPSettings",
    "KnownPoses",
    "Odometry",
    "ProjectiveICP",
    "TrackingResult",
    "TrackingStatus",
    "align_points",
    "nearest_neighbors",
    "point_to_plane",
    "step_strategy",
]
