"""Color of a mesh in a texture, so that triangles can be larger than what is told apart on them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.structures.mesh import Mesh, Texture

SMALLEST = 8  # texels across a cell, at least: two triangles with margins around them
MARGIN = 1.5  # texels: viewers look a little beyond the edge of a triangle
LARGEST_SIDE = 8192  # texels of a texture, which all viewers take
NEAREST = 3  # points that a texel has its color of, the nearer the more


def bake_texture(mesh: Mesh, points: Tensor, colors: Tensor, texel: float) -> Mesh:
    """The mesh with a texture of the colors of points on it, and vertices of its own for each triangle.

    Two triangles share a square of 8, 16, ... texels across, as their edges need, halved along its diagonal; squares
    lie in Morton order, the largest first, which leaves no gaps. What is around a triangle in its half is colored as it
    would go on, so that no edge shows. Without gradient.

    Args:
        points, colors: (N, 3), meters, in the coordinates of the mesh; (N, 3), in [0, 1].
        texel: meters across one; more where the texture would be larger than 8192 texels across.

    Raises:
        ValueError: no triangle, no point, or a texel that is not positive.
    """
    if not (len(mesh.faces) and len(points) and texel > 0):
        raise ValueError(
            f"bake_texture: expected triangles, points and a positive texel, got {mesh}, {len(points)} and {texel}"
        )
    corners = mesh.vertices[mesh.faces].detach().cpu().double()  # (F, 3, 3)
    edges = (corners - corners.roll(1, 1)).norm(dim=-1).amax(-1)
    sides = _sides(edges, texel)
    order = sides.argsort(descending=True, stable=True)
    first = _first_texel(sides[order])  # (F, 2), of the cell of each
    side = sides[order].double()
    size = 1 << math.ceil(math.log2(int((first + sides[order][:, None]).max())))
    uv = _corners_in_cell(side, torch.arange(len(order)) % 2 == 1) + first[:, None]  # (F, 3, 2), texels
    image = _paint(size, corners[order], uv, first, sides[order], points, colors)
    faces = mesh.faces[order.to(mesh.faces.device)]
    values = {name: getattr(mesh, name)[faces.flatten()] for name in ("vertices", "normals", "colors", "weights")}
    numbered = torch.arange(3 * len(faces), device=faces.device).reshape(-1, 3)
    return replace(mesh, **values, faces=numbered, texture=Texture(image, (uv.flatten(0, 1) / size).float()))


def _sides(edges: Tensor, texel: float) -> Tensor:
    """Texels (F,) int64 across the cell of each triangle with longest edges (F,): two neighbors in the order of size
    share one, so that the larger of them decides."""
    while True:
        needed = edges / texel + 4 * MARGIN
        sides = 2 ** needed.clamp(min=SMALLEST).log2().ceil().long()
        order = sides.argsort(descending=True, stable=True)
        sides[order[1::2]] = sides[order[::2]][: len(order) // 2]
        if float(sides[order[::2]].double().square().sum()) <= LARGEST_SIDE**2:
            return sides
        texel *= 2


def _first_texel(sides: Tensor) -> Tensor:  # (F,) descending
    """Where the cell of each triangle begins, (F, 2) int64, column and row: in Morton order."""
    areas = (sides[::2] // SMALLEST) ** 2
    index = (areas.cumsum(0) - areas).repeat_interleave(2)[: len(sides)]
    places = torch.zeros(len(sides), 2, dtype=torch.int64)
    for bit in range(16):
        places[:, 0] |= (index >> (2 * bit) & 1) << bit
        places[:, 1] |= (index >> (2 * bit + 1) & 1) << bit
    return SMALLEST * places


def _corners_in_cell(side: Tensor, is_second: Tensor) -> Tensor:  # (F,), (F,) bool
    """Corners (F, 3, 2) of a triangle in its cell, texels: those of the first one at the cell's beginning."""
    near, far = torch.full_like(side, MARGIN), side - 3 * MARGIN
    own = torch.stack([torch.stack(x, -1) for x in ((near, near), (far, near), (near, far))], 1)
    return torch.where(is_second[:, None, None], side[:, None, None] - own, own)


def _paint(
    size: int, corners: Tensor, uv: Tensor, first: Tensor, sides: Tensor, points: Tensor, colors: Tensor
) -> Tensor:
    """The image (size, size, 3) uint8: each texel has the color of the points nearest to its place in its triangle's
    plane."""
    from scipy.spatial import cKDTree  # late: `import gradslam_ng` stays light

    tree = cKDTree(points.detach().cpu().double().numpy())
    shades = colors.detach().cpu().double().clamp(0, 1).numpy()
    image = np.zeros((size, size, 3), np.uint8)
    for side in sides.unique().tolist():
        row, column = (x.flatten() for x in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
        for number in range(2):  # of the triangles in a cell
            chosen = torch.nonzero((sides == side) & (torch.arange(len(sides)) % 2 == number))[:, 0]
            mine = (row + column < side) if number == 0 else (row + column >= side)
            texels = torch.stack([column[mine], row[mine]], -1)  # (T, 2)
            for some in chosen.split(max(1, 2_000_000 // max(1, len(texels)))):
                places = _place(texels + 0.5, uv[some] - first[some][:, None], corners[some])
                away, which = tree.query(places.numpy(), k=range(1, min(NEAREST, len(shades)) + 1))
                share = 1 / (away[..., None] + 1e-9)
                mixed = (shades[which] * share).sum(1) / share.sum(1)
                at = (first[some][:, None] + texels).reshape(-1, 2).numpy()
                image[at[:, 1], at[:, 0]] = np.round(255 * mixed)
    return torch.from_numpy(image)


def _place(texels: Tensor, uv: Tensor, corners: Tensor) -> Tensor:  # (T, 2), (F, 3, 2), (F, 3, 3)
    """Where texels lie in the planes of triangles with corners at uv, (F T, 3), not far beyond their edges."""
    a, ab, ac = uv[:, 0], uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    share = torch.linalg.solve(torch.stack([ab, ac], -1)[:, None], (texels - a[:, None])[..., None])[..., 0]
    weights = torch.cat([1 - share.sum(-1, keepdim=True), share], -1)  # (F, T, 3)
    return (weights @ corners).flatten(0, 1)
