"""Furniture from analytic solids. Each piece stands at a place on the floor (or hangs at one on a wall) and faces +y.

`turn` rotates a piece about the vertical, radians: 0 keeps its back towards -y. `seed` picks its textures.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.solids import Box, Capsule, Ellipsoid, Frustum, Rectangle, Shape, Solid, Torus
from gradslam_ng.datasets.synthetic.texture import Color, Material

Furniture = list[Solid]

OAK: dict[str, Color] = {"light": (0.76, 0.58, 0.38), "dark": (0.58, 0.40, 0.24)}
PALETTES: tuple[tuple[Color, ...], ...] = (
    ((0.93, 0.88, 0.76), (0.86, 0.52, 0.30), (0.22, 0.36, 0.46), (0.58, 0.20, 0.18), (0.95, 0.75, 0.45)),
    ((0.90, 0.92, 0.88), (0.40, 0.60, 0.62), (0.16, 0.28, 0.38), (0.84, 0.74, 0.52), (0.52, 0.66, 0.44)),
    ((0.96, 0.84, 0.62), (0.88, 0.38, 0.26), (0.42, 0.22, 0.32), (0.20, 0.30, 0.42), (0.94, 0.92, 0.86)),
    ((0.30, 0.40, 0.26), (0.66, 0.72, 0.42), (0.92, 0.88, 0.70), (0.70, 0.44, 0.26), (0.22, 0.26, 0.24)),
)
PAINTS: tuple[Color, ...] = ((0.62, 0.34, 0.26), (0.34, 0.48, 0.56), (0.82, 0.72, 0.50), (0.42, 0.52, 0.38), (0.58, 0.50, 0.44))
WALNUT: dict[str, Color] = {"light": (0.50, 0.34, 0.22), "dark": (0.32, 0.20, 0.12)}


def _rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> torch.Tensor:
    """R_z(yaw) R_x(pitch) R_y(roll), radians."""
    (cz, sz), (cx, sx), (cy, sy) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
    about_z = torch.tensor([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]], dtype=torch.float64)
    about_x = torch.tensor([[1, 0, 0], [0, cx, -sx], [0, sx, cx]], dtype=torch.float64)
    about_y = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], dtype=torch.float64)
    return about_z @ about_x @ about_y


def place(
    shape: Shape, at: tuple[float, float, float], material: Material,
    yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, name: str = "",
) -> Solid:
    """A shape with its centre at `at`, turned by R_z(yaw) R_x(pitch) R_y(roll)."""
    T_ws = torch.eye(4, dtype=torch.float64)
    T_ws[:3, :3] = _rotation(yaw, pitch, roll)
    T_ws[:3, 3] = torch.tensor(at, dtype=torch.float64)
    return Solid(shape, T_ws, material, name)


def wall(
    centre: tuple[float, float, float], facing: tuple[int, int, int], half: tuple[float, float], material: Material, name: str
) -> Solid:
    """A rectangle that faces along an axis; `half` its extents along the other two, in the order x, y, z."""
    axis = next(i for i, f in enumerate(facing) if f)
    first, second = (i for i in range(3) if i != axis)
    R_ws = torch.zeros(3, 3, dtype=torch.float64)
    R_ws[axis, 2] = facing[axis]
    R_ws[first, 0] = 1.0
    R_ws[second, 1] = 1.0
    if torch.linalg.det(R_ws) < 0:
        R_ws[first, 0] = -1.0
    T_ws = torch.eye(4, dtype=torch.float64)
    T_ws[:3, :3], T_ws[:3, 3] = R_ws, torch.tensor(centre, dtype=torch.float64)
    return Solid(Rectangle(half), T_ws, material, name)


def _move(pieces: Furniture, at: tuple[float, ...], turn: float, name: str) -> Furniture:
    """Pieces built at the origin, turned and moved to their place together."""
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = _rotation(turn)
    T[: len(at), 3] = torch.tensor(at, dtype=torch.float64)
    return [Solid(one.shape, T @ one.T_ws, one.material, name) for one in pieces]


def rug(at: tuple[float, float], half: tuple[float, float], seed: int) -> Furniture:
    """A rug 1 cm thick."""
    look = texture.rug((0.55, 0.24, 0.20), (0.86, 0.76, 0.58), half, seed)
    return _move([place(Box((*half, 0.005)), (0, 0, 0.005), look)], at, 0.0, "rug")


def sofa(at: tuple[float, float], turn: float, color: Color, seed: int) -> Furniture:
    """Two metres wide: seat and back cushions, rolled arms, two scatter cushions and a bolster."""
    cloth = [texture.clouds(color, 0.07, 0.10, 4, seed + i) for i in range(3)]
    bright = texture.stripes((0.90, 0.85, 0.70), (0.20, 0.34, 0.42), 0.05, seed + 3)
    dots = texture.blend((0.85, 0.70, 0.35), (0.90, 0.84, 0.72), (0.55, 0.45, 0.20), wavelength=0.12, seed=seed + 4)
    return _move([
        place(Box((0.98, 0.42, 0.15), 0.03), (0, 0, 0.21), cloth[0]),
        place(Box((0.41, 0.36, 0.08), 0.05), (-0.42, 0.05, 0.42), cloth[1]),
        place(Box((0.41, 0.36, 0.08), 0.05), (0.42, 0.05, 0.42), cloth[2]),
        place(Box((0.42, 0.11, 0.24), 0.06), (-0.42, -0.30, 0.66), cloth[2], pitch=0.18),
        place(Box((0.42, 0.11, 0.24), 0.06), (0.42, -0.30, 0.66), cloth[1], pitch=0.18),
        place(Capsule(0.115, 0.62), (-0.97, 0.03, 0.52), cloth[0], pitch=math.pi / 2),
        place(Capsule(0.115, 0.62), (0.97, 0.03, 0.52), cloth[0], pitch=math.pi / 2),
        place(Ellipsoid((0.21, 0.10, 0.20)), (-0.66, -0.12, 0.66), bright, yaw=0.35, pitch=0.30),
        place(Ellipsoid((0.19, 0.09, 0.18)), (0.30, -0.12, 0.65), dots, yaw=-0.2, pitch=0.35),
        place(Capsule(0.08, 0.28), (0.68, -0.02, 0.575), bright, yaw=0.3, roll=math.pi / 2),
    ], at, turn, "sofa")


def armchair(at: tuple[float, float], turn: float, color: Color, seed: int) -> Furniture:
    """A round-edged chair with a cushion."""
    cloth = texture.clouds(color, 0.09, 0.08, 4, seed)
    return _move([
        place(Box((0.36, 0.36, 0.20), 0.06), (0, 0, 0.24), cloth),
        place(Box((0.36, 0.10, 0.32), 0.08), (0, -0.34, 0.60), cloth, pitch=0.15),
        place(Box((0.08, 0.34, 0.26), 0.06), (-0.40, 0, 0.36), cloth),
        place(Box((0.08, 0.34, 0.26), 0.06), (0.40, 0, 0.36), cloth),
        place(
            Ellipsoid((0.22, 0.09, 0.20)), (0.03, -0.16, 0.62),
            texture.stripes((0.85, 0.55, 0.30), (0.93, 0.88, 0.78), 0.04, seed + 1), pitch=0.35,
        ),
    ], at, turn, "armchair")


def coffee_table(at: tuple[float, float], seed: int) -> Furniture:
    """A round table with books, a bowl, a mug and a vase."""
    oak = texture.wood(**OAK, grain=0.035, seed=seed)
    legs = [
        place(Frustum(0.02, 0.03, 0.40), (0.30 * math.cos(a), 0.30 * math.sin(a), 0.20), texture.wood(**WALNUT, axis=2, seed=seed))
        for a in (0.4, 2.5, 4.6)
    ]
    mug = texture.clouds((0.80, 0.30, 0.22), 0.05, 0.05, 3, seed + 1)
    return _move([
        place(Frustum(0.48, 0.48, 0.04), (0, 0, 0.42), oak), *legs,
        place(Box((0.12, 0.085, 0.016)), (-0.20, -0.12, 0.456), texture.books(0.03, seed + 2), yaw=0.5),
        place(Box((0.10, 0.07, 0.013)), (-0.20, -0.12, 0.485), texture.clouds((0.30, 0.45, 0.35), 0.2, 0.1, 4, seed + 3), yaw=0.85),
        place(Ellipsoid((0.13, 0.13, 0.075)), (0.17, -0.17, 0.485), texture.blend(
            (0.25, 0.40, 0.55), (0.85, 0.88, 0.86), wavelength=0.12, seed=seed + 4)),
        place(Frustum(0.038, 0.042, 0.10), (0.02, 0.27, 0.49), mug),
        place(Torus(0.028, 0.008), (0.066, 0.27, 0.49), mug, pitch=math.pi / 2),
        place(Ellipsoid((0.08, 0.08, 0.11)), (0.22, 0.14, 0.54), texture.tiles((0.88, 0.82, 0.70), size=0.04, seed=seed + 5)),
        place(Frustum(0.03, 0.05, 0.09), (0.22, 0.14, 0.675), texture.clouds((0.80, 0.72, 0.58), 0.1, 0.06, 3, seed + 6)),
    ], at, 0.0, "coffee table")


def bookcase(at: tuple[float, float], turn: float, seed: int) -> Furniture:
    """1.5 m wide, 1.9 m high, four shelves with books, boxes, a globe and vases."""
    random = np.random.default_rng(seed)
    side = texture.wood(**WALNUT, axis=2, seed=seed)
    board = texture.wood(**WALNUT, axis=0, seed=seed + 1)
    pieces = [place(Box((0.02, 0.15, 0.95)), (x, 0, 0.95), side) for x in (-0.75, 0.0, 0.75)]
    pieces += [place(Box((0.75, 0.15, 0.015)), (0, 0, z), board) for z in (0.08, 0.55, 1.0, 1.45, 1.885)]
    pieces += [place(Box((0.75, 0.01, 0.95)), (0, -0.14, 0.95), board)]
    for shelf, z in enumerate((0.095, 0.565, 1.015, 1.465)):
        for half, x in enumerate((-0.72, 0.03)):
            if (shelf, half) in ((1, 1), (3, 0)):
                continue
            left = x
            for block in range(2):  # runs of books of different height and depth
                width, height, depth = random.uniform(0.16, 0.30), random.uniform(0.22, 0.33), random.uniform(0.09, 0.12)
                look = texture.books(random.uniform(0.025, 0.045), seed + 10 * shelf + 4 * half + block)
                pieces.append(place(
                    Box((width / 2, depth, height / 2)), (left + width / 2, depth - 0.13 + 0.02 * block, z + height / 2), look))
                left += width + random.uniform(0.0, 0.05)
    globe = texture.blend((0.20, 0.40, 0.62), (0.35, 0.52, 0.28), (0.75, 0.68, 0.45), wavelength=0.16, seed=seed + 50)
    jar = texture.stripes((0.85, 0.80, 0.70), (0.55, 0.30, 0.22), 0.02, seed + 51)
    return _move([
        *pieces,
        place(Ellipsoid((0.125, 0.125, 0.125)), (0.25, 0.0, 0.74), globe),
        place(Frustum(0.07, 0.03, 0.06), (0.25, 0.0, 0.595), side),
        place(Frustum(0.06, 0.09, 0.22), (0.55, 0.02, 0.675), jar),
        place(Box((0.16, 0.11, 0.10)), (-0.50, 0.01, 1.565), texture.stripes((0.72, 0.62, 0.45), (0.55, 0.44, 0.30), 0.03, seed + 52)),
        place(Ellipsoid((0.07, 0.07, 0.13)), (-0.18, 0.0, 1.595), jar),
        place(Box((0.17, 0.12, 0.09), 0.02), (0.40, 0.0, 1.99), texture.clouds((0.66, 0.50, 0.34), 0.1, 0.08, 4, seed + 53), yaw=0.2),
        place(Torus(0.10, 0.025), (-0.40, 0.02, 2.02), texture.clouds((0.80, 0.66, 0.30), 0.1, 0.08, 4, seed + 54), pitch=1.45),
    ], at, turn, "bookcase")


def television(at: tuple[float, float], turn: float, seed: int) -> Furniture:
    """A low board with a television, two loudspeakers and a clock."""
    cabinet = texture.wood(**OAK, axis=0, seed=seed)
    screen = texture.blend((0.10, 0.16, 0.28), (0.20, 0.42, 0.50), (0.70, 0.62, 0.42), (0.12, 0.20, 0.14), wavelength=0.35, seed=seed + 1)
    speaker = texture.clouds((0.24, 0.23, 0.22), 0.12, 0.06, 4, seed + 2)
    doors = [place(Box((0.26, 0.012, 0.15)), (x, 0.215, 0.25), texture.wood(**OAK, axis=2, seed=seed + 3 + i)) for i, x in enumerate((-0.56, 0.0, 0.56))]
    knobs = [place(Ellipsoid((0.018, 0.018, 0.018)), (x + 0.19, 0.235, 0.27), speaker) for x in (-0.56, 0.0, 0.56)]
    return _move([
        place(Box((0.88, 0.21, 0.20)), (0, 0, 0.25), cabinet), *doors, *knobs,
        place(Box((0.80, 0.18, 0.025)), (0, -0.02, 0.025), speaker),
        place(Box((0.55, 0.025, 0.33), 0.01), (0, -0.06, 0.85), texture.framed(screen, (0.55, 0.33), (0.06, 0.06, 0.07), 0.025)),
        place(Frustum(0.13, 0.05, 0.05), (0, -0.05, 0.475), speaker),
        place(Box((0.085, 0.10, 0.17), 0.015), (-0.74, 0.0, 0.62), speaker),
        place(Box((0.085, 0.10, 0.17), 0.015), (0.74, 0.0, 0.62), speaker),
        place(Frustum(0.05, 0.055, 0.02), (-0.74, 0.10, 0.66), texture.clouds((0.55, 0.50, 0.42), 0.1, 0.04, 3, seed + 5), pitch=-math.pi / 2),
        place(Frustum(0.05, 0.055, 0.02), (0.74, 0.10, 0.66), texture.clouds((0.55, 0.50, 0.42), 0.1, 0.04, 3, seed + 6), pitch=-math.pi / 2),
        place(Frustum(0.17, 0.17, 0.04), (0.95, -0.22, 1.65), texture.tiles((0.85, 0.83, 0.76), size=0.06, seed=seed + 7), pitch=-math.pi / 2),
    ], at, turn, "television")


def floor_lamp(at: tuple[float, float], seed: int) -> Furniture:
    """A pole on a disc under a conical shade."""
    metal = texture.clouds((0.35, 0.33, 0.30), 0.08, 0.10, 3, seed)
    shade = texture.stripes((0.95, 0.88, 0.68), (0.86, 0.72, 0.48), 0.035, seed + 1)
    return _move([
        place(Frustum(0.16, 0.14, 0.03), (0, 0, 0.015), metal),
        place(Frustum(0.015, 0.015, 1.45), (0, 0, 0.75), metal),
        place(Frustum(0.25, 0.15, 0.30), (0, 0, 1.58), shade),
    ], at, 0.0, "floor lamp")


def plant(at: tuple[float, float], size: float, seed: int) -> Furniture:
    """Leaves on stalks in a conical pot, `size` times 1.2 m high."""
    random = np.random.default_rng(seed)
    pot = texture.tiles((0.72, 0.42, 0.30), (0.85, 0.72, 0.60), size=0.07, seed=seed)
    pieces = [
        place(Frustum(0.13 * size, 0.19 * size, 0.36 * size), (0, 0, 0.18 * size), pot),
        place(Torus(0.185 * size, 0.022 * size), (0, 0, 0.36 * size), pot),
        place(Capsule(0.022 * size, 0.5 * size), (0, 0, 0.58 * size), texture.wood(**WALNUT, axis=2, seed=seed)),
    ]
    for i in range(9):
        yaw, height = math.tau * i / 4.3, (0.58 + 0.065 * i) * size
        lift, reach = random.uniform(0.2, 0.9), random.uniform(0.16, 0.24) * size
        at_leaf = (-reach * math.sin(yaw) * math.cos(lift), reach * math.cos(yaw) * math.cos(lift), height + reach * math.sin(lift))
        green = (random.uniform(0.22, 0.36), random.uniform(0.42, 0.60), random.uniform(0.18, 0.28))
        leaf = texture.clouds(green, 0.12, 0.10, 4, seed + i)
        pieces.append(place(Ellipsoid((0.085 * size, 0.20 * size, 0.022 * size)), at_leaf, leaf, yaw=yaw, pitch=lift))
    return _move(pieces, at, 0.0, "plant")


def window(at: tuple[float, float, float], turn: float, seed: int) -> Furniture:
    """A framed view with a sill, curtains in folds either side, and a radiator below; `at` on the wall."""
    garden = texture.blend((0.62, 0.80, 0.94), (0.90, 0.94, 0.95), (0.50, 0.68, 0.46), wavelength=0.6, octaves=5, seed=seed)
    white = texture.clouds((0.90, 0.89, 0.86), 0.03, 0.2, 3, seed + 1)
    cloth = texture.stripes((0.80, 0.58, 0.36), (0.70, 0.44, 0.28), 0.08, seed + 2)
    pieces = [
        place(Box((0.62, 0.03, 0.52)), (0, 0.0, 0), texture.framed(garden, (0.62, 0.52), (0.92, 0.91, 0.88), 0.05)),
        place(Box((0.025, 0.03, 0.50)), (0, 0.03, 0), white), place(Box((0.60, 0.03, 0.02)), (0, 0.028, 0.12), white),
        place(Box((0.70, 0.11, 0.02)), (0, 0.08, -0.56), white),
        place(Capsule(0.015, 2.0), (0, 0.12, 0.68), white, roll=math.pi / 2),
    ]
    for side in (-1, 1):
        for fold in range(4):
            pieces.append(place(Frustum(0.055, 0.045, 1.95), (side * (0.66 + 0.09 * fold), 0.10 + 0.02 * (fold % 2), -0.32), cloth))
    radiator_at = [Solid(one.shape, one.T_ws, one.material) for one in radiator((0, 0.06), 0.0, seed + 3)]
    return _move(pieces, at, turn, "window") + _move(radiator_at, (at[0], at[1], 0.0), turn, "radiator")


def radiator(at: tuple[float, float], turn: float, seed: int) -> Furniture:
    """Ten upright ribs between two pipes."""
    enamel = texture.clouds((0.88, 0.87, 0.83), 0.04, 0.15, 3, seed)
    ribs = [place(Capsule(0.032, 0.46), (x, 0, 0.40), enamel) for x in np.linspace(-0.40, 0.40, 10)]
    pipes = [place(Capsule(0.02, 0.86), (0, 0, z), enamel, roll=math.pi / 2) for z in (0.19, 0.61)]
    return _move(ribs + pipes, at, turn, "radiator")


def picture(at: tuple[float, float, float], turn: float, half: tuple[float, float], seed: int) -> Furniture:
    """A painting 5 cm deep in a frame; `at` its centre on the wall."""
    random = np.random.default_rng(seed)
    colors = PALETTES[seed % len(PALETTES)]
    canvas = texture.blend(*colors, wavelength=float(random.uniform(0.2, 0.4)), octaves=5, seed=seed)
    look = texture.framed(canvas, half)
    return _move([place(Box((half[0], 0.025, half[1])), (0, 0.025, 0), look)], at, turn, "picture")


def ball(at: tuple[float, float], radius: float, seed: int) -> Furniture:
    """A ball on the floor."""
    look = texture.blend((0.80, 0.35, 0.25), (0.92, 0.84, 0.66), (0.25, 0.42, 0.55), wavelength=0.35, octaves=4, seed=seed)
    return _move([place(Ellipsoid((radius, radius, radius)), (0, 0, radius), look)], at, 0.0, "ball")


def ceiling_lamp(at: tuple[float, float, float], seed: int, drop: float = 0.35) -> Furniture:
    """A globe on a rod; `at` on the ceiling."""
    glass = texture.clouds((0.95, 0.90, 0.78), 0.05, 0.12, 4, seed)
    return _move([
        place(Ellipsoid((0.13, 0.13, 0.10)), (0, 0, -drop), glass),
        place(Frustum(0.012, 0.012, drop), (0, 0, -drop / 2), texture.plain((0.3, 0.28, 0.25))),
    ], at, 0.0, "ceiling lamp")


def side_table(at: tuple[float, float], seed: int) -> Furniture:
    """A square stool with a bowl of fruit."""
    oak = texture.wood(**OAK, seed=seed)
    legs = [place(Box((0.018, 0.018, 0.24)), (x, y, 0.24), oak) for x in (-0.17, 0.17) for y in (-0.17, 0.17)]
    fruit = [
        place(Ellipsoid((r, r, r)), (x, y, 0.58), texture.clouds(color, 0.08, 0.05, 3, seed + i))
        for i, (x, y, r, color) in enumerate((
            (0.04, 0.02, 0.045, (0.85, 0.35, 0.15)), (-0.04, 0.03, 0.045, (0.75, 0.65, 0.20)), (0.0, -0.05, 0.042, (0.60, 0.20, 0.18))))
    ]
    bowl = place(Frustum(0.06, 0.13, 0.06), (0, 0, 0.53), texture.tiles((0.70, 0.75, 0.78), size=0.05, seed=seed))
    return _move([place(Box((0.21, 0.21, 0.015), 0.01), (0, 0, 0.485), oak), *legs, bowl, *fruit], at, 0.0, "side table")


def door(at: tuple[float, float, float], turn: float, seed: int) -> Furniture:
    """A door with two panels in a frame, and its handle; `at` on the wall, at the floor."""
    color = PAINTS[seed % len(PAINTS)]
    panel = texture.clouds(tuple(0.85 * c for c in color), 0.06, 0.15, 5, seed + 1)
    paint = texture.clouds(color, 0.06, 0.2, 5, seed)
    frame = texture.clouds((0.85, 0.83, 0.78), 0.05, 0.2, 4, seed + 50)
    metal = texture.clouds((0.6, 0.58, 0.5), 0.1, 0.03, 3, seed + 51)
    return _move([
        place(Box((0.42, 0.015, 1.0)), (0, 0.015, 1.0), paint),
        place(Box((0.28, 0.012, 0.36), 0.01), (0, 0.03, 1.45), panel),
        place(Box((0.28, 0.012, 0.30), 0.01), (0, 0.03, 0.50), panel),
        place(Box((0.04, 0.035, 1.04)), (-0.46, 0.035, 1.04), frame),
        place(Box((0.04, 0.035, 1.04)), (0.46, 0.035, 1.04), frame),
        place(Box((0.50, 0.035, 0.04)), (0, 0.035, 2.06), frame),
        place(Capsule(0.012, 0.09), (0.31, 0.06, 1.02), metal, roll=math.pi / 2),
    ], at, turn, "door")


def bench(at: tuple[float, float], turn: float, seed: int) -> Furniture:
    """A low bench with a cushion and a bag."""
    oak = texture.wood(**OAK, seed=seed)
    return _move([
        place(Box((0.50, 0.17, 0.02)), (0, 0, 0.42), oak),
        place(Box((0.02, 0.15, 0.20)), (-0.42, 0, 0.20), oak), place(Box((0.02, 0.15, 0.20)), (0.42, 0, 0.20), oak),
        place(Box((0.22, 0.15, 0.04), 0.03), (-0.20, 0, 0.475), texture.stripes((0.8, 0.4, 0.3), (0.9, 0.8, 0.7), 0.05, seed + 1)),
        place(Box((0.16, 0.09, 0.14), 0.06), (0.25, 0, 0.58), texture.clouds((0.35, 0.28, 0.22), 0.12, 0.08, 4, seed + 2), yaw=0.2),
    ], at, turn, "bench")


def extinguisher(at: tuple[float, float], seed: int) -> Furniture:
    """A red bottle on the wall."""
    red = texture.clouds((0.78, 0.16, 0.12), 0.06, 0.1, 4, seed)
    return _move([
        place(Capsule(0.07, 0.32), (0, 0, 0.85), red), place(Frustum(0.03, 0.02, 0.10), (0, 0, 1.12), texture.plain((0.15, 0.15, 0.15)))
    ], at, 0.0, "extinguisher")
