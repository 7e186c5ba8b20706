"""Rooms as they are, and as a depth sensor with faults sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import max_pool2d

import gradslam_ng as gs
from demos.common.rooms import random_room, sense
from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.paths import camera_path
from gradslam_ng.datasets.synthetic.placement import place
from gradslam_ng.datasets.synthetic.render import render
from gradslam_ng.datasets.synthetic.scene import Room
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.datasets.synthetic.solids import Box
from gradslam_ng.geometry import images
from gradslam_ng.planning import DistanceField

HEIGHTS = (0.1, 1.3)  # meters above the floor between which things are in the way
CELL, LEVEL = 0.05, 0.1  # meters, of the cells that are planned on, and between heights at which the room is asked
RADIUS, SPARE = 0.15, 0.1  # of the robot, and how much more room it has where it starts and where it goes, meters
GOALS = 3  # of a place, to train by
DARK, LONG = 0.45, 0.06  # brightness below which surfaces read long, and by how much of their distance at most
SHORT = 0.06  # of the distance, by which the corners of the image read short
EDGE = 0.05  # of the distance, from which on a step between neighboring pixels makes them fly


@dataclass(frozen=True, eq=False)
class Place:
    """A room, and what the sensor saw of it."""

    room: Room
    frames: gs.RGBDFrames  # (L,), with true poses
    exact: gs.RGBDFrames  # the same without error

    @cached_property
    def centers(self) -> Tensor:
        """(X, Y, 2), meters: the cells that are planned on, all over the room."""
        low, high = ((bound / CELL).round() for bound in extent(self.room))
        along = [torch.arange(float(a), float(b) + 1, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
        return CELL * torch.stack(torch.meshgrid(*along, indexing="ij"), -1)

    @cached_property
    def truth(self) -> DistanceField:
        """Over the floor: the least distance at any height to what the room holds, but for floor and ceiling."""
        upright = [solid for solid in self.room.solids if solid.name not in ("floor", "ceiling")]
        z = torch.arange(*HEIGHTS, LEVEL, dtype=torch.float64)
        points = torch.cat(
            [self.centers[:, :, None].expand(-1, -1, len(z), -1), z[:, None].expand(*self.centers.shape[:2], -1, 1)], -1
        )
        nearest = Room("upright", upright, ()).clearance(points.flatten(0, 2))
        return DistanceField(nearest.view(points.shape[:3]).amin(-1), origin=self.centers[0, 0], cell=CELL)

    @cached_property
    def distance(self) -> Tensor:
        """(X, Y), the true one of each cell."""
        return self.truth.values

    @cached_property
    def standing(self) -> Tensor:
        """(X, Y) bool: cells where the robot stands well clear, the largest region of them."""
        clear = self.distance.numpy() > RADIUS + SPARE
        regions, _ = ndimage.label(clear)
        return torch.from_numpy(regions == np.bincount(regions[clear]).argmax())

    @cached_property
    def goals(self) -> Tensor:
        """(G, 2), the cells to train by."""
        return self.draw(GOALS, torch.Generator().manual_seed(0))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Random standing cells (count, 2)."""
        cells = self.standing.nonzero()
        return cells[torch.randint(len(cells), (count,), generator=generator)]


def faulty(depth: Tensor, normal: Tensor, color: Tensor, K: Tensor, generator: torch.Generator) -> Tensor:
    """Depth (L, H, W, 1) as the sensor reports it.

    Pixels at edges fly between both sides; dark surfaces read long, as those of a time-of-flight camera do, and the
    corners of the image short, as where a lens is not calibrated; and everything has the noise of `sense`.
    """
    image = depth[..., 0][:, None]
    far, near = max_pool2d(image, 3, 1, 1), -max_pool2d(-image, 3, 1, 1)
    between = torch.lerp(near, far, torch.rand(image.shape, generator=generator))
    flown = torch.where(far - near > EDGE * near, between, image)[:, 0, ..., None]
    return sense(flown * (1 + LONG * darkness(color) - SHORT * away(color)), normal, K, generator)


def darkness(color: Tensor) -> Tensor:  # (..., 3)
    """(..., 1), from 0 for what is brighter than `DARK` to 1 for black."""
    return (1 - images.intensity(color) / DARK).clamp(0, 1)


def away(color: Tensor) -> Tensor:  # (L, H, W, 3)
    """(L, H, W, 1), from 0 in the middle of the image to 1 in its corners: the square of the distance."""
    v, u = (torch.linspace(-1, 1, n, dtype=color.dtype, device=color.device) for n in color.shape[-3:-1])
    square = 0.5 * (v[:, None] ** 2 + u**2)
    return square[..., None].expand(*color.shape[:-1], 1)


def extent(room: Room) -> tuple[Tensor, Tensor]:
    """The least and the largest x and y (2,) within walls, meters."""
    walls = torch.stack([solid.T_ws[:2, 3] for solid in room.solids if solid.name == "wall"])
    return walls.amin(0), walls.amax(0)


def cluttered(seed: int, pieces: int = 9) -> Room:
    """A random room with boxes all over its floor, half of them dark, below the height of the camera."""
    room, random = random_room(seed), np.random.default_rng(seed)
    low, high = (0.75 * bound.numpy() for bound in extent(room))
    solids = list(room.solids)
    for k in range(pieces):
        half, at = random.uniform((0.08, 0.08, 0.2), (0.25, 0.25, 0.5)), random.uniform(low, high)
        shade = random.uniform(0.05, 0.2) if k % 2 else random.uniform(0.5, 0.9)
        material = texture.clouds((shade, shade, shade), 0.1, 0.3, 4, int(random.integers(1e6)))
        yaw = random.uniform(0, np.pi)
        solids.append(place(Box(tuple(half), rounding=0.02), (*at, half[2]), material, yaw=yaw))
    return Room(f"cluttered {seed}", solids, room.stations)


def visit(room: Room, seed: int, size: tuple[int, int], frames: int = 12) -> Place:
    """A tour of a room with the faulty sensor."""
    _, T_wc = camera_path("orbit", room, frames, seed)
    T_wc, K = T_wc.float(), default_intrinsics(size).float()
    view = render(room, T_wc, K, size)
    exact, color = view.depth.float(), view.color.float()
    depth = faulty(exact, view.normal.float(), color, K, torch.Generator().manual_seed(seed))
    seen, true = (gs.RGBDFrames(color, x, K.expand(frames, 3, 3), T_wc) for x in (depth, exact))
    return Place(room, seen, true)
