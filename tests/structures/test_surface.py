from __future__ import annotations

import dataclasses

import torch

from gradslam_ng.geometry import camera
from gradslam_ng.structures import LiveFrame, Surface


def test_subsampled_pixels_project_where_their_camera_says(room):
    frame = room.view(room.walk(2), (47, 62), torch.float64)
    vertices = camera.unproject(frame.depth, frame.K)
    surface = Surface(vertices, -vertices, frame.depth[..., 0], frame.K)
    for step in (2, 3, 4):
        coarse = surface.subsampled(step)
        uv, _ = camera.project(coarse.vertices.flatten(1, 2), coarse.K)
        grid = camera.pixel_grid(*coarse.size, dtype=torch.float64).flatten(0, 1)
        assert torch.allclose(uv, grid.expand_as(uv), atol=1e-9)
        assert torch.equal(coarse.normals, surface.normals[:, step // 2 :: step, step // 2 :: step])
        assert torch.equal(coarse.weights, surface.weights[:, step // 2 :: step, step // 2 :: step])
    assert surface.subsampled(1) is surface


def test_where_chooses_by_batch_element(room):
    first, second = (LiveFrame.of(room.view(room.walk(2, seed))).surface for seed in (0, 1))
    second = dataclasses.replace(second, K=2 * second.K)
    mixed = first.where(torch.tensor([True, False]), second)
    for name in ("vertices", "normals", "weights", "K"):
        value, mine, theirs = (getattr(s, name) for s in (mixed, first, second))
        assert torch.equal(value[0], mine[0]) and torch.equal(value[1], theirs[1])
