"""Meshes: closed, of the right shape and color, readable by others."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections import Counter

import numpy as np
import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.io.ply import read_ply
from gradslam_ng.meshing import marching_cubes, surfels_to_tsdf, tsdf_to_surfels
from gradslam_ng.meshing.marching_cubes import triangle_table
from gradslam_ng.structures import Mesh
from gradslam_ng.structures.voxel_blocks import pack, unpack, voxel_offsets


def filled(function, n: int = 3, voxel: float = 0.05) -> gs.VoxelGrid:
    cells = torch.cartesian_prod(*[torch.arange(-n, n)] * 3)
    with torch.no_grad():
        grid = gs.VoxelGrid.empty(1, voxel, 4 * voxel, dtype=torch.float64)
        grid = grid.allocate(pack(torch.zeros(len(cells), dtype=torch.int64), cells))
        _, block = unpack(grid.keys)
        p = (block[:, None] * 8 + voxel_offsets(torch.device("cpu"))).double() * voxel
        sdf, ones = function(p), torch.ones(p.shape[:2], dtype=torch.float64)
        color = (p + 1.2).movedim(-1, 1).contiguous() / 2.4
        return grid.scatter(grid.slots, sdf=sdf, weight=ones, color=color, color_weight=ones.clone())


@pytest.fixture(scope="module")
def ball() -> Mesh:
    return marching_cubes(filled(lambda p: p.norm(dim=-1) - 0.7))


def edges(mesh: Mesh) -> Counter:
    pairs = torch.cat([mesh.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    return Counter(map(tuple, pairs.tolist()))


def test_a_ball_is_closed_and_outside_out(ball):
    """Across blocks without seams: every edge once each way; Euler's number of a sphere."""
    found = edges(ball)
    assert max(found.values()) == 1 and all((b, a) in found for a, b in found)
    assert len(ball.vertices) - len(found) // 2 + len(ball.faces) == 2
    assert (ball.vertices.norm(dim=-1) - 0.7).abs().max() < 1e-3
    assert (ball.normals * ball.vertices / 0.7).sum(-1).min() > 0.99
    assert torch.allclose(ball.colors, (ball.vertices + 1.2) / 2.4, atol=1e-6)


def test_every_case_is_closed():
    """Values at random use all 256 cubes: no edge is left open but on the rim."""
    generator = torch.Generator().manual_seed(0)
    mesh = marching_cubes(filled(lambda p: torch.randn(p.shape[:2], dtype=p.dtype, generator=generator), n=1))
    found = edges(mesh)
    open_ends = torch.tensor([a for a, b in found.items() for _ in range(b - found.get(a[::-1], 0))])
    voxels = mesh.vertices[open_ends] / 0.05
    rim = ((voxels < -7.999) | (voxels > 6.999)).any(-1).all(-1)
    assert len(mesh.faces) > 5000 and rim.all()
    cases = triangle_table()
    assert len(cases) == 256 and (cases[0] == -1).all() and (cases[255] == -1).all() and (cases[1:255, 0] >= 0).all()


def test_vertices_have_gradients():
    grid = filled(lambda p: p.norm(dim=-1) - 0.7, n=2)
    sdf = grid.sdf.clone().requires_grad_()
    grid = dataclasses.replace(grid, sdf=sdf)
    marching_cubes(grid).vertices.square().sum().backward()
    assert sdf.grad.isfinite().all() and (sdf.grad < 0).sum() > 100  # less distance, a larger ball


def test_nothing_makes_an_empty_mesh(tmp_path):
    for grid in (gs.VoxelGrid.empty(), filled(lambda p: torch.ones(p.shape[:2], dtype=torch.float64))):
        mesh = marching_cubes(grid)
        assert len(mesh.vertices) == len(mesh.faces) == 0
        mesh.save(tmp_path / "empty.ply")
        mesh.save(tmp_path / "empty.glb")
    assert int(tsdf_to_surfels(gs.VoxelGrid.empty(2)).count.sum()) == 0


