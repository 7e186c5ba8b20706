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
    preprocessing,
    rendering,
    slam,
    structures,
)
from gradslam_ng.graph import FactorGraph, Smoother, surrogate_loss
from gradslam_ng.mapping import integrate
from gradslam_ng.meshing import marching_cubes
from gradslam_ng.rendering import raycast, render
from gradslam_ng.slam import ICPSLAM, ICPOdometry, KinectFusion, PointFusion, Settings
from gradslam_ng.structures import RGBDFrames, SurfelMap, Trajectory, VoxelGrid
from gradslam_ng.structures.frames import register_collate

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
    "integrate",
    "loops",
    "mapping",
    "marching_cubes",
    "meshing",
    "odometry",
    "optim",
    "preprocessing",
    "raycast",
    "render",
    "rendering",
    "slam",
    "structures",
    "surrogate_loss",
]

register_collate()
