"""gradslam_ng: dense RGB-D SLAM as one differentiable PyTorch program."""

from gradslam_ng import (
    calibration,
    compute,
    datasets,
    evaluation,
    geometry,
    graph,
    io,
    loops,
    mapping,
    meshing,
    odometry,
    optim,
    places,
    planning,
    preprocessing,
    refinement,
    rendering,
    slam,
    structures,
)
from gradslam_ng.graph import FactorGraph, Smoother, surrogate_loss
from gradslam_ng.loops import LoopCloser, VolumeLoopCloser
from gradslam_ng.mapping import PointFuser, TSDFFuser, integrate
from gradslam_ng.meshing import marching_cubes
from gradslam_ng.odometry import ICPSettings, ProjectiveICP
from gradslam_ng.places import Relocalizer
from gradslam_ng.rendering import RayCast, Rendering, raycast, render
from gradslam_ng.slam import ICPSLAM, ICPOdometry, KinectFusion, PointFusion, Settings
from gradslam_ng.structures import RGBDFrames, SurfelMap, Trajectory, VoxelGrid
from gradslam_ng.structures.frames import register_collate

__version__ = "0.1.0"
__all__ = [
    "ICPSLAM",
    "FactorGraph",
    "ICPOdometry",
    "ICPSettings",
    "KinectFusion",
    "LoopCloser",
    "PointFuser",
    "PointFusion",
    "ProjectiveICP",
    "RGBDFrames",
    "RayCast",
    "Relocalizer",
    "Rendering",
    "Settings",
    "Smoother",
    "SurfelMap",
    "TSDFFuser",
    "Trajectory",
    "VolumeLoopCloser",
    "VoxelGrid",
    "calibration",
    "compute",
    "datasets",
    "evaluation",
    "geometry",
    "graph",
    "integrate",
    "io",
    "loops",
    "mapping",
    "marching_cubes",
    "meshing",
    "odometry",
    "optim",
    "places",
    "planning",
    "preprocessing",
    "raycast",
    "refinement",
    "render",
    "rendering",
    "slam",
    "structures",
    "surrogate_loss",
]

register_collate()
