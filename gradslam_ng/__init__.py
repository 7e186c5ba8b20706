"""gradslam_ng: dense RGB-D SLAM as one differentiable PyTorch program."""

from gradslam_ng import datasets, evaluation, geometry, optim
from gradslam_ng.rendering import raycast, render
from gradslam_ng.slam import ICPSLAM, ICPOdometry, KinectFusion, PointFusion
from gradslam_ng.structures import RGBDFrames, SurfelMap, Trajectory, VoxelGrid

__version__ = "0.1.0"
__all__ = [
    "ICPSLAM",
    "ICPOdometry",
    "KinectFusion",
    "PointFusion",
    "RGBDFrames",
    "SurfelMap",
    "Trajectory",
    "VoxelGrid",
    "datasets",
    "evaluation",
    "geometry",
    "optim",
    "raycast",
    "render",
]
