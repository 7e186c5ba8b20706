"""Furniture from analytic solids. Each piece stands at a place on the floor; unturned, its back is towards -y.

`turn` rotates a piece about the vertical, radians; `seed` picks its textures. Lengths in meters.
"""

from __future__ import annotations

import math

import numpy as np

from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.curved import Capsule, Ellipsoid, Frustum, Torus
from gradslam_ng.datasets.synthetic.placement import Furniture, move, place
from gradslam_ng.datasets.synthetic.solids import Box
from gradslam_ng.datasets.synthetic.texture import OAK, WALNUT, Color

QUARTER = math.pi / 2


def rug(at: tuple[float, float], half: tuple[float, float], seed: int) -> Furniture:
    """A rug 1 cm thick."""
    look = texture.rug((0.55, 0.24, 0.20), (0.86, 0.76, 0.58), half, seed)
    return move([place(Box((*half, 0.005)), (0, 0, 0.005), look)], at, 0.0, "rug")


def sofa(at: tuple[float, float], turn: float, color: Color, seed: int) -> Furniture:
    """Two meters wide: seat and back cushions, rolled arms, two scatter cushions and a bolster."""
    cloth = [texture.clouds(color, 0.07, 0.10, 4, seed + i) for i in range(3)]
    bright = texture.stripes((0.90, 0.85, 0.70), (0.20, 0.34, 0.42), 0.05, seed + 3)
    dots = texture.blend((0.85, 0.70, 0.35), (0.90, 0.84, 0.72), (0.55, 0.45, 0.20), wavelength=0.12, seed=seed + 4)
    seat, back, arm = Box((0.41, 0.36, 0.08), 0.05), Box((0.42, 0.11, 0.24), 0.06), Capsule(0.115, 0.62)
    pieces = [
        place(Box((0.98, 0.42, 0.15), 0.03), (0, 0, 0.21), cloth[0]),
        place(seat, (-0.42, 0.05, 0.42), cloth[1]),
        place(seat, (0.42, 0.05, 0.42), cloth[2]),
        place(back, (-0.42, -0.30, 0.66), cloth[2], pitch=0.18),
        place(back, (0.42, -0.30, 0.66), cloth[1], pitch=0.18),
        place(arm, (-0.97, 0.03, 0.52), cloth[0], pitch=QUARTER),
        place(arm, (0.97, 0.03, 0.52), cloth[0], pitch=QUARTER),
        place(Ellipsoid((0.21, 0.10, 0.20)), (-0.66, -0.12, 0.66), bright, yaw=0.35, pitch=0.30),
        place(Ellipsoid((0.19, 0.09, 0.18)), (0.30, -0.12, 0.65), dots, yaw=-0.2, pitch=0.35),
        place(Capsule(0.08, 0.28), (0.68, -0.02, 0.575), bright, yaw=0.3, roll=QUARTER),
    ]
    return move(pieces, at, turn, "sofa")


def armchair(at: tuple[float, float], turn: float, color: Color, seed: int) -> Furniture:
    """A round-edged chair with a cushion."""
    cloth = texture.clouds(color, 0.09, 0.08, 4, seed)
    cushion = texture.stripes((0.85, 0.55, 0.30), (0.93, 0.88, 0.78), 0.04, seed + 1)
    pieces = [
        place(Box((0.36, 0.36, 0.20), 0.06), (0, 0, 0.24), cloth),
        place(Box((0.36, 0.10, 0.32), 0.08), (0, -0.34, 0.60), cloth, pitch=0.15),
        place(Box((0.08, 0.34, 0.26), 0.06), (-0.40, 0, 0.36), cloth),
        place(Box((0.08, 0.34, 0.26), 0.06), (0.40, 0, 0.36), cloth),
        place(Ellipsoid((0.22, 0.09, 0.20)), (0.03, -0.16, 0.62), cushion, pitch=0.35),
    ]
    return move(pieces, at, turn, "armchair")


