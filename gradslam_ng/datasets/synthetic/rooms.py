"""Rooms of analytic solids: world x, y on the floor, z up, metres; the floor at z = 0 where there is one.

`ROOMS` names the builders. A room also says where a camera may go: `stations`, a closed tour of positions and the points
looked at from there, which `paths` turns into motion.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.datasets.synthetic import furniture as make
from gradslam_ng.datasets.synthetic import tessellate, texture
from gradslam_ng.datasets.synthetic.furniture import Furniture, place, wall
from gradslam_ng.datasets.synthetic.solids import Box, Rectangle, Solid

Station = tuple[tuple[float, float, float], tuple[float, float, float]]  # camera position, point looked at


@dataclass(frozen=True, eq=False)
class Room:
    """Solids, the light on them, and a tour for a camera.

    `shaded` False gives every surface its bare albedo: light as even as in fog, so that colour tells nothing of shape.
    `shadows` darken the floor about what stands on it: centre x, y, turn (radians), half extents, metres, and strength.
    """

    name: str
    solids: list[Solid]
    stations: tuple[Station, ...]
    shaded: bool = True
    shadows: tuple[tuple[float, float, float, float, float, float], ...] = ()
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def light(self, p_w: Tensor, n_w: Tensor) -> Tensor:
        """Diffuse light (N, 1) on surfaces at p_w (N, 3) with normals n_w (N, 3): a sky dome and two soft windows."""
        if not self.shaded:
            return torch.ones_like(p_w[:, :1])
        light = 0.72 + 0.10 * n_w[:, 2]
        for towards, strength in (((0.8, -0.35, 0.5), 0.32), ((-0.45, 0.75, 0.48), 0.18)):
            direction = torch.nn.functional.normalize(n_w.new_tensor(towards), dim=0)
            light = light + strength * (0.5 + 0.5 * n_w @ direction) ** 2
        light = light * (0.90 + 0.10 * torch.tanh(1.5 * p_w[:, 2]))  # a little darker near the floor
        if self.shadows and bool((p_w[:, 2] < 0.03).any()):
            light = light * torch.where(p_w[:, 2] < 0.03, self._shade(p_w[:, :2]), 1)
        return light[:, None]

    def _shade(self, p: Tensor) -> Tensor:
        """Soft contact shadows (N,) at points p (N, 2) of the floor."""
        shade = torch.ones_like(p[:, 0])
        for x, y, turn, half_x, half_y, strength in self.shadows:
            cos, sin = math.cos(turn), math.sin(turn)
            away_x = ((p[:, 0] - x) * cos + (p[:, 1] - y) * sin).abs() - half_x
            away_y = ((p[:, 1] - y) * cos - (p[:, 0] - x) * sin).abs() - half_y
            away = torch.stack([away_x, away_y], -1).clamp(min=0).square().sum(-1)
            shade = shade * (1 - strength * torch.exp(-away / (2 * 0.12**2)))
        return shade

    def clearance(self, p_w: Tensor) -> Tensor:
        """Distance (N,) of points to the nearest surface, negative inside a solid or behind a wall."""
        return torch.stack([solid.distance(p_w) for solid in self.solids]).amin(0)

    def mesh(self, edge: float = 0.05) -> tuple[Tensor, Tensor]:
        """The exact surface as triangles of about `edge` metres: vertices (V, 3) float64, faces (F, 3) int64.

        Triangles that nobody can see, inside another solid or behind a wall, are left out; one that is partly hidden stays.
        """
        parts = []
        for solid in self.solids:
            p_s, faces = solid.shape.mesh(edge)
            p_w = p_s @ solid.T_ws[:3, :3].mT + solid.T_ws[:3, 3]
            centre = p_w[faces].mean(1)
            others = [other.distance(centre) for other in self.solids if other is not solid]
            hidden = torch.stack(others).amin(0) < 1e-4 if others else torch.zeros(len(faces), dtype=torch.bool)
            parts.append((p_w, faces[~hidden]))
        vertices, faces = tessellate.join(parts)
        used, faces = faces.unique(return_inverse=True)
        return vertices[used], faces


def _box_of_walls(lower: tuple[float, float, float], upper: tuple[float, float, float], materials: dict) -> Furniture:
    """Six walls that face inwards; `materials` by the side they stand on: -x, +x, -y, +y, floor, ceiling."""
    (x0, y0, z0), (x1, y1, z1) = lower, upper
    cx, cy, cz = (x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2
    hx, hy, hz = (x1 - x0) / 2, (y1 - y0) / 2, (z1 - z0) / 2
    return [
        wall((x0, cy, cz), (1, 0, 0), (hy, hz), materials["-x"], "wall -x"),
        wall((x1, cy, cz), (-1, 0, 0), (hy, hz), materials["+x"], "wall +x"),
        wall((cx, y0, cz), (0, 1, 0), (hx, hz), materials["-y"], "wall -y"),
        wall((cx, y1, cz), (0, -1, 0), (hx, hz), materials["+y"], "wall +y"),
        wall((cx, cy, z0), (0, 0, 1), (hx, hy), materials["floor"], "floor"),
        wall((cx, cy, z1), (0, 0, -1), (hx, hy), materials["ceiling"], "ceiling"),
    ]


def living_room() -> Room:
    """5 x 4.6 m with sofa, armchair, tables, shelves, television, plants, lamps, curtains: geometry fixes every view."""
    plaster = texture.clouds((0.90, 0.87, 0.80), 0.02, 0.30, 5, seed=1)
    accent = texture.clouds((0.44, 0.60, 0.62), 0.03, 0.30, 5, seed=2)
    shell = _box_of_walls((-2.5, -2.3, 0.0), (2.5, 2.3, 2.6), {
        "-x": plaster, "+x": plaster, "-y": accent, "+y": plaster,
        "floor": texture.planks(seed=3), "ceiling": texture.clouds((0.92, 0.91, 0.88), 0.02, 0.8, 3, seed=4),
    })
    beams = [
        place(Box((2.5, 0.07, 0.07)), (0, y, 2.53), texture.wood(axis=0, seed=5 + i), name="beam")
        for i, y in enumerate((-1.25, 0.15, 1.45))
    ]
    solids = [
        *shell, *beams,
        *make.rug((0.1, -0.15), (1.25, 0.85), seed=11),
        *make.sofa((-0.2, -1.78), 0.0, (0.62, 0.30, 0.26), seed=12),
        *make.armchair((1.72, -1.45), math.radians(42), (0.30, 0.42, 0.50), seed=20),
        *make.coffee_table((0.1, -0.2), seed=30),
        *make.bookcase((-2.34, 0.55), math.radians(-90), seed=40),
        *make.television((0.15, 2.06), math.radians(180), seed=60),
        *make.floor_lamp((-1.95, -1.85), seed=70),
        *make.plant((2.05, 1.80), 1.0, seed=80),
        *make.plant((-2.05, 1.85), 0.75, seed=90),
        *make.window((2.5, 0.35, 1.45), math.radians(90), seed=100),
        *make.picture((-1.05, -2.3, 1.62), 0.0, (0.42, 0.30), seed=110),
        *make.picture((0.35, -2.3, 1.70), 0.0, (0.30, 0.38), seed=111),
        *make.picture((1.45, -2.3, 1.75), 0.0, (0.24, 0.24), seed=112),
        *make.picture((-2.5, -1.05, 1.60), math.radians(-90), (0.34, 0.46), seed=113),
        *make.picture((-1.55, 2.3, 1.60), math.radians(180), (0.30, 0.40), seed=114),
        *make.ball((1.35, 0.95), 0.30, seed=120),
        *make.ceiling_lamp((0.1, -0.2, 2.6), seed=130),
        *make.side_table((-1.62, -1.02), seed=140),
    ]
    stations = (
        ((1.15, 0.55, 1.35), (-1.0, -1.3, 0.65)),
        ((0.55, 0.95, 1.42), (-1.3, -1.2, 0.70)),
        ((-0.35, 0.95, 1.45), (-0.6, -1.7, 0.60)),
        ((-0.95, 0.45, 1.38), (1.0, -1.5, 0.65)),
        ((-1.15, -0.05, 1.36), (1.7, -0.4, 0.80)),
        ((-0.90, -0.65, 1.40), (1.4, 1.4, 0.75)),
        ((-0.15, -0.85, 1.48), (0.3, 1.9, 0.75)),
        ((0.70, -0.75, 1.42), (-1.1, 1.6, 0.80)),
        ((1.20, -0.15, 1.36), (-1.9, 0.5, 0.95)),
    )
    shadows = (
        (-0.2, -1.78, 0.0, 1.0, 0.40, 0.55), (1.72, -1.45, math.radians(42), 0.42, 0.34, 0.55), (0.1, -0.2, 0.0, 0.26, 0.26, 0.35),
        (-2.34, 0.55, 0.0, 0.12, 0.72, 0.55), (0.15, 2.06, 0.0, 0.84, 0.18, 0.55), (-1.95, -1.85, 0.0, 0.08, 0.08, 0.4),
        (2.05, 1.80, 0.0, 0.07, 0.07, 0.5), (-2.05, 1.85, 0.0, 0.05, 0.05, 0.5), (1.35, 0.95, 0.0, 0.04, 0.04, 0.6),
        (-1.62, -1.02, 0.0, 0.12, 0.12, 0.35),
    )
    return Room("living_room", solids, stations, shadows=shadows)


def corridor() -> Room:
    """12 x 1.8 m with doors, pictures, radiators, a bench, plants and ceiling lamps; walked there and back."""
    left, right = texture.clouds((0.86, 0.82, 0.72), 0.03, 0.3, 5, seed=201), texture.clouds((0.74, 0.80, 0.82), 0.03, 0.3, 5, seed=202)
    solids = _box_of_walls((-6.0, -0.9, 0.0), (6.0, 0.9, 2.5), {
        "-x": texture.clouds((0.70, 0.50, 0.40), 0.06, 0.4, 5, seed=203), "+x": texture.clouds((0.45, 0.58, 0.48), 0.06, 0.4, 5, seed=204),
        "-y": right, "+y": left, "floor": texture.tiles((0.66, 0.64, 0.60), size=0.3, seed=205),
        "ceiling": texture.clouds((0.90, 0.90, 0.88), 0.03, 0.6, 4, seed=206),
    })
    for i, x in enumerate((-4.6, -1.5, 1.9, 4.4)):
        solids += make.door((x, 0.9, 0.0), math.radians(180), seed=210 + i)
    for i, x in enumerate((-3.0, 0.4, 3.2)):
        solids += make.door((x, -0.9, 0.0), 0.0, seed=220 + i)
    for i, (x, y) in enumerate(((-5.6, 0.9), (-3.1, 0.9), (0.2, 0.9), (3.2, 0.9), (-4.6, -0.9), (-1.3, -0.9), (1.8, -0.9), (4.9, -0.9))):
        solids += make.picture((x, y, 1.5), math.radians(180) if y > 0 else 0.0, (0.26 + 0.03 * (i % 3), 0.34), seed=230 + i)
    for i, x in enumerate((-4.5, -1.5, 1.5, 4.5)):
        solids += make.ceiling_lamp((x, 0.0, 2.5), seed=250 + i, drop=0.12)
    solids += make.radiator((-0.1, 0.84), math.radians(180), seed=260) + make.radiator((4.55, -0.84), 0.0, seed=261)
    solids += make.bench((-1.35, -0.70), 0.0, seed=262) + make.plant((5.68, 0.58), 0.75, seed=263)
    solids += make.plant((-5.68, -0.55), 0.8, seed=264) + make.extinguisher((0.95, 0.80), seed=265)
    solids += make.picture((6.0, 0.0, 1.4), math.radians(90), (0.4, 0.5), seed=266)
    solids += make.door((-6.0, 0.1, 0.0), math.radians(-90), seed=267)
    stations = []
    for way, xs in ((1, (-4.2, -2.8, -1.4, 0.0, 1.4, 2.8, 4.2)), (-1, (4.2, 2.8, 1.4, 0.0, -1.4, -2.8, -4.2))):
        for i, x in enumerate(xs):  # looking ahead, at the one wall and the other in turn, and turning about at the end
            yaw = math.radians(90 - 90 * way) + math.radians(90 if i == 6 else 34 * (-1) ** i)
            at = (x + (0.3 * way if i == 6 else 0.0), -0.08 * way if i < 6 else 0.0, 1.45)
            stations.append((at, (at[0] + math.cos(yaw), at[1] + math.sin(yaw), at[2] - 0.22)))
    return Room("corridor", solids, tuple(stations))


def flat_wall() -> Room:
    """One flat wall full of texture, filling every view: depth fixes three of the pose's six directions, colour all."""
    mural = texture.blend(
        (0.80, 0.72, 0.58), (0.62, 0.26, 0.20), (0.20, 0.36, 0.46), (0.88, 0.84, 0.74), (0.28, 0.30, 0.20),
        wavelength=0.7, octaves=6, seed=301,
    )
    solids = [wall((0.0, 0.0, 1.5), (0, -1, 0), (8.0, 8.0), mural, "wall")]
    stations = tuple(
        ((0.75 * math.cos(a), -2.0 - 0.25 * math.sin(2 * a), 1.5 + 0.35 * math.sin(a)),
         (0.45 * math.cos(a + 0.5), 0.0, 1.5 + 0.25 * math.sin(a + 0.9)))
        for a in (math.tau * i / 8 for i in range(8))
    )
    return Room("wall", solids, stations)


