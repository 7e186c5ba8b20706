"""Data structures: frames, views of surfaces, surfel maps, voxel grids, meshes and trajectories."""

from gradslam_ng.structures.frames import RGBDFrames, register_collate
from gradslam_ng.structures.live import LiveFrame
from gradslam_ng.structures.mesh import Mesh
from gradslam_ng.structures.surface import Camera, SurfaceView
from gradslam_ng.structures.surfels import SurfelMap
from gradslam_ng.structures.trajectory import Trajectory
from gradslam_ng.structures.voxel_grid import VoxelGrid

__all__ = ["Camera", "LiveFrame", "Mesh", "RGBDFrames", "SurfaceView", "SurfelMap", "Trajectory", "VoxelGrid"]

register_collate()
