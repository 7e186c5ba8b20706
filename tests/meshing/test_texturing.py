"""Textures: what is told apart on large triangles is as it was on small ones, in the files too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gradslam_ng.meshing import bake_texture
from gradslam_ng.structures.mesh import Mesh

RED, BLUE = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])


def paint(points: Tensor) -> Tensor:
    """Checks of 10 cm."""
    is_red = (points[..., :2] / 0.1).floor().sum(-1) % 2 == 0
    return torch.where(is_red[..., None], RED, BLUE)


@pytest.fixture(scope="module")
def wall() -> Mesh:
    """A wall of 1 x 1 m in two triangles, and beside it a strip of five that become small."""
    x = [0, 1, 1, 0, 1.1, 1.1, 1.15, 1.15, 1.2]
    y = [0, 0, 1, 1, 0.0, 0.3, 0.0, 0.3, 0.3]
    vertices = torch.stack([torch.tensor(x), torch.tensor(y), torch.full((9,), 2.0)], -1)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [1, 4, 5], [4, 6, 5], [6, 7, 5], [6, 8, 7], [1, 5, 2]])
    normals = torch.tensor([0, 0, -1.0]).expand(9, 3)
    textured = bake_texture(Mesh(vertices, faces, normals, torch.full((9, 3), 0.5), torch.ones(9)), *seen(), texel=0.01)
    assert len(textured.faces) == 7 and len(textured.vertices) == 21
    return textured


def seen() -> tuple[Tensor, Tensor]:
    grid = torch.arange(0, 1.25, 0.005)
    points = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).flatten(0, 1) + 0.0025
    points = torch.cat([points, torch.full((len(points), 1), 2.0)], -1)
    return points, paint(points)


def places(corners: Tensor, count: int = 200) -> Tensor:  # (F, 3, C)
    """Points (F, count, C) on triangles."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(count, 3, generator=generator).clamp(min=1e-6).log()
    return (weights / weights.sum(-1, keepdim=True)) @ corners.float()


def look_up(image: np.ndarray, uv: Tensor) -> Tensor:
    """Colors (..., 3) of an image as viewers interpolate them."""
    pixels = torch.from_numpy(np.asarray(image)[..., :3].copy()).float().movedim(-1, 0)[None] / 255
    flat = uv.reshape(1, 1, -1, 2) * 2 - 1
    found = torch.nn.functional.grid_sample(pixels, flat, padding_mode="border", align_corners=False)
    return found[0, :, 0].T.reshape(*uv.shape[:-1], 3)


def agreement(corners: Tensor, image: np.ndarray, uv: Tensor) -> float:  # (F, 3, 3), (F, 3, 2)
    """Share of points on the triangles that have the color they should have."""
    points = places(corners)
    away = ((points[..., :2] / 0.1) % 1 - 0.5).abs().amax(-1) < 0.35  # not within 1.5 cm of the seams
    right = (look_up(image, places(uv)) - paint(points)).abs().amax(-1) < 0.3
    return float(right[away].double().mean())


def test_checks_finer_than_the_triangles(wall):
    uv = wall.texture.uv
    assert 0 <= uv.min() and uv.max() <= 1 and wall.texture.image.shape[0] == wall.texture.image.shape[1] <= 512
    assert agreement(wall.vertices[wall.faces], wall.texture.image.numpy(), uv[wall.faces]) > 0.99


def test_no_two_triangles_share_a_texel(wall):
    """All that interpolation within a triangle looks at is its own."""
    size = wall.texture.image.shape[0]
    near = (places(wall.texture.uv[wall.faces], 2000) * size - 0.5).floor().long()  # (F, count, 2)
    around = torch.cat([near + torch.tensor(step) for step in ((0, 0), (0, 1), (1, 0), (1, 1))], 1)
    owned = [set(map(tuple, each.tolist())) for each in around]
    assert not any(one & other for i, one in enumerate(owned) for other in owned[:i])


@pytest.mark.parametrize("ending", ["glb", "obj"])
def test_files_as_others_read_them(wall, tmp_path, ending):
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("open3d")
    wall.save(tmp_path / f"wall.{ending}", torch.tensor([0.0, 1, 0]))
    loaded = trimesh.load(tmp_path / f"wall.{ending}", force="mesh", process=False)
    material = loaded.visual.material
    image = material.baseColorTexture if ending == "glb" else material.image
    uv = torch.from_numpy(np.asarray(loaded.visual.uv)).float() * torch.tensor([1, -1]) + torch.tensor([0, 1.0])
    corners = torch.from_numpy(np.asarray(loaded.vertices)).float()
    corners = corners * torch.tensor([-1.0, 1, -1]) if ending == "glb" else corners  # glTF looks the other way
    faces = torch.from_numpy(np.asarray(loaded.faces))
    assert len(faces) == 7 and agreement(corners[faces], np.asarray(image), uv[faces]) > 0.99


def test_textures_that_would_be_too_large_are_coarser(wall, monkeypatch):
    monkeypatch.setattr("gradslam_ng.meshing.texturing.LARGEST_SIDE", 64)
    plain = bake_texture(wall, *seen(), texel=0.001)
    assert plain.texture.image.shape[0] <= 64


def test_what_cannot_be_painted(wall):
    for points, texel in ((torch.zeros(0, 3), 0.01), (torch.zeros(1, 3), 0.0)):
        with pytest.raises(ValueError, match="expected triangles, points and a positive"):
            bake_texture(wall, points, torch.zeros(len(points), 3), texel)