def test_written_meshes_are_read_by_others(tmp_path, ball):
    ball.save(tmp_path / "ball.ply")
    columns, faces = read_ply(tmp_path / "ball.ply")
    assert faces.equal(ball.faces) and {"nx", "red"} <= columns.keys()
    ball.save(tmp_path / "ball.glb")
    data = (tmp_path / "ball.glb").read_bytes()
    magic, version, length, size, kind = struct.unpack_from("<4sIII4s", data)
    document = json.loads(data[20 : 20 + size])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON") and size % 4 == 0
    assert document["accessors"][0]["count"] == len(ball.vertices)
    o3d = pytest.importorskip("open3d")
    seen = o3d.io.read_triangle_mesh(str(tmp_path / "ball.glb"))
    assert len(seen.triangles) == len(faces) and seen.has_vertex_colors()
    there, here = np.asarray(seen.vertices), ball.vertices.numpy() * [1, -1, -1]  # in an order of its own
    assert np.allclose(
        there @ [1, 2, 4], np.sort(here @ [1, 2, 4])[np.argsort(np.argsort(there @ [1, 2, 4]))], atol=1e-5
    )
    with pytest.raises(ValueError, match=r"expected a name that ends in \.ply, \.glb, \.obj or \.stl, got '\.off'"):
        ball.save(tmp_path / "ball.off")


@pytest.mark.parametrize("ending", ["obj", "stl"])
def test_meshes_for_printers_and_modelers(tmp_path, ball, ending):
    o3d = pytest.importorskip("open3d")
    far = dataclasses.replace(ball, origin=torch.tensor([1.0, 2, 3], dtype=torch.float64))
    far.save(tmp_path / f"ball.{ending}")
    seen = o3d.io.read_triangle_mesh(str(tmp_path / f"ball.{ending}"))
    assert len(seen.triangles) == len(ball.faces) and seen.has_vertex_colors() == (ending == "obj")
    points = torch.from_numpy(np.asarray(seen.vertices))
    torch.testing.assert_close(points.mean(0), torch.tensor([1.0, 2, 3], dtype=torch.float64), atol=0.02, rtol=0)


@pytest.mark.parametrize("up", [(0.0, -1, 0), (0.0, 0, 1), (0.0, 0, -1), (1.0, 0, 0), (0.6, 0.0, 0.8)])
def test_gltf_stands_upright_and_is_not_mirrored(tmp_path, ball, up):
    o3d = pytest.importorskip("open3d")
    up = torch.tensor(up, dtype=torch.float64)
    moved = dataclasses.replace(ball, vertices=ball.vertices + 5 * up.to(ball.vertices))
    moved.save(tmp_path / "ball.glb", up)
    seen = o3d.io.read_triangle_mesh(str(tmp_path / "ball.glb"))
    assert np.allclose(np.asarray(seen.vertices).mean(0), [0, 5, 0], atol=0.05)
    seen.compute_vertex_normals()  # of the order of the corners: outward, unless the mesh is mirrored
    outward = np.asarray(seen.vertices) - [0, 5, 0]
    assert ((np.asarray(seen.vertex_normals) * outward).sum(-1) > 0).mean() > 0.99


def test_surfels_make_a_mesh(ball):
    """Of the ball's own vertices: the same ball."""
    map_ = tsdf_to_surfels(filled(lambda p: p.norm(dim=-1) - 0.7))
    assert int(map_.count[0]) == len(ball.vertices)
    again = marching_cubes(surfels_to_tsdf(map_, voxel_size=0.05))
    assert (again.vertices.norm(dim=-1) - 0.7).abs().median() < 0.01
    assert len(again.faces) > 0.7 * len(ball.faces)
    assert int(surfels_to_tsdf(gs.SurfelMap.empty()).keys.numel()) == 0
