"""A scene to walk through: solids, the light on them, and where a camera may go."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.datasets.synthetic import tessellate
from gradslam_ng.datasets.synthetic.placement import Point
from gradslam_ng.datasets.synthetic.solids import Solid

EDGE = 0.05  # meters, of the surface's triangles

Station = tuple[Point, Point]  # camera position, point looked at


@dataclass(frozen=True)
class Shadow:
    """A darkening of the floor about what stands on it: a rectangle's center, half extents (m) and turn (radians)."""

    x: float
    y: float
    half_x: float
    half_y: float
    turn: float = 0.0
    strength: float = 0.55

    def __call__(self, p: Tensor) -> Tensor:
        """Factor (N,) on the light at points p (N, 2) of the floor."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        x, y = p[:, 0] - self.x, p[:, 1] - self.y
        away_x, away_y = (x * cos + y * sin).abs() - self.half_x, (y * cos - x * sin).abs() - self.half_y
        away = away_x.clamp(min=0) ** 2 + away_y.clamp(min=0) ** 2
        return 1 - self.strength * torch.exp(-away / (2 * 0.12**2))


@dataclass(frozen=True, eq=False)
class Room:
    """Solids, the light on them, and a tour for a camera.

    `shaded` False gives every surface its bare albedo: light as even as in fog, so that color tells nothing of shape.
    """

    name: str
    solids: list[Solid]
    stations: tuple[Station, ...]
    shaded: bool = True
    shadows: tuple[Shadow, ...] = ()
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def light(self, p_w: Tensor, n_w: Tensor) -> Tensor:
        """Diffuse light (N, 1) on surfaces at p_w (N, 3) with normals n_w (N, 3): a sky dome and two soft windows."""
        if not self.shaded:
            return torch.ones_like(p_w[:, :1])
        light = 0.74 + 0.10 * n_w[:, 2]
        for towards, strength in (((0.8, -0.35, 0.5), 0.32), ((-0.45, 0.75, 0.48), 0.18)):
            direction = torch.nn.functional.normalize(n_w.new_tensor(towards), dim=0)
            light = light + strength * (0.5 + 0.5 * n_w @ direction) ** 2
        light = light * (0.90 + 0.10 * torch.tanh(1.5 * p_w[:, 2]))  # a little darker near the floor
        on_floor = (p_w[:, 2] < 0.03) & (n_w[:, 2] > 0.9)
        if self.shadows and bool(on_floor.any()):
            shade = torch.stack([shadow(p_w[:, :2]) for shadow in self.shadows]).prod(0)
            light = light * torch.where(on_floor, shade, 1)
        return light[:, None]

    def clearance(self, p_w: Tensor) -> Tensor:
        """Distance (N,) of points to the nearest surface, negative inside a solid or behind a wall."""
        return torch.stack([solid.distance(p_w) for solid in self.solids]).amin(0)

    @functools.cached_property
    @mode_free
    def surface(self) -> tuple[Tensor, Tensor]:
        """The exact surface as small triangles: vertices (V, 3) float64, meters, and faces (F, 3) int64.

        Triangles that nobody can see, inside another solid, against it or behind a wall, are left out; one that is
        hidden in part stays whole.
        """
        parts = []
        for solid in self.solids:
            p_s, faces = solid.shape.mesh(EDGE)
            p_w = p_s @ solid.T_ws[:3, :3].mT + solid.T_ws[:3, 3]
            points = torch.cat([p_w, p_w[faces].mean(1)])  # a triangle is visible if a corner or its middle is
            visible = torch.ones(len(points), dtype=torch.bool)
            for other in self.solids:
                near = other is not solid and (other.T_ws[:3, 3] - solid.T_ws[:3, 3]).norm() < (
                    other.shape.radius + solid.shape.radius
                )
                if near:
                    visible &= other.distance(points) > 1e-4
            corners, middles = visible[: len(p_w)], visible[len(p_w) :]
            parts.append((p_w, faces[corners[faces].any(-1) | middles]))
        vertices, faces = tessellate.join(parts)
        used, faces = faces.unique(return_inverse=True)
        return vertices[used], faces