def corner() -> Room:
    """Three bare planes that meet, all of one even colour: depth fixes the pose, colour nothing of it."""
    white = texture.plain((0.75, 0.75, 0.75))
    solids = [
        wall((0.0, 4.0, 4.0), (1, 0, 0), (4.0, 4.0), white, "wall -x"),
        wall((4.0, 0.0, 4.0), (0, 1, 0), (4.0, 4.0), white, "wall -y"),
        wall((4.0, 4.0, 0.0), (0, 0, 1), (4.0, 4.0), white, "floor"),
    ]
    stations = tuple(
        ((1.45 + 0.30 * math.cos(a), 1.45 + 0.30 * math.sin(a), 1.25 + 0.18 * math.sin(2 * a)),
         (0.15 + 0.15 * math.cos(a + 1), 0.15 + 0.15 * math.sin(a + 1), 0.25))
        for a in (math.tau * i / 8 for i in range(8))
    )
    return Room("corner", solids, stations, shaded=False)


ROOMS: dict[str, Callable[[], Room]] = {
    "living_room": living_room, "corridor": corridor, "wall": flat_wall, "corner": corner
}


@functools.cache
def room(name: str) -> Room:
    """The room of that name.

    Raises:
        ValueError: no such room; lists those there are.
    """
    if name not in ROOMS:
        raise ValueError(f"unknown synthetic room {name!r}; expected one of {', '.join(ROOMS)}")
    return ROOMS[name]()
