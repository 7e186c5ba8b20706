"""Parts of few triangles left out, and decimation: what is left, and what it keeps."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.meshing import decimate, marching_cubes, remove_small_components, surfels_to_tsdf


@pytest.fixture(scope="module")
def spheres() -> gs.structures.mesh.Mesh:
    """One of 0.5 m and one of 0.15 m, 2 m apart, half of each red."""
    points, normals = [], []
    for radius, count, x in ((0.5, 4000, 0.0), (0.15, 400, 2.0)):
        i = torch.arange(count, dtype=torch.float64) + 0.5
        z, angle = 1 - 2 * i / count, i * 2.399963
        normal = torch.stack([angle.cos() * (1 - z**2).sqrt(), angle.sin() * (1 - z**2).sqrt(), z], -1)
        points.append(radius * normal + torch.tensor([x, 0, 0], dtype=torch.float64))
        normals.append(normal)
    p, n = torch.cat(points)[None], torch.cat(normals)[None]
    one = torch.ones(p.shape[:2], dtype=torch.float64)
    map_ = gs.SurfelMap.empty(1, dtype=torch.float64).append(
        one > 0, points=p, normals=n, colors=(n > 0).double(), confidences=one, radii=0.03 * one,
        created=one.long(), updated=one.long(),
    )  # fmt: skip
    return marching_cubes(surfels_to_tsdf(map_, 0.04))


def test_small_components_are_left_out_and_the_rest_stays(spheres):
    large = remove_small_components(spheres, 1500)
    kept = (spheres.vertices[:, 0] < 1).sum()
    assert len(large.vertices) == int(kept) and bool((large.vertices[:, 0] < 1).all())
    assert 0 < len(large.faces) < len(spheres.faces) and int(large.faces.max()) == len(large.vertices) - 1
    belongs = (spheres.vertices[spheres.faces][..., 0] < 1).all(-1)
    assert torch.equal(large.vertices[large.faces], spheres.vertices[spheres.faces[belongs]])
    assert torch.equal(large.colors[large.faces], spheres.colors[spheres.faces[belongs]])
    assert torch.equal(remove_small_components(spheres, 0).faces, spheres.faces)
    assert len(remove_small_components(spheres, 10**6).faces) == 0
    with pytest.raises(ValueError, match="min_faces"):
        remove_small_components(spheres, -1)


def test_decimation_keeps_shape_and_colors(spheres):
    pytest.importorskip("open3d")
    small = decimate(remove_small_components(spheres, 1500), 600)
    assert 500 < len(small.faces) <= 600 and small.weights.shape == small.vertices.shape[:1]
    assert (small.vertices.norm(dim=-1) - 0.5).abs().max() < 0.02
    outward = (small.normals * small.vertices).sum(-1) / 0.5
    assert outward.median() > 0.98
    right = small.vertices[:, 2].abs() > 0.1  # not within the seam of the colors
    assert torch.equal(small.colors[right, 2] > 0.5, small.vertices[right, 2] > 0)
    assert decimate(small, 10**6) is small
    with pytest.raises(ValueError, match="expected a positive number of triangles"):
        decimate(small, 0)


def test_nothing_stays_nothing():
    empty = marching_cubes(gs.VoxelGrid.empty())
    assert len(remove_small_components(empty, 10).faces) == 0 and len(decimate(empty, 10).faces) == 0
