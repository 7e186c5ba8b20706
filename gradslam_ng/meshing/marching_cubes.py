"""Surfaces of volumes as triangles: marching cubes over sparse blocks, without seams."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

from gradslam_ng.structures import SurfelMap, VoxelGrid
from gradslam_ng.structures.mesh import Mesh
from gradslam_ng.structures.voxel_grid import SIDE, pack, unpack

CHUNK = 2048  # blocks at a time
CORNERS = tuple(itertools.product((0, 1), repeat=3))  # of a cube; number 4x + 2y + z
EDGES = tuple((a, a | bit) for bit in (4, 2, 1) for a in range(8) if not a & bit)  # from, to: along x, then y, then z
_REACH = 1 << 19  # voxels on either side of the origin that an edge's number has room for


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
    return torch.tensor([[*t, *[(-1, -1, -1)] * (longest - len(t))] for t in table])


def surface(grid: VoxelGrid) -> Mesh:
    """The zero of the signed distance of a batch of one, between voxels all of which are known.

    Vertices, colours and weights have gradients to the volume's values.

    Raises:
        ValueError: a batch of more than one.
    """
    if grid.batch != 1:
        raise ValueError(f"grid: expected one volume, got a batch of {grid.batch}; take grid[b]")
    parts = [triangles(grid, keys) for keys in grid.keys.split(CHUNK)]
    if not sum(len(part[0]) for part in parts):
        none = grid.sdf.new_zeros(0, 3)
        return Mesh(none, torch.zeros(0, 3, dtype=torch.int64, device=none.device), none, none, none[:, 0])
    edges, values = (torch.cat(part) for part in zip(*parts, strict=True))
    number, faces = edges.unique(return_inverse=True)
    one = torch.empty_like(number).index_copy(0, faces, torch.arange(len(edges), device=edges.device))
    vertices, colors, weights = values[one].split([3, 3, 1], dim=-1)
    vertices, faces = vertices * grid.voxel_size, faces.reshape(-1, 3)
    corners = vertices[faces]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.zeros_like(vertices).index_add(0, faces.flatten(), across.repeat_interleave(3, 0))
    square = normals.square().sum(-1, keepdim=True)
    usable = square > 1e-20
    normals = torch.where(usable, normals * torch.where(usable, square, 1.0).rsqrt(), 0.0)
    return Mesh(vertices, faces, normals, colors, weights[:, 0])


def triangles(grid: VoxelGrid, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of the triangles of some blocks, three after three: the number (m,) of the voxel edge on which each lies,
    and (m, 7) its place, voxels, its colour and weight."""
    owner, block = unpack(keys)
    around = grid.lookup(pack(owner[:, None], block[:, None] + torch.tensor(CORNERS, device=keys.device)))
    arrays = [grid.sdf, grid.weight, *grid.color.unbind(1), grid.color_weight]
    sdf, weight, *color, color_weight = (padded(array, around) for array in arrays)

    def corner(values: Tensor, c: int) -> Tensor:
        """Of every cube."""
        x, y, z = CORNERS[c]
        return values[:, x : x + SIDE, y : y + SIDE, z : z + SIDE]

    known = torch.stack([corner(weight, c) > 0 for c in range(8)]).all(0)
    case = sum((corner(sdf, c) < 0).long() << c for c in range(8))
    cube = (known & (case > 0) & (case < 255)).nonzero()
    edges = triangle_table().to(keys.device)[case[tuple(cube.T)]].flatten(1)  # (cubes, 3 T)
    which, place = (edges >= 0).nonzero().unbind(-1)
    ends = torch.tensor(EDGES, device=keys.device)[edges[which, place]]  # (m, 2) corners
    steps = torch.tensor(CORNERS, device=keys.device)
    at = cube[which, 1:, None] + steps[ends].mT  # (m, 3, 2) in the padded block
    cells = (cube[which, 0, None], *at.unbind(1))
    voxel = block[cube[which, 0]] * SIDE + at[..., 0]
    i, j, k = (voxel + _REACH).unbind(-1)
    axis = steps[ends[:, 1] - ends[:, 0]].argmax(-1)
    number = ((i * 2 * _REACH + j) * 2 * _REACH + k) * 4 + axis

    distance, trust = sdf[cells], color_weight[cells]
    share = distance[:, :1] / (distance[:, :1] - distance[:, 1:])
    shares = torch.cat([1 - share, share], -1)
    position = voxel + share * torch.nn.functional.one_hot(axis, 3)
    coloured = torch.where(trust > 0, shares, 0.0)
    total = coloured.sum(-1, keepdim=True)
    coloured = coloured / torch.where(total > 1e-6, total, 1.0)
    hue = [(coloured * plane[cells]).sum(-1) for plane in color]
    return number, torch.stack([*position.unbind(-1), *hue, (shares * weight[cells]).sum(-1)], -1)


