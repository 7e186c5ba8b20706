"""Shapes put into the world: alone, as a wall, or as a piece of furniture built at the origin and moved as one."""

from __future__ import annotations

import math

import torch

from gradslam_ng.datasets.synthetic.solids import Rectangle, Shape, Solid
from gradslam_ng.datasets.synthetic.texture import Material

Furniture = list[Solid]
Point = tuple[float, float, float]


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> torch.Tensor:
    """R_z(yaw) R_x(pitch) R_y(roll) (3, 3) float64; angles in radians."""
    (cz, sz), (cx, sx), (cy, sy) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
    about_z = torch.tensor([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]], dtype=torch.float64)
    about_x = torch.tensor([[1, 0, 0], [0, cx, -sx], [0, sx, cx]], dtype=torch.float64)
    about_y = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], dtype=torch.float64)
    return about_z @ about_x @ about_y


def place(
    shape: Shape, at: Point, material: Material, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0
) -> Solid:
    """A shape with its center at `at`, turned by R_z(yaw) R_x(pitch) R_y(roll), radians."""
    T_ws = torch.eye(4, dtype=torch.float64)
    T_ws[:3, :3] = rotation(yaw, pitch, roll)
    T_ws[:3, 3] = torch.tensor(at, dtype=torch.float64)
    return Solid(shape, T_ws, material)


def move(pieces: Furniture, at: tuple[float, ...], turn: float, name: str) -> Furniture:
    """Pieces built at the origin, turned about the vertical and moved to x, y (and z) together."""
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = rotation(turn)
    T[: len(at), 3] = torch.tensor(at, dtype=torch.float64)
    return [Solid(one.shape, T @ one.T_ws, one.material, name) for one in pieces]


def wall(center: Point, facing: tuple[int, int, int], half: tuple[float, float], material: Material) -> Solid:
    """A rectangle that faces along an axis; `half` its extents along the other two, in the order x, y, z."""
    axis = next(i for i, f in enumerate(facing) if f)
    first, second = (i for i in range(3) if i != axis)
    R_ws = torch.zeros(3, 3, dtype=torch.float64)
    R_ws[axis, 2] = facing[axis]
    R_ws[first, 0] = R_ws[second, 1] = 1.0
    if torch.linalg.det(R_ws) < 0:
        R_ws[first, 0] = -1.0
    T_ws = torch.eye(4, dtype=torch.float64)
    T_ws[:3, :3], T_ws[:3, 3] = R_ws, torch.tensor(center, dtype=torch.float64)
    return Solid(Rectangle(half), T_ws, material, "wall" if facing[2] == 0 else "floor" if facing[2] > 0 else "ceiling")


def shell(lower: Point, upper: Point, walls: dict[str, Material]) -> Furniture:
    """The six inner faces of a box; `walls` names their materials: -x, +x, -y, +y, floor, ceiling."""
    (x0, y0, z0), (x1, y1, z1) = lower, upper
    cx, cy, cz = (x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2
    hx, hy, hz = (x1 - x0) / 2, (y1 - y0) / 2, (z1 - z0) / 2
    return [
        wall((x0, cy, cz), (1, 0, 0), (hy, hz), walls["-x"]),
        wall((x1, cy, cz), (-1, 0, 0), (hy, hz), walls["+x"]),
        wall((cx, y0, cz), (0, 1, 0), (hx, hz), walls["-y"]),
        wall((cx, y1, cz), (0, -1, 0), (hx, hz), walls["+y"]),
        wall((cx, cy, z0), (0, 0, 1), (hx, hy), walls["floor"]),
        wall((cx, cy, z1), (0, 0, -1), (hx, hy), walls["ceiling"]),
    ]
