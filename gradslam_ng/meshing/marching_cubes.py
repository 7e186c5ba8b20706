"""Marching cubes over sparse blocks of signed distances, without seams (Lorensen and Cline 1987)."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.compute.safe import denominator
from gradslam_ng.structures import VoxelGrid
from gradslam_ng.structures.mesh import Mesh
from gradslam_ng.structures.voxel_blocks import BLOCK_RESOLUTION, pack, unpack

CHUNK = 2048  # blocks at a time
CORNERS = tuple(itertools.product((0, 1), repeat=3))  # of a cube; number 4x + 2y + z
EDGES = tuple((a, a | bit) for bit in (4, 2, 1) for a in range(8) if not a & bit)  # from, to: along x, then y, then z
_MAX_VOXEL = 1 << 19  # voxels on either side of the origin that an edge's number has room for


@functools.cache
def triangle_table() -> Tensor:
    """Triangles of the 256 cubes, (256, T, 3) int64: numbers of edges, -1 beyond the last; bit c of a cube's number is
    set where corner c lies behind the surface.

    Made, not copied (Lorensen and Cline 1987): on each face of the cube the outline of every connected row of corners
    behind the surface is drawn from the edge where it ends to the edge where it begins, corners at both ends of a
    diagonal apart. That depends on the face alone, so two cubes agree on the face that they share and surfaces have
    no holes. The lines join to loops, which are cut into fans.
    """
    faces = []
    for axis, side in itertools.product(range(3), (0, 1)):
        square = [(0, 0), (1, 0), (1, 1), (0, 1)] if side else [(0, 0), (0, 1), (1, 1), (1, 0)]
        corners = []
        for a, b in square:  # counterclockwise as seen from outside
            place = [0, 0, 0]
            place[axis], place[(axis + 1) % 3], place[(axis + 2) % 3] = side, a, b
            corners.append(4 * place[0] + 2 * place[1] + place[2])
        faces.append(corners)
    number = {frozenset(edge): i for i, edge in enumerate(EDGES)}
    table = []
    for case in range(256):
        after = {}
        for corners in faces:
            behind = [case >> c & 1 for c in corners]
            begins = [i for i in range(4) if behind[i] and not behind[i - 1]]
            for i in begins:
                j = next(k for k in range(i, i + 4) if not behind[(k + 1) % 4])
                end = number[frozenset((corners[j % 4], corners[(j + 1) % 4]))]
                after[number[frozenset((corners[i - 1], corners[i]))]] = end
        triangles = []
        while after:
            first, edge = after.popitem()
            loop = [first]
            while edge != first:
                loop.append(edge)
                edge = after.pop(edge)
            triangles += [(loop[0], loop[i], loop[i + 1]) for i in range(1, len(loop) - 1)]
        table.append(triangles)
    longest = max(len(triangles) for triangles in table)
    filled = [[*t, *[(-1, -1, -1)] * (longest - len(t))] for t in table]
    return torch.tensor(filled, device="cpu")


@mode_free
def marching_cubes(grid: VoxelGrid) -> Mesh:
    """The zero of the signed distance of a batch of one, between voxels all of which are known.

    The mesh has the volume's origin. Vertices, colors and weights have gradients to the volume's values.

    Raises:
        ValueError: a batch of more than one.
    """
    if grid.batch != 1:
        raise ValueError(f"grid: expected one volume, got a batch of {grid.batch}; take grid[b]")
    parts = [extract_triangles(grid, keys) for keys in grid.keys.split(CHUNK)]
    origin = None if grid.origin is None else grid.origin[0]
    if not sum(len(part[0]) for part in parts):
        none = grid.sdf.new_zeros(0, 3)
        return Mesh(none, torch.zeros(0, 3, dtype=torch.int64, device=none.device), none, none, none[:, 0], origin)
    edges, values = (torch.cat(part) for part in zip(*parts, strict=True))
    number, faces = edges.unique(return_inverse=True)
    one = torch.empty_like(number).index_copy(0, faces, torch.arange(len(edges), device=edges.device))
    vertices, colors, weights = values[one].split([3, 3, 1], dim=-1)
    vertices, faces = vertices * grid.voxel_size, faces.reshape(-1, 3)
    return Mesh(vertices, faces, vertex_normals(vertices, faces), colors, weights[:, 0], origin)


def vertex_normals(
    vertices: Tensor,  # (V, 3)
    faces: Tensor,  # (F, 3) int64
) -> Tensor:
    """Unit normals (V, 3): means of the faces around a vertex, weighted by area; zero where they cancel."""
    corners = vertices[faces]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.zeros_like(vertices).index_add(0, faces.flatten(), across.repeat_interleave(3, 0))
    square = normals.square().sum(-1, keepdim=True)
    usable = square > 1e-20
    return torch.where(usable, normals * denominator(square, usable).rsqrt(), 0.0)


def extract_triangles(grid: VoxelGrid, keys: Tensor) -> tuple[Tensor, Tensor]:  # keys (n,) int64
    """Corners of the triangles of some blocks, three after three: the number (m,) of the voxel edge on which each lies,
    and (m, 7) its place, voxels, its color and weight."""
    batch_index, block = unpack(keys)
    corners = torch.tensor(CORNERS, device=keys.device)
    slots = grid.lookup(pack(batch_index[:, None], block[:, None] + corners))
    arrays = [grid.sdf, grid.weight, *grid.color.unbind(1), grid.color_weight]
    sdf, weight, *color, color_weight = (pad_blocks(array, slots) for array in arrays)

    case = cube_cases(sdf, weight)
    cube = ((case > 0) & (case < 255)).nonzero()
    edges = triangle_table().to(keys.device)[case[tuple(cube.T)]].flatten(1)  # (cubes, 3 T)
    which, place = (edges >= 0).nonzero().unbind(-1)
    ends = torch.tensor(EDGES, device=keys.device)[edges[which, place]]  # (m, 2) corners
    at = cube[which, 1:, None] + corners[ends].mT  # (m, 3, 2) in the padded block
    cells = (cube[which, 0, None], *at.unbind(1))
    voxel = block[cube[which, 0]] * BLOCK_RESOLUTION + at[..., 0]
    i, j, k = (voxel + _MAX_VOXEL).unbind(-1)
    axis = corners[ends[:, 1] - ends[:, 0]].argmax(-1)
    number = ((i * 2 * _MAX_VOXEL + j) * 2 * _MAX_VOXEL + k) * 4 + axis

    distance = sdf[cells]
    share = distance[:, :1] / (distance[:, :1] - distance[:, 1:])
    shares = torch.cat([1 - share, share], -1)
    position = voxel + share * torch.nn.functional.one_hot(axis, 3)
    color_shares = torch.where(color_weight[cells] > 0, shares, 0.0)
    total = color_shares.sum(-1, keepdim=True)
    color_shares = color_shares / denominator(total, total > 1e-6)
    colors = [(color_shares * plane[cells]).sum(-1) for plane in color]
    return number, torch.stack([*position.unbind(-1), *colors, (shares * weight[cells]).sum(-1)], -1)


@discrete
def cube_cases(
    sdf: Tensor,  # (n, 9, 9, 9), meters
    weight: Tensor,  # (n, 9, 9, 9)
) -> Tensor:
    """The number (n, 8, 8, 8) int64 of every cube, see `triangle_table`; 0 where a corner is not known. A discrete
    choice."""

    def corner(values: Tensor, c: int) -> Tensor:
        """Of every cube."""
        x, y, z = CORNERS[c]
        return values[:, x : x + BLOCK_RESOLUTION, y : y + BLOCK_RESOLUTION, z : z + BLOCK_RESOLUTION]

    known = torch.stack([corner(weight, c) > 0 for c in range(8)]).all(0)
    case = torch.stack([(corner(sdf, c) < 0).long() << c for c in range(8)]).sum(0)
    return torch.where(known, case, 0)


def pad_blocks(
    values: Tensor,  # (C, 512)
    slots: Tensor,  # (n, 8) int64, of blocks and their next neighbors in the order of CORNERS, -1 for none
) -> Tensor:
    """Blocks (n, 9, 9, 9) with the first voxels of their next neighbors; those of blocks that do not exist are 0."""
    size = BLOCK_RESOLUTION
    cubes = values.unflatten(-1, (size, size, size))
    result = values.new_zeros(len(slots), size + 1, size + 1, size + 1)
    for slot, corner in zip(slots.unbind(-1), CORNERS, strict=True):
        own = tuple(slice(1) if step else slice(size) for step in corner)
        there = tuple(slice(size, size + 1) if step else slice(size) for step in corner)
        found = torch.where((slot >= 0)[:, None, None, None], cubes[(slot.clamp(min=0), *own)], 0.0)
        result[(slice(None), *there)] = found
    return result
