"""gradslam_ng: dense RGB-D SLAM as one differentiable PyTorch program.

What is exported is imported when it is first asked for (PEP 562): the command line answers without torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradslam_ng import (
        calibration,
        cameras,
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
    "cameras",
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
_HOMES = {
    "graph": ("FactorGraph", "Smoother", "surrogate_loss"),
    "loops": ("LoopCloser", "VolumeLoopCloser"),
    "mapping": ("PointFuser", "TSDFFuser", "integrate"),
    "meshing": ("marching_cubes",),
    "odometry": ("ICPSettings", "ProjectiveICP"),
    "places": ("Relocalizer",),
    "rendering": ("RayCast", "Rendering", "raycast", "render"),
    "slam": ("ICPSLAM", "ICPOdometry", "KinectFusion", "PointFusion", "Settings"),
    "structures": ("RGBDFrames", "SurfelMap", "Trajectory", "VoxelGrid"),
}  # packages, and what of them is at the top too
_HOME = {name: package for package, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str):
        """An exported name, imported when it is first asked for, or the package `viz`, which `*` leaves out."""
        if name in _HOME:
            value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        elif name in __all__ or name == "viz":
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "viz"})
