"""gradslam_ng: dense RGB-D SLAM as one differentiable PyTorch program."""

from gradslam_ng import backend, datasets, evaluation, geometry, optim
from gradslam_ng.backend import FactorGraph, Smoother, surrogate_loss
from gradslam_ng.rendering import raycast, render
from gradslam_ng.slam import ICPSLAM, ICPOdometry, KinectFusion, PointFusion, Settings
from gradslam_ng.structures import RGBDFrames, SurfelMap, Trajectory, VoxelGrid

__version__ = "0.1.0"
__all__ = [
    "ICPSLAM",
    "FactorGraph",
    "ICPOdometry",
    "KinectFusion",
    "PointFusion",
    "RGBDFrames",
    "Settings",
    "Smoother",
    "SurfelMap",
    "Trajectory",
    "VoxelGrid",
    "backend",
    "datasets",
    "evaluation",
    "geometry",
    "optim",
    "raycast",
    "render",
    "surrogate_loss",
]