def coffee_table(at: tuple[float, float], seed: int) -> Furniture:
    """A round table on three legs with books, a bowl, a mug and a vase."""
    oak = texture.wood(**OAK, grain=0.035, seed=seed)
    walnut = texture.wood(**WALNUT, axis=2, seed=seed)
    red = texture.clouds((0.80, 0.30, 0.22), 0.05, 0.05, 3, seed + 1)
    green = texture.clouds((0.30, 0.45, 0.35), 0.2, 0.1, 4, seed + 3)
    glaze = texture.blend((0.25, 0.40, 0.55), (0.85, 0.88, 0.86), wavelength=0.12, seed=seed + 4)
    mosaic = texture.tiles((0.88, 0.82, 0.70), size=0.04, seed=seed + 5)
    clay = texture.clouds((0.80, 0.72, 0.58), 0.1, 0.06, 3, seed + 6)
    legs = [
        place(Frustum(0.02, 0.03, 0.40), (0.3 * math.cos(a), 0.3 * math.sin(a), 0.2), walnut) for a in (0.4, 2.5, 4.6)
    ]
    pieces = [
        place(Frustum(0.48, 0.48, 0.04), (0, 0, 0.42), oak),
        place(Box((0.12, 0.085, 0.016)), (-0.20, -0.12, 0.456), texture.books(0.03, seed + 2), yaw=0.5),
        place(Box((0.10, 0.07, 0.013)), (-0.20, -0.12, 0.485), green, yaw=0.85),
        place(Ellipsoid((0.13, 0.13, 0.075)), (0.17, -0.17, 0.485), glaze),
        place(Frustum(0.038, 0.042, 0.10), (0.02, 0.27, 0.49), red),
        place(Torus(0.028, 0.008), (0.066, 0.27, 0.49), red, pitch=QUARTER),
        place(Ellipsoid((0.08, 0.08, 0.11)), (0.22, 0.14, 0.54), mosaic),
        place(Frustum(0.03, 0.05, 0.09), (0.22, 0.14, 0.675), clay),
    ]
    return move(legs + pieces, at, 0.0, "coffee table")


def bookcase(at: tuple[float, float], turn: float, seed: int) -> Furniture:
    """1.5 m wide, 1.9 m high, four shelves in two columns with runs of books, a globe, a box, jars and a ring."""
    random = np.random.default_rng(seed)
    side = texture.wood(**WALNUT, axis=2, seed=seed)
    board = texture.wood(**WALNUT, axis=0, seed=seed + 1)
    pieces = [place(Box((0.02, 0.15, 0.95)), (x, 0, 0.95), side) for x in (-0.75, 0.0, 0.75)]
    pieces += [place(Box((0.75, 0.15, 0.015)), (0, 0, z), board) for z in (0.08, 0.55, 1.0, 1.45, 1.885)]
    pieces += [place(Box((0.75, 0.01, 0.95)), (0, -0.14, 0.95), board)]
    for shelf, z in enumerate((0.095, 0.565, 1.015, 1.465)):
        for column, left in enumerate((-0.72, 0.03)):
            if (shelf, column) in ((1, 1), (3, 0)):
                continue  # kept for the globe and the box
            for run in range(2):
                width, height, depth = random.uniform((0.16, 0.22, 0.09), (0.30, 0.33, 0.12)).tolist()
                spines = texture.books(random.uniform(0.025, 0.045), seed + 10 * shelf + 4 * column + run)
                middle = (left + width / 2, depth - 0.13 + 0.02 * run, z + height / 2)
                pieces.append(place(Box((width / 2, depth, height / 2)), middle, spines))
                left += width + random.uniform(0.0, 0.05)
    globe = texture.blend((0.20, 0.40, 0.62), (0.35, 0.52, 0.28), (0.75, 0.68, 0.45), wavelength=0.16, seed=seed + 50)
    jar = texture.stripes((0.85, 0.80, 0.70), (0.55, 0.30, 0.22), 0.02, seed + 51)
    wicker = texture.stripes((0.72, 0.62, 0.45), (0.55, 0.44, 0.30), 0.03, seed + 52)
    card = texture.clouds((0.66, 0.50, 0.34), 0.1, 0.08, 4, seed + 53)
    brass = texture.clouds((0.80, 0.66, 0.30), 0.1, 0.08, 4, seed + 54)
    pieces += [
        place(Ellipsoid((0.125, 0.125, 0.125)), (0.25, 0.0, 0.74), globe),
        place(Frustum(0.07, 0.03, 0.06), (0.25, 0.0, 0.595), side),
        place(Frustum(0.06, 0.09, 0.22), (0.55, 0.02, 0.675), jar),
        place(Box((0.16, 0.11, 0.10)), (-0.50, 0.01, 1.565), wicker),
        place(Ellipsoid((0.07, 0.07, 0.13)), (-0.18, 0.0, 1.595), jar),
        place(Box((0.17, 0.12, 0.09), 0.02), (0.40, 0.0, 1.99), card, yaw=0.2),
        place(Torus(0.10, 0.025), (-0.40, 0.02, 2.02), brass, pitch=1.45),
    ]
    return move(pieces, at, turn, "bookcase")


