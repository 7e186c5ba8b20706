"""Scenes with perceptual aliasing: places that look the same, where loop closure by appearance alone goes wrong."""

from __future__ import annotations

import math

from gradslam_ng.datasets.synthetic import fixtures, furniture, texture
from gradslam_ng.datasets.synthetic.placement import Furniture, move, place, shell
from gradslam_ng.datasets.synthetic.scene import Room, Station
from gradslam_ng.datasets.synthetic.solids import Box


def look_alike_rooms() -> Room:
    """Two rooms of 3.2 x 3.6 m that are alike to the last picture, 6.2 m apart, and a passage between them.

    The second is the first turned by half about the middle; light is even, so that nothing tells them apart.
    """
    plaster = texture.clouds((0.86, 0.82, 0.74), 0.03, 0.3, 5, seed=401)
    walls = dict.fromkeys(("-x", "+x", "-y", "+y"), plaster)
    walls |= {"floor": texture.planks(seed=402), "ceiling": texture.clouds((0.92, 0.91, 0.88), 0.02, 0.8, 3, seed=403)}
    solids = shell((-4.7, -1.8, 0.0), (4.7, 1.8, 2.5), walls)
    for x, turn in ((-3.1, 0.0), (3.1, math.pi)):
        solids += move(_look_alike_room(), (x, 0.0), turn, "twin")
    for y in (-1, 1):  # the passage
        solids.append(place(Box((1.5, 0.06, 1.25)), (0.0, 0.96 * y, 1.25), plaster))
    solids += fixtures.picture((0.1, 0.9, 1.5), math.pi, (0.30, 0.36), seed=410)
    solids += fixtures.radiator((0.3, -0.84, 0.0), 0.0, seed=411)
    there = _around(-3.1, 0.0)
    back = tuple(((-x, -y, z), (-u, -v, w)) for (x, y, z), (u, v, w) in there)
    return Room("twins", solids, there + back, shaded=False)


def _look_alike_room() -> Furniture:
    """What is in a room about the origin that opens towards +x."""
    rug = furniture.rug((-0.1, 0.0), (0.8, 0.6), seed=420)
    sofa = furniture.armchair((-1.0, -1.1), math.radians(-40), (0.62, 0.30, 0.26), seed=421)
    rest = [
        *furniture.bookcase((-1.44, 0.35), math.radians(-90), seed=430),
        *furniture.plant((1.15, 1.35), 0.8, seed=440),
        *furniture.side_table((0.95, -1.35), seed=445),
        *fixtures.picture((0.0, -1.8, 1.5), 0.0, (0.40, 0.30), seed=450),
        *fixtures.picture((-0.5, 1.8, 1.5), math.pi, (0.30, 0.40), seed=451),
        *fixtures.ceiling_lamp((0.0, 0.0, 2.5), seed=460),
    ]
    plaster = texture.clouds((0.70, 0.78, 0.80), 0.03, 0.3, 5, seed=470)
    partition = [place(Box((0.05, 0.45, 1.25)), (1.55, 1.35 * side, 1.25), plaster) for side in (-1, 1)]
    return rug + sofa + rest + partition


def _around(x: float, y: float) -> tuple[Station, ...]:
    """Into a room about x, y that opens towards +x, around in it, and out again."""
    inside = ((0.6, 0.0, 180), (0.2, 0.1, 210), (-0.15, 0.12, 250), (-0.3, 0.0, 300), (-0.1, -0.1, 350))
    out = ((0.25, -0.05, 395), (0.65, 0.0, 400), (1.2, 0.0, 380), (1.9, 0.0, 365), (2.7, 0.0, 360), (3.6, 0.0, 360))
    stations = []
    for a, b, yaw in (*inside, *out):
        at, along = (x + a, y + b), math.radians(yaw)
        stations.append(((*at, 1.4), (at[0] + math.cos(along), at[1] + math.sin(along), 1.2)))
    return tuple(stations)


def doors() -> Room:
    """A corridor of 12 x 1.8 m whose every meter and a half is like the last: a door left and right, a lamp; walked
    there and back. Only its ends differ."""
    walls = {
        "-x": texture.clouds((0.70, 0.50, 0.40), 0.06, 0.4, 5, seed=503),
        "+x": texture.clouds((0.45, 0.58, 0.48), 0.06, 0.4, 5, seed=504),
        **dict.fromkeys(("-y", "+y", "floor", "ceiling"), texture.plain((0.8, 0.8, 0.78))),
    }
    solids = shell((-6.0, -0.9, 0.0), (6.0, 0.9, 2.5), walls)
    lining = [texture.clouds((0.80, 0.80, 0.74), 0.04, 0.3, 5, seed=510 + k) for k in range(2)]
    floor = texture.tiles((0.66, 0.64, 0.60), size=0.3, seed=512)
    for x in (1.5 * k - 5.25 for k in range(8)):
        solids.append(place(Box((0.75, 0.9, 0.005)), (x, 0.0, 0.005), floor))
        for side, material in zip((-1, 1), lining, strict=True):
            turn = 0.0 if side < 0 else math.pi
            solids.append(place(Box((0.75, 0.005, 1.25)), (x, 0.895 * side, 1.25), material))
            solids += fixtures.door((x, 0.89 * side, 0.0), turn, seed=520)
            solids += fixtures.picture((x + 0.63, 0.89 * side, 1.5), turn, (0.09, 0.14), seed=530)
        solids += fixtures.ceiling_lamp((x, 0.0, 2.5), seed=540, drop=0.12)
    solids += fixtures.picture((6.0, 0.0, 1.4), math.radians(90), (0.4, 0.5), seed=550)
    solids += furniture.plant((-5.68, -0.55), 0.8, seed=551)
    stations = []
    for way in (1, -1):  # looking ahead, at one wall and the other in turn; about to turn at the end
        for i, x in enumerate((-4.2, -2.8, -1.4, 0.0, 1.4, 2.8, 4.5)):
            yaw = math.radians(90 - 90 * way + (90 if i == 6 else 34 * (-1) ** i))
            at = (way * x, 0.0 if i == 6 else -0.08 * way, 1.45)
            stations.append((at, (at[0] + math.cos(yaw), at[1] + math.sin(yaw), 1.23)))
    return Room("doors", solids, tuple(stations))
