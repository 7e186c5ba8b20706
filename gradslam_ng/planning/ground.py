"""What a map stands on: which way is up, where the floor is, and axes that are level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradslam_ng.compute.discrete import discrete
from gradslam_ng.geometry.upright import estimate_upright
from gradslam_ng.meshing import marching_cubes
from gradslam_ng.structures import SurfelMap, VoxelGrid

LEVEL = math.cos(math.radians(20))  # of normals of level surfaces to the upward direction
BIN = 0.02  # meters, of heights
FAINT = 1e-4  # confidence below which a surfel is a pixel that was not trusted, at an edge say
FLOOR = 0.3  # of what the largest level surface has: the lowest one with as much is the floor

Map = SurfelMap | VoxelGrid


def surface_points(map_: Map) -> tuple[Tensor, Tensor]:
    """Points (M, 3) of the world on the surfaces of a map, float64, meters, with gradient to it, and normals (M, 3):
    surfels, or vertices and middles of the triangles of a volume's mesh.

    Raises:
        TypeError: another kind of map.
        ValueError: a batch of more than one.
    """
    if not isinstance(map_, (SurfelMap, VoxelGrid)):
        raise TypeError(f"map_: expected a SurfelMap or a VoxelGrid, got {type(map_).__name__}")
    if map_.batch != 1:
        raise ValueError(f"map_: expected one map, got a batch of {map_.batch}; take map_[b]")
    if isinstance(map_, SurfelMap):
        trusted = map_.mask & (map_.confidences.detach() >= FAINT)
        return map_.world_points()[trusted], map_.normals[trusted].detach().double()
    mesh = marching_cubes(map_)
    corners, normals = mesh.vertices.double(), mesh.normals.detach().double()
    points = torch.cat([corners, corners[mesh.faces].mean(1)])
    points = points if mesh.origin is None else points + mesh.origin
    return points, torch.cat([normals, normalize(normals[mesh.faces].mean(1), dim=-1)])


def estimate_up(
    map_: Map,
    T_wc: Tensor,  # (L, 4, 4)
) -> Tensor:
    """The upward direction (3,) float64 of the world: that of the map's level surfaces, near which the cameras' is on
    the mean; an axis of the world where it is within 2 degrees.

    Raises:
        TypeError, ValueError: as `surface_points`; or no pose that is known.
    """
    return estimate_upright(surface_points(map_)[1], T_wc)


@discrete
def estimate_floor(
    points: Tensor,  # (M, 3), meters
    normals: Tensor,  # (M, 3)
    up: Tensor,  # (3,)
) -> float:
    """Height of the floor along `up`, meters: the lowest surface seen from above that is large. A discrete choice.

    Raises:
        ValueError: no point at all.
    """
    if not len(points):
        raise ValueError("map: expected a surface, there is none")
    height = points @ up
    level = height[normals @ up > LEVEL]
    if not len(level):
        return float(height.sort().values[len(height) // 100])
    number = (level / BIN).round().long()
    count = torch.bincount(number - number.min()).double()
    around = torch.nn.functional.avg_pool1d(count[None], 3, 1, 1)[0]
    first = int((around >= FLOOR * around.max()).nonzero()[0])
    near = (number - number.min() - first).abs() <= 2
    return float(level[near].median()) if bool(near.any()) else float(BIN * (first + number.min()))


def level_axes(up: Tensor | Sequence[float]) -> Tensor:
    """Axes (3, 3) float64, a row each, right-handed: the third is up, the first the world's x as far as it is level, or
    its y where x is up. Of a world whose z is up they are its own.

    Raises:
        ValueError: no three finite numbers, or all zero.
    """
    given = torch.as_tensor(up).detach().cpu().double()
    if given.shape != (3,) or not bool(given.isfinite().all()) or not bool(given.norm() > 0):
        raise ValueError(f"up: expected a direction (3,), got {up}")
    up = normalize(given, dim=0)
    x = torch.eye(3, dtype=up.dtype)[int(up[0].abs() > 0.8)]
    x = normalize(x - (x @ up) * up, dim=0)
    return torch.stack([x, torch.linalg.cross(up, x), up])
