"""Coarser levels keep pixels of the finer ones, and the camera that sees them."""

from __future__ import annotations

import torch

from gradslam_ng.geometry import camera
from gradslam_ng.preprocessing import downsample
from gradslam_ng.structures import SurfaceView


def test_downsampled_pixels_project_where_their_camera_says(room):
    frame = room.view(room.walk(2), (47, 62), torch.float64)
    vertices = camera.unproject(frame.depth, frame.K)
    weights = frame.depth[..., 0]
    intensity = torch.rand(weights.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    surface = SurfaceView(vertices, -vertices, weights, frame.K, intensity)
    for step in (2, 4):
        coarse = downsample(surface) if step == 2 else downsample(downsample(surface))
        uv, _ = camera.project(coarse.vertices.flatten(1, 2), coarse.K)
        grid = camera.pixel_grid(*coarse.size, dtype=torch.float64).flatten(0, 1)
        assert torch.allclose(uv, grid.expand_as(uv), atol=1e-9)
        assert torch.equal(coarse.normals, surface.normals[:, step - 1 :: step, step - 1 :: step])
        assert torch.equal(coarse.weights, weights[:, step - 1 :: step, step - 1 :: step])
    seen = (weights > 0).double()
    around = (slice(None), slice(4, 7), slice(8, 11))  # of the pixel 5, 9, that is 2, 4 of the half
    mean = (intensity * seen)[around].sum((1, 2)) / seen[around].sum((1, 2))
    assert torch.allclose(downsample(surface).intensity[:, 2, 4], mean)
