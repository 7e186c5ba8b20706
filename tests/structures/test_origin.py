"""Maps far from the world's origin: as precise as near it, in memory and in files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.io.ply import read_ply
from gradslam_ng.structures.origin import nearest_origin, relative_to_origin, to_world

FAR = torch.tensor([[448000.0, 5411008.0, 128.0]], dtype=torch.float64)  # a place in a map projection


@pytest.fixture(scope="module")
def surfels(seen, room) -> gs.SurfelMap:
    return replace(seen(room.walk(1)[0])[1][0], origin=FAR)


@pytest.fixture(scope="module")
def volume(room) -> gs.VoxelGrid:
    frame = room.view(room.walk(1), (48, 64))
    with torch.no_grad():
        return replace(gs.integrate(gs.VoxelGrid.empty(1, 0.05, 0.2), frame), origin=FAR)


def test_an_origin_is_a_multiple_of_16_m_and_the_world_s_near_it():
    T = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    T[:, :3, 3] = torch.tensor([[7.9, -7.9, 0.0], [8.1, 100_000.0, -5_411_000.3], [torch.nan] * 3, [1e20, 0, 0]])
    origin = nearest_origin(T)
    assert origin[:3].tolist() == [[0, 0, 0], [16, 100_000, -5_411_008], [0, 0, 0]]
    local = relative_to_origin(T, origin, torch.float32)
    assert local.dtype == torch.float32 and local[1, :3, 3].abs().max() <= 8 and local[2].isnan().any()
    assert (to_world(local, origin, torch.float64)[1] - T[1]).abs().max() < 1e-6
    near = se3.exp(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(relative_to_origin(near, nearest_origin(near), torch.float32), near)


def test_surfels_far_away_come_back_from_a_file(surfels, tmp_path):
    """In coordinates of the world for whoever reads them; with frame numbers, so that a map can go on."""
    numbers = torch.arange(surfels.capacity)[None]
    surfels = replace(surfels, created=numbers, updated=numbers + 7)
    surfels.save(tmp_path / "map.ply")
    columns, _ = read_ply(tmp_path / "map.ply")
    assert columns["x"].dtype == torch.float64 and columns["nx"].dtype == torch.float32
    xyz = torch.stack([columns[name] for name in "xyz"], -1)
    assert torch.allclose(xyz, surfels.world_points()[0], rtol=0, atol=1e-8)
    loaded = gs.SurfelMap.load(tmp_path / "map.ply")
    assert torch.equal(loaded.origin, FAR) and torch.allclose(loaded.points, surfels.points, rtol=0, atol=1e-8)
    assert torch.equal(loaded.created, numbers) and torch.equal(loaded.updated, numbers + 7)
    near = replace(surfels, origin=0 * FAR)
    near.save(tmp_path / "near.ply")
    loaded = gs.SurfelMap.load(tmp_path / "near.ply")
    assert loaded.origin is None and torch.equal(loaded.points, surfels.points)


def test_operations_on_surfels_keep_the_origin(surfels):
    half = torch.arange(surfels.capacity)[None] % 2 == 0
    for map_ in (surfels[0], surfels.prefix(9), surfels.reserve(10**5), surfels.compact(half), surfels.detach()):
        assert torch.equal(map_.origin, FAR)
    assert torch.equal(gs.meshing.surfels_to_tsdf(surfels, 0.05).origin, FAR)


def test_a_volume_far_away_is_asked_saved_and_meshed_where_it_is(volume, tmp_path):
    points = torch.tensor([[[0.1, 0.2, 1.0], [0.3, 0.1, 1.2]]])
    there = volume.query(points.double() + FAR[:, None])
    assert all(torch.equal(a, b) for a, b in zip(there, replace(volume, origin=None).query(points), strict=True))
    volume.save(tmp_path / "volume.npz")
    assert torch.equal(gs.VoxelGrid.load(tmp_path / "volume.npz").origin, FAR)
    mesh = gs.marching_cubes(volume)
    mesh.save(tmp_path / "mesh.ply")
    columns, _ = read_ply(tmp_path / "mesh.ply")
    xyz = torch.stack([columns[name] for name in "xyz"], -1)
    assert torch.allclose(xyz - FAR, mesh.vertices.double(), rtol=0, atol=1e-8) and len(xyz)
    mesh.save(tmp_path / "mesh.glb")
    data = (tmp_path / "mesh.glb").read_bytes()
    node = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])["nodes"][0]
    assert node["translation"] == [448000.0, -5411008.0, -128.0]  # y up, z backward
    assert torch.equal(gs.meshing.tsdf_to_surfels(volume).origin, FAR)


def test_maps_far_away_are_drawn_from_poses_in_the_world(surfels, volume, room):
    frame = room.view(room.walk(1), (48, 64))
    T_far = to_world(frame.T_wc, FAR, torch.float64)
    for draw, map_ in ((gs.render, surfels), (gs.raycast, volume)):
        near, far = (
            draw(replace(map_, origin=None), frame.T_wc, frame.K, frame.size),
            draw(map_, T_far, frame.K, (48, 64)),
        )
        assert near.depth.gt(0).float().mean() > 0.5
        assert torch.allclose(near.depth, far.depth, atol=1e-5) or (near.depth - far.depth).abs().median() < 1e-6
    moved = gs.integrate(volume, replace(frame, T_wc=T_far))
    assert torch.equal(moved.origin, FAR)
