"""What is printed of maps, meshes and trajectories: a line, whatever their size."""

from __future__ import annotations

import torch

from gradslam_ng.structures import RGBDFrames, SurfelMap, Trajectory, VoxelGrid
from gradslam_ng.structures.mesh import Mesh


def test_one_line_each():
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[1] = torch.nan
    frames = RGBDFrames(torch.zeros(2, 3, 6, 8, 3), torch.ones(2, 3, 6, 8, 1), torch.eye(3))
    found = {
        repr(SurfelMap.empty(2, 500)): "SurfelMap(0, 0 surfels, room for 500, float32 on cpu)",
        repr(VoxelGrid.empty(1, 0.02, 0.08)): "VoxelGrid(0 blocks of 0.02 m voxels, float32 on cpu)",
        repr(VoxelGrid.empty(3)): "VoxelGrid(3 volumes, 0 blocks of 0.01 m voxels, float32 on cpu)",
        repr(Trajectory(torch.arange(3), poses)): "Trajectory(3 poses, 0.000 s to 2.000 s, 2 known)",
        repr(Trajectory(torch.zeros(0), torch.zeros(0, 4, 4))): "Trajectory(0 poses)",
        repr(Mesh(*[torch.zeros(4, 3)] * 4, torch.zeros(4))): "Mesh(4 triangles, 4 vertices)",
        repr(frames): "RGBDFrames(2x3 of 8x6, float32 on cpu)",
        repr(frames[0, 0]): "RGBDFrames(1 of 8x6, float32 on cpu)",
    }
    for printed, expected in found.items():
        assert printed == expected