def padded(values: Tensor, around: Tensor) -> Tensor:
    """Blocks (n, 9, 9, 9) with the first voxels of their next neighbours; `around` (n, 8) their rows, in the order of
    CORNERS, -1 for none, whose voxels are 0."""
    cubes = values.unflatten(-1, (SIDE, SIDE, SIDE))
    result = values.new_zeros(len(around), SIDE + 1, SIDE + 1, SIDE + 1)
    for rows, corner in zip(around.unbind(-1), CORNERS, strict=True):
        own = tuple(slice(1) if step else slice(SIDE) for step in corner)
        there = tuple(slice(SIDE, SIDE + 1) if step else slice(SIDE) for step in corner)
        found = torch.where((rows >= 0)[:, None, None, None], cubes[(rows.clamp(min=0), *own)], 0.0)
        result[(slice(None), *there)] = found
    return result


def surfels(grid: VoxelGrid) -> SurfelMap:
    """The surface of each volume as surfels, one a vertex, of the size of a voxel."""
    meshes = [surface(grid[b]) for b in range(grid.batch)]
    map_ = SurfelMap.empty(grid.batch, device=grid.sdf.device, dtype=grid.sdf.dtype)
    longest = max(len(mesh.vertices) for mesh in meshes)

    def stacked(name: str) -> Tensor:
        values = (getattr(mesh, name) for mesh in meshes)
        return torch.stack([torch.cat([v, v.new_zeros(longest - len(v), *v.shape[1:])]) for v in values])

    weights, points = stacked("weights"), stacked("vertices")
    frame = torch.zeros(weights.shape, dtype=torch.int64, device=weights.device)
    return map_.append(
        weights > 0, points=points, normals=stacked("normals"), colors=stacked("colors"), confidences=weights,
        radii=torch.full_like(weights, 0.8 * grid.voxel_size), created=frame, updated=frame,
    )  # fmt: skip


def volume(map_: SurfelMap, voxel_size: float = 0.01) -> VoxelGrid:
    """Surfels as a volume, from which `surface` makes a mesh: every voxel gathers the distances to the planes of the
    surfels around it, weighted by confidence and by a bell of two voxels (Kolluri 2005).

    A surfel's influence reaches three voxels, and no less than twice its radius up to six voxels.
    """
    points, normals, colors = (x[map_.mask] for x in (map_.points, map_.normals, map_.colors))
    owner = map_.mask.nonzero()[:, 0]
    trust, radii = map_.confidences[map_.mask], map_.radii[map_.mask]
    grid = VoxelGrid.empty(map_.batch, voxel_size, 4 * voxel_size, points.device, points.dtype)
    if not len(points):
        return grid
    reach = (2 * radii / voxel_size).clamp(3, 6)  # voxels
    centre = (points / voxel_size).round().long()
    most = int(reach.max().ceil())
    near = torch.arange(-most, most + 1, device=points.device)
    near = torch.cartesian_prod(near, near, near)
    near = near[near.square().sum(-1).sqrt() <= most + 0.87]
    found = [
        pack(owner, (centre + step).div(SIDE, rounding_mode="floor")).unique() for step in near[:: len(near) // 60]
    ]
    grid = grid.allocate(torch.cat(found).unique())
    count = grid.sdf.numel()
    total, distance = grid.sdf.new_zeros(count), grid.sdf.new_zeros(count)
    hue = grid.sdf.new_zeros(count, 3)
    for step in near:
        voxel = centre + step
        offset = voxel * voxel_size - points
        away = (offset.norm(dim=-1) / voxel_size / reach * 3).square()
        row = grid.lookup(pack(owner, voxel.div(SIDE, rounding_mode="floor")))
        weight = torch.where((away < 9) & (row >= 0), trust * torch.exp(-0.5 * away), 0.0)
        i, j, k = (voxel % SIDE).unbind(-1)
        cell = row.clamp(min=0) * SIDE**3 + (i * SIDE + j) * SIDE + k
        total.index_add_(0, cell, weight)
        distance.index_add_(0, cell, weight * (offset * normals).sum(-1))
        hue.index_add_(0, cell, weight[:, None] * colors)
    scale = torch.where(total > 0, 1 / torch.where(total > 0, total, 1.0), 0.0)
    shape = grid.sdf.shape
    total = total.reshape(shape)
    return grid.scatter(
        torch.arange(len(grid.sdf), device=points.device),
        sdf=(distance * scale).reshape(shape).clamp(-grid.truncation, grid.truncation), weight=total,
        color=(hue * scale[:, None]).reshape(*shape, 3).movedim(-1, 1).contiguous(), color_weight=total.clone(),
    )  # fmt: skip
