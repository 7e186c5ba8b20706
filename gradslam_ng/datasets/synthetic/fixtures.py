"""What is fixed to walls and ceilings, from analytic solids; unturned, a piece hangs on a wall that faces +y.

`turn` rotates a piece about the vertical, radians; `seed` picks its textures. Lengths in meters.
"""

from __future__ import annotations

import math

import numpy as np

from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.curved import Capsule, Ellipsoid, Frustum
from gradslam_ng.datasets.synthetic.placement import Furniture, Point, move, place
from gradslam_ng.datasets.synthetic.solids import Box
from gradslam_ng.datasets.synthetic.texture import Color

QUARTER = math.pi / 2
PALETTES: tuple[tuple[Color, ...], ...] = (
    ((0.93, 0.88, 0.76), (0.86, 0.52, 0.30), (0.22, 0.36, 0.46), (0.58, 0.20, 0.18), (0.95, 0.75, 0.45)),
    ((0.90, 0.92, 0.88), (0.40, 0.60, 0.62), (0.16, 0.28, 0.38), (0.84, 0.74, 0.52), (0.52, 0.66, 0.44)),
    ((0.96, 0.84, 0.62), (0.88, 0.38, 0.26), (0.42, 0.22, 0.32), (0.20, 0.30, 0.42), (0.94, 0.92, 0.86)),
    ((0.30, 0.40, 0.26), (0.66, 0.72, 0.42), (0.92, 0.88, 0.70), (0.70, 0.44, 0.26), (0.22, 0.26, 0.24)),
)
PAINTS: tuple[Color, ...] = (
    (0.62, 0.34, 0.26), (0.34, 0.48, 0.56), (0.82, 0.72, 0.50), (0.42, 0.52, 0.38), (0.58, 0.50, 0.44),
)  # fmt: skip


def picture(at: Point, turn: float, half: tuple[float, float], seed: int) -> Furniture:
    """A painting 5 cm deep in a frame; `at` its center on the wall, `half` its half width and height."""
    wavelength = float(np.random.default_rng(seed).uniform(0.2, 0.4))
    canvas = texture.blend(*PALETTES[seed % len(PALETTES)], wavelength=wavelength, seed=seed)
    look = texture.framed(canvas, half)
    return move([place(Box((half[0], 0.025, half[1])), (0, 0.025, 0), look)], at, turn, "picture")


def door(at: Point, turn: float, seed: int) -> Furniture:
    """A door with two panels in a frame, and its handle; `at` on the wall, at the floor."""
    color = PAINTS[seed % len(PAINTS)]
    paint = texture.clouds(color, 0.06, 0.2, 5, seed)
    panel = texture.clouds(tuple(0.85 * c for c in color), 0.06, 0.15, 5, seed + 1)
    frame = texture.clouds((0.85, 0.83, 0.78), 0.05, 0.2, 4, seed + 50)
    metal = texture.clouds((0.6, 0.58, 0.5), 0.1, 0.03, 3, seed + 51)
    pieces = [
        place(Box((0.42, 0.015, 1.0)), (0, 0.015, 1.0), paint),
        place(Box((0.28, 0.012, 0.36), 0.01), (0, 0.03, 1.45), panel),
        place(Box((0.28, 0.012, 0.30), 0.01), (0, 0.03, 0.50), panel),
        place(Box((0.04, 0.035, 1.04)), (-0.46, 0.035, 1.04), frame),
        place(Box((0.04, 0.035, 1.04)), (0.46, 0.035, 1.04), frame),
        place(Box((0.50, 0.035, 0.04)), (0, 0.035, 2.06), frame),
        place(Capsule(0.012, 0.09), (0.31, 0.06, 1.02), metal, roll=QUARTER),
    ]
    return move(pieces, at, turn, "door")


def window(at: Point, turn: float, seed: int) -> Furniture:
    """A framed view with a sill, curtains in folds either side, and a radiator below; `at` its center on the wall."""
    garden = texture.blend((0.62, 0.80, 0.94), (0.90, 0.94, 0.95), (0.50, 0.68, 0.46), wavelength=0.6, seed=seed)
    white = texture.clouds((0.90, 0.89, 0.86), 0.03, 0.2, 3, seed + 1)
    cloth = texture.stripes((0.80, 0.58, 0.36), (0.70, 0.44, 0.28), 0.08, seed + 2)
    pieces = [
        place(Box((0.62, 0.03, 0.52)), (0, 0, 0), texture.framed(garden, (0.62, 0.52), (0.92, 0.91, 0.88), 0.05)),
        place(Box((0.025, 0.03, 0.50)), (0, 0.03, 0), white),
        place(Box((0.60, 0.03, 0.02)), (0, 0.028, 0.12), white),
        place(Box((0.70, 0.11, 0.02)), (0, 0.08, -0.56), white),
        place(Capsule(0.015, 2.0), (0, 0.12, 0.68), white, roll=QUARTER),
    ]
    for side in (-1, 1):
        for fold in range(4):
            at_fold = (side * (0.66 + 0.09 * fold), 0.10 + 0.02 * (fold % 2), -0.32)
            pieces.append(place(Frustum(0.055, 0.045, 1.95), at_fold, cloth))
    pieces += radiator((0, 0.06, -at[2]), 0.0, seed + 3)
    return move(pieces, at, turn, "window")


def radiator(at: Point, turn: float, seed: int) -> Furniture:
    """Ten upright ribs between two pipes; `at` on the floor, below its middle."""
    enamel = texture.clouds((0.88, 0.87, 0.83), 0.04, 0.15, 3, seed)
    ribs = [place(Capsule(0.032, 0.46), (-0.40 + 0.8 * i / 9, 0, 0.40), enamel) for i in range(10)]
    pipes = [place(Capsule(0.02, 0.86), (0, 0, z), enamel, roll=QUARTER) for z in (0.19, 0.61)]
    return move(ribs + pipes, at, turn, "radiator")


def ceiling_lamp(at: Point, seed: int, drop: float = 0.35) -> Furniture:
    """A globe on a rod; `at` on the ceiling."""
    glass = texture.clouds((0.95, 0.90, 0.78), 0.05, 0.12, 4, seed)
    rod = texture.plain((0.3, 0.28, 0.25))
    pieces = [
        place(Ellipsoid((0.13, 0.13, 0.10)), (0, 0, -drop), glass),
        place(Frustum(0.012, 0.012, drop), (0, 0, -drop / 2), rod),
    ]
    return move(pieces, at, 0.0, "ceiling lamp")


def beam(at: Point, length: float, seed: int) -> Furniture:
    """A wooden beam along x; `at` the middle of its lower side."""
    return move([place(Box((length / 2, 0.07, 0.07)), (0, 0, 0.07), texture.wood(axis=0, seed=seed))], at, 0.0, "beam")


def extinguisher(at: Point, seed: int) -> Furniture:
    """A red bottle; `at` its middle."""
    red = texture.clouds((0.78, 0.16, 0.12), 0.06, 0.1, 4, seed)
    valve = place(Frustum(0.03, 0.02, 0.10), (0, 0, 0.27), texture.plain((0.15, 0.15, 0.15)))
    return move([place(Capsule(0.07, 0.32), (0, 0, 0), red), valve], at, 0.0, "extinguisher")
