"""Rooms of analytic solids: world x, y on the floor, z up, meters; the floor at z = 0 where there is one.

`ROOMS` names the builders. A room also says where a camera may go: `stations`, a closed tour of positions and the
points looked at from there, which `paths` turns into motion.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from gradslam_ng.datasets.synthetic import fixtures, furniture, texture
from gradslam_ng.datasets.synthetic.aliasing import doors, look_alike_rooms
from gradslam_ng.datasets.synthetic.placement import shell, wall
from gradslam_ng.datasets.synthetic.scene import Room, Shadow

DEGREE = math.pi / 180
LIVING_ROOM_STATIONS = (
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
LIVING_ROOM_SHADOWS = (
    Shadow(-0.2, -1.78, 1.0, 0.40),
    Shadow(1.72, -1.45, 0.42, 0.34, turn=DEGREE * 42),
    Shadow(0.1, -0.2, 0.26, 0.26, strength=0.35),
    Shadow(-2.34, 0.55, 0.12, 0.72),
    Shadow(0.15, 2.06, 0.84, 0.18),
    Shadow(-1.95, -1.85, 0.08, 0.08, strength=0.4),
    Shadow(2.05, 1.80, 0.07, 0.07),
    Shadow(-2.05, 1.85, 0.05, 0.05),
    Shadow(1.35, 0.95, 0.04, 0.04),
    Shadow(-1.62, -1.02, 0.12, 0.12, strength=0.35),
)


def living_room() -> Room:
    """5 x 4.6 m with sofa, armchair, tables, shelves, television, plants, lamps and curtains; every view has shape."""
    plaster = texture.clouds((0.90, 0.87, 0.80), 0.02, 0.30, 5, seed=1)
    walls = {
        "-x": plaster,
        "+x": plaster,
        "-y": texture.clouds((0.44, 0.60, 0.62), 0.03, 0.30, 5, seed=2),
        "+y": plaster,
        "floor": texture.planks(seed=3),
        "ceiling": texture.clouds((0.92, 0.91, 0.88), 0.02, 0.8, 3, seed=4),
    }
    solids = [
        *shell((-2.5, -2.3, 0.0), (2.5, 2.3, 2.6), walls),
        *(part for i, y in enumerate((-1.25, 0.15, 1.45)) for part in fixtures.beam((0, y, 2.46), 5.0, seed=5 + i)),
        *furniture.rug((0.1, -0.15), (1.25, 0.85), seed=11),
        *furniture.sofa((-0.2, -1.78), 0.0, (0.62, 0.30, 0.26), seed=12),
        *furniture.armchair((1.72, -1.45), DEGREE * 42, (0.30, 0.42, 0.50), seed=20),
        *furniture.coffee_table((0.1, -0.2), seed=30),
        *furniture.bookcase((-2.34, 0.55), DEGREE * -90, seed=40),
        *furniture.television((0.15, 2.06), DEGREE * 180, seed=60),
        *furniture.floor_lamp((-1.95, -1.85), seed=70),
        *furniture.plant((2.05, 1.80), 1.0, seed=80),
        *furniture.plant((-2.05, 1.85), 0.75, seed=90),
        *furniture.ball((1.35, 0.95), 0.30, seed=120),
        *furniture.side_table((-1.62, -1.02), seed=140),
        *fixtures.window((2.5, 0.35, 1.45), DEGREE * 90, seed=100),
        *fixtures.picture((-1.05, -2.3, 1.62), 0.0, (0.42, 0.30), seed=110),
        *fixtures.picture((0.35, -2.3, 1.70), 0.0, (0.30, 0.38), seed=111),
        *fixtures.picture((1.45, -2.3, 1.75), 0.0, (0.24, 0.24), seed=112),
        *fixtures.picture((-2.5, -1.05, 1.60), DEGREE * -90, (0.34, 0.46), seed=113),
        *fixtures.picture((-1.55, 2.3, 1.60), DEGREE * 180, (0.30, 0.40), seed=114),
        *fixtures.ceiling_lamp((0.1, -0.2, 2.6), seed=130),
    ]
    return Room("living_room", solids, LIVING_ROOM_STATIONS, shadows=LIVING_ROOM_SHADOWS)


def corridor() -> Room:
    """12 x 1.8 m with doors, pictures, radiators, a bench, plants and lamps; walked there and back."""
    walls = {
        "-x": texture.clouds((0.70, 0.50, 0.40), 0.06, 0.4, 5, seed=203),
        "+x": texture.clouds((0.45, 0.58, 0.48), 0.06, 0.4, 5, seed=204),
        "-y": texture.clouds((0.74, 0.80, 0.82), 0.03, 0.3, 5, seed=202),
        "+y": texture.clouds((0.86, 0.82, 0.72), 0.03, 0.3, 5, seed=201),
        "floor": texture.tiles((0.66, 0.64, 0.60), size=0.3, seed=205),
        "ceiling": texture.clouds((0.90, 0.90, 0.88), 0.03, 0.6, 4, seed=206),
    }
    solids = shell((-6.0, -0.9, 0.0), (6.0, 0.9, 2.5), walls)
    for i, (x, y) in enumerate(
        ((-4.6, 0.9), (-1.5, 0.9), (1.9, 0.9), (4.4, 0.9), (-3.0, -0.9), (0.4, -0.9), (3.2, -0.9))
    ):
        solids += fixtures.door((x, y, 0.0), DEGREE * 180 if y > 0 else 0.0, seed=210 + i)
    solids += fixtures.door((-6.0, 0.1, 0.0), DEGREE * -90, seed=267)
    left, right = ((x, 0.9) for x in (-5.6, -3.1, 0.2, 3.2)), ((x, -0.9) for x in (-4.6, -1.3, 1.8, 4.9))
    for i, (x, y) in enumerate((*left, *right)):
        turn, half = DEGREE * 180 if y > 0 else 0.0, (0.26 + 0.03 * (i % 3), 0.34)
        solids += fixtures.picture((x, y, 1.5), turn, half, seed=230 + i)
    solids += fixtures.picture((6.0, 0.0, 1.4), DEGREE * 90, (0.4, 0.5), seed=266)
    for i, x in enumerate((-4.5, -1.5, 1.5, 4.5)):
        solids += fixtures.ceiling_lamp((x, 0.0, 2.5), seed=250 + i, drop=0.12)
    solids += fixtures.radiator((-0.1, 0.84, 0.0), DEGREE * 180, seed=260)
    solids += fixtures.radiator((4.55, -0.84, 0.0), 0.0, seed=261)
    solids += fixtures.extinguisher((0.95, 0.80, 0.85), seed=265)
    solids += furniture.bench((-1.35, -0.70), 0.0, seed=262)
    solids += furniture.plant((5.68, 0.58), 0.75, seed=263)
    solids += furniture.plant((-5.68, -0.55), 0.8, seed=264)
    stations = []
    for way, xs in ((1, (-4.2, -2.8, -1.4, 0.0, 1.4, 2.8, 4.5)), (-1, (4.2, 2.8, 1.4, 0.0, -1.4, -2.8, -4.5))):
        for i, x in enumerate(xs):  # looking ahead, at one wall and the other in turn; about to turn at the end
            yaw = DEGREE * (90 - 90 * way + (90 if i == 6 else 34 * (-1) ** i))
            y = 0.0 if i == 6 else -0.08 * way
            stations.append(((x, y, 1.45), (x + math.cos(yaw), y + math.sin(yaw), 1.23)))
    return Room("corridor", solids, tuple(stations))


def flat_wall() -> Room:
    """One flat wall full of texture fills every view: depth fixes three of the pose's six directions, color all."""
    warm, cool = ((0.86, 0.78, 0.63), (0.66, 0.30, 0.24), (0.92, 0.88, 0.78)), ((0.24, 0.40, 0.50), (0.32, 0.34, 0.24))
    mural = texture.blend(*warm, *cool, wavelength=0.7, octaves=6, seed=301)
    solids = [wall((0.0, 0.0, 1.5), (0, -1, 0), (8.0, 8.0), mural)]
    stations = tuple(
        (
            (0.75 * math.cos(a), -2.0 - 0.25 * math.sin(2 * a), 1.5 + 0.35 * math.sin(a)),
            (0.45 * math.cos(a + 0.5), 0.0, 1.5 + 0.25 * math.sin(a + 0.9)),
        )
        for a in (math.tau * i / 8 for i in range(8))
    )
    return Room("wall", solids, stations)


def corner() -> Room:
    """Three bare planes that meet, all of one even color: depth fixes the pose, color nothing of it."""
    white = texture.plain((0.75, 0.75, 0.75))
    solids = [
        wall((0.0, 4.0, 4.0), (1, 0, 0), (4.0, 4.0), white),
        wall((4.0, 0.0, 4.0), (0, 1, 0), (4.0, 4.0), white),
        wall((4.0, 4.0, 0.0), (0, 0, 1), (4.0, 4.0), white),
    ]
    stations = tuple(
        (
            (1.45 + 0.30 * math.cos(a), 1.45 + 0.30 * math.sin(a), 1.25 + 0.18 * math.sin(2 * a)),
            (0.15 + 0.15 * math.cos(a + 1), 0.15 + 0.15 * math.sin(a + 1), 0.25),
        )
        for a in (math.tau * i / 8 for i in range(8))
    )
    return Room("corner", solids, stations, shaded=False)


ROOMS: dict[str, Callable[[], Room]] = {
    "living_room": living_room,
    "corridor": corridor,
    "wall": flat_wall,
    "corner": corner,
    "twins": look_alike_rooms,
    "doors": doors,
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