def television(at: tuple[float, float], turn: float, seed: int) -> Furniture:
    """A low board with a television, two loudspeakers and a clock on the wall behind."""
    cabinet, front = (texture.wood(**OAK, axis=axis, seed=seed + axis) for axis in (0, 2))
    blue, gold = ((0.10, 0.16, 0.28), (0.20, 0.42, 0.50)), ((0.70, 0.62, 0.42), (0.12, 0.20, 0.14))
    picture = texture.blend(*blue, *gold, wavelength=0.35, seed=seed + 1)
    screen = texture.framed(picture, (0.55, 0.33), (0.06, 0.06, 0.07), 0.025)
    black = texture.clouds((0.24, 0.23, 0.22), 0.12, 0.06, 4, seed + 2)
    cone = texture.clouds((0.55, 0.50, 0.42), 0.1, 0.04, 3, seed + 5)
    dial = texture.tiles((0.85, 0.83, 0.76), size=0.06, seed=seed + 7)
    pieces = [
        place(Box((0.88, 0.21, 0.20)), (0, 0, 0.25), cabinet),
        place(Box((0.80, 0.18, 0.025)), (0, -0.02, 0.025), black),
        place(Box((0.55, 0.025, 0.33), 0.01), (0, -0.06, 0.85), screen),
        place(Frustum(0.13, 0.05, 0.05), (0, -0.05, 0.475), black),
        place(Frustum(0.17, 0.17, 0.04), (0.95, -0.22, 1.65), dial, pitch=-QUARTER),
    ]
    for x in (-0.56, 0.0, 0.56):
        pieces.append(place(Box((0.26, 0.012, 0.15)), (x, 0.215, 0.25), front))
        pieces.append(place(Ellipsoid((0.018, 0.018, 0.018)), (x + 0.19, 0.235, 0.27), black))
    for x in (-0.74, 0.74):
        pieces.append(place(Box((0.085, 0.10, 0.17), 0.015), (x, 0.0, 0.62), black))
        pieces.append(place(Frustum(0.05, 0.055, 0.02), (x, 0.10, 0.66), cone, pitch=-QUARTER))
    return move(pieces, at, turn, "television")


def floor_lamp(at: tuple[float, float], seed: int) -> Furniture:
    """A pole on a disc under a conical shade."""
    metal = texture.clouds((0.35, 0.33, 0.30), 0.08, 0.10, 3, seed)
    shade = texture.stripes((0.95, 0.88, 0.68), (0.86, 0.72, 0.48), 0.035, seed + 1)
    pieces = [
        place(Frustum(0.16, 0.14, 0.03), (0, 0, 0.015), metal),
        place(Frustum(0.015, 0.015, 1.45), (0, 0, 0.75), metal),
        place(Frustum(0.25, 0.15, 0.30), (0, 0, 1.58), shade),
    ]
    return move(pieces, at, 0.0, "floor lamp")


