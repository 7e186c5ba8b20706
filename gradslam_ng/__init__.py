"""gradslam_ng: dense RGB-D SLAM as one differentiable PyTorch program."""

from gradslam_ng import (
    datasets,
    evaluation,
    geometry,
    graph,
    loops,
    mapping,
    meshing,
    odometry,
    optim,
    rendering,
    slam,
    structures,
)
from gradslam_ng.graph import FactorGraph, Smoother, surrogate_loss
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
    "datasets",
    "evaluation",
    "geometry",
    "graph",
    "loops",
    "mapping",
    "meshing",
    "odometry",
    "optim",
    "raycast",
    "render",
    "rendering",
    "slam",
    "structures",
    "surrogate_loss",
]
