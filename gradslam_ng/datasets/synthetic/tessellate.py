"""Triangles for the analytic shapes: every vertex lies on the surface, every face is counter-clockwise from outside.

Flat faces are cut into cells of about `edge` meters, so that single cells can be dropped where something hides them;
curved ones so finely that a chord's error (edge^2 / 8 radius) stays under `SAG`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SAG = 2e-4  # meters

Mesh = tuple[Tensor, Tensor]  # vertices (V, 3) float64 meters, faces (F, 3) int64


def join(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one."""
    vertices, faces, offset = [], [], 0
    for v, f in meshes:
        vertices.append(v)
        faces.append(f + offset)
        offset += len(v)
    return torch.cat(vertices), torch.cat(faces)


def _sheet(points: Tensor) -> Mesh:
    """The (n, m, 3) grid of points as triangles; d/di x d/dj points outwards. Triangles without area are dropped."""
    n, m, _ = points.shape
    index = torch.arange(n * m).reshape(n, m)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = torch.stack([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)]).reshape(-1, 3)
    vertices = points.reshape(-1, 3)
    corner = vertices[faces]
    area = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).norm(dim=-1)
    return vertices, faces[area > 1e-12]


def _steps(length: float, edge: float) -> int:
    return max(1, math.ceil(length / edge - 1e-9))


def _angles(radius: float, edge: float, turn: float = 2 * math.pi) -> Tensor:
    """Angles over `turn`, close enough together for the chord on a circle of `radius`."""
    chord = min(edge, math.sqrt(8 * SAG * max(radius, 1e-3)))
    steps = max(_steps(turn * radius, chord), math.ceil(8 * turn / math.tau))
    return torch.linspace(0, turn, steps + 1, dtype=torch.float64)


def rectangle(half: tuple[float, float], edge: float) -> Mesh:
    """The rectangle |x|, |y| <= half in z = 0, facing +z."""
    x, y = (torch.linspace(-h, h, _steps(2 * h, edge) + 1, dtype=torch.float64) for h in half)
    xx, yy = torch.meshgrid(x, y, indexing="ij")
    return _sheet(torch.stack([xx, yy, torch.zeros_like(xx)], -1))


def box(half: tuple[float, float, float], rounding: float, edge: float) -> Mesh:
    """A box with edges rounded inside its extents: cells of the sharp box, pulled onto the rounded one."""
    h = torch.tensor(half, dtype=torch.float64)
    inner = h - rounding
    ticks = []
    for axis in range(3):
        flat = float(inner[axis])
        tick = torch.linspace(-flat, flat, _steps(2 * flat, edge) + 1, dtype=torch.float64)
        if rounding > 0:
            bend = flat + rounding * torch.tan(_angles(rounding, edge, math.pi / 4))[1:]
            tick = torch.cat([-bend.flip(0), tick, bend])
        ticks.append(tick)
    sheets = []
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        a, b = torch.meshgrid(ticks[i], ticks[j], indexing="ij")
        for sign in (1, -1):
            points = torch.empty(*a.shape, 3, dtype=torch.float64)
            points[..., i], points[..., j], points[..., axis] = a, b, sign * h[axis]
            sheets.append(_sheet(points if sign > 0 else points.transpose(0, 1)))
    vertices, faces = join(sheets)
    if rounding > 0:
        core = vertices.clamp(-inner, inner)
        vertices = core + rounding * torch.nn.functional.normalize(vertices - core, dim=-1)
    return vertices, faces


def _revolve(r: Tensor, z: Tensor, angles: Tensor) -> Mesh:
    """The profile (r, z), given from bottom to top on the outside, turned about z."""
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    return _sheet(torch.stack([r * cos, r * sin, z.expand(len(angles), -1)], -1))


def ellipsoid(axes: tuple[float, float, float], edge: float) -> Mesh:
    """A sphere's grid, stretched."""
    latitude = _angles(max(axes), edge, math.pi) - math.pi / 2
    vertices, faces = _revolve(latitude.cos(), latitude.sin(), _angles(max(axes), edge))
    return vertices * torch.tensor(axes, dtype=torch.float64), faces


def frustum(bottom: float, top: float, height: float, edge: float) -> Mesh:
    """A capped cone about z, its side and caps in rings."""
    half = height / 2
    up = torch.linspace(0, 1, _steps(math.hypot(height, top - bottom), edge) + 1, dtype=torch.float64)
    out_bottom = torch.linspace(0, bottom, _steps(bottom, edge) + 1, dtype=torch.float64)
    out_top = torch.linspace(top, 0, _steps(top, edge) + 1, dtype=torch.float64)
    r = torch.cat([out_bottom, bottom + (top - bottom) * up, out_top])
    z = torch.cat([torch.full_like(out_bottom, -half), -half + height * up, torch.full_like(out_top, half)])
    return _revolve(r, z, _angles(max(bottom, top), edge))


def capsule(width: float, height: float, edge: float) -> Mesh:
    """A cylinder between two half spheres."""
    quarter = _angles(width, edge, math.pi / 2)
    up = torch.linspace(-height / 2, height / 2, _steps(height, edge) + 1, dtype=torch.float64)
    r = torch.cat([width * quarter.sin(), torch.full_like(up, width), width * quarter.cos()])
    z = torch.cat([-height / 2 - width * quarter.cos(), up, height / 2 + width * quarter.sin()])
    return _revolve(r, z, _angles(width, edge))


def torus(ring: float, tube: float, edge: float) -> Mesh:
    """A tube around a ring about z."""
    about = _angles(tube, edge)
    return _revolve(ring + tube * about.cos(), tube * about.sin(), _angles(ring + tube, edge))