def plant(at: tuple[float, float], size: float, seed: int) -> Furniture:
    """Nine leaves about a stem in a conical pot, `size` times 1.2 m high."""
    random = np.random.default_rng(seed)
    pot = texture.tiles((0.72, 0.42, 0.30), (0.85, 0.72, 0.60), size=0.07, seed=seed)
    pieces = [
        place(Frustum(0.13 * size, 0.19 * size, 0.36 * size), (0, 0, 0.18 * size), pot),
        place(Torus(0.185 * size, 0.022 * size), (0, 0, 0.36 * size), pot),
        place(Capsule(0.022 * size, 0.5 * size), (0, 0, 0.58 * size), texture.wood(**WALNUT, axis=2, seed=seed)),
    ]
    for i in range(9):
        yaw, lift, reach = math.tau * i / 4.3, random.uniform(0.2, 0.9), random.uniform(0.16, 0.24) * size
        out, up = reach * math.cos(lift), reach * math.sin(lift) + (0.58 + 0.065 * i) * size
        green = tuple(random.uniform((0.22, 0.42, 0.18), (0.36, 0.60, 0.28)).tolist())
        leaf = texture.clouds(green, 0.12, 0.10, 4, seed + i)
        blade = Ellipsoid((0.085 * size, 0.20 * size, 0.022 * size))
        pieces.append(place(blade, (-out * math.sin(yaw), out * math.cos(yaw), up), leaf, yaw=yaw, pitch=lift))
    return move(pieces, at, 0.0, "plant")


def ball(at: tuple[float, float], radius: float, seed: int) -> Furniture:
    """A ball on the floor."""
    look = texture.blend((0.80, 0.35, 0.25), (0.92, 0.84, 0.66), (0.25, 0.42, 0.55), wavelength=0.35, seed=seed)
    return move([place(Ellipsoid((radius, radius, radius)), (0, 0, radius), look)], at, 0.0, "ball")


def side_table(at: tuple[float, float], seed: int) -> Furniture:
    """A square stool with a bowl of fruit."""
    oak = texture.wood(**OAK, seed=seed)
    pieces = [place(Box((0.018, 0.018, 0.24)), (x, y, 0.24), oak) for x in (-0.17, 0.17) for y in (-0.17, 0.17)]
    pieces.append(place(Box((0.21, 0.21, 0.015), 0.01), (0, 0, 0.485), oak))
    pieces.append(
        place(Frustum(0.06, 0.13, 0.06), (0, 0, 0.53), texture.tiles((0.70, 0.75, 0.78), size=0.05, seed=seed))
    )
    orange, lemon, apple = (0.85, 0.35, 0.15), (0.75, 0.65, 0.20), (0.60, 0.20, 0.18)
    for x, y, color in ((0.04, 0.02, orange), (-0.04, 0.03, lemon), (0.0, -0.05, apple)):
        fruit = texture.clouds(color, 0.08, 0.05, 3, seed)
        pieces.append(place(Ellipsoid((0.045, 0.045, 0.045)), (x, y, 0.58), fruit))
    return move(pieces, at, 0.0, "side table")


def bench(at: tuple[float, float], turn: float, seed: int) -> Furniture:
    """A low bench with a cushion and a bag."""
    oak = texture.wood(**OAK, seed=seed)
    cushion = texture.stripes((0.8, 0.4, 0.3), (0.9, 0.8, 0.7), 0.05, seed + 1)
    leather = texture.clouds((0.35, 0.28, 0.22), 0.12, 0.08, 4, seed + 2)
    pieces = [
        place(Box((0.50, 0.17, 0.02)), (0, 0, 0.42), oak),
        place(Box((0.02, 0.15, 0.20)), (-0.42, 0, 0.20), oak),
        place(Box((0.02, 0.15, 0.20)), (0.42, 0, 0.20), oak),
        place(Box((0.22, 0.15, 0.04), 0.03), (-0.20, 0, 0.475), cushion),
        place(Box((0.16, 0.09, 0.14), 0.06), (0.25, 0, 0.58), leather, yaw=0.2),
    ]
    return move(pieces, at, turn, "bench")
