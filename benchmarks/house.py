"""A house of three rooms for a camera that is carried about, rendered quickly: few solids, all of them papered."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.noise import kinect
from gradslam_ng.datasets.synthetic.paths import upright
from gradslam_ng.datasets.synthetic.placement import Furniture, place, shell
from gradslam_ng.datasets.synthetic.render import RenderedView, render
from gradslam_ng.datasets.synthetic.scene import Room
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.datasets.synthetic.solids import Box
from gradslam_ng.structures import Trajectory

CENTERS = (-3.8, 0.0, 3.8)  # meters, x, of the rooms, which are 3.8 x 3.6 m, with a door in the middle of each wall
PAPERS = (
    ((0.86, 0.78, 0.63), (0.66, 0.30, 0.24), (0.92, 0.88, 0.78)),
    ((0.24, 0.40, 0.50), (0.72, 0.74, 0.64), (0.35, 0.52, 0.35)),
    ((0.80, 0.72, 0.82), (0.35, 0.28, 0.48), (0.90, 0.84, 0.60)),
)


class Carried(NamedTuple):
    """Where a camera stands and looks, level or a little down."""

    x: float
    y: float
    yaw: float  # degrees
    z: float = 1.4


def paper(room: int, seed: int) -> texture.Material:
    """Wallpaper of a room, with detail at every scale."""
    return texture.blend(*PAPERS[room], wavelength=0.6, octaves=6, seed=seed)


def furniture(room: int, seed: int) -> Furniture:
    """What stands in a room: a table, a cupboard, a column and a case on the wall."""
    x, turn = CENTERS[room], 0.5 * room
    pieces = ((-1.2, -1.2, 0.4, 0.35), (1.2, 1.3, 0.35, 0.9), (-1.3, 1.2, 0.15, 1.25), (1.1, -1.4, 0.25, 0.55))
    return [
        place(Box((half, 0.8 * half, height)), (x + dx, dy, height), paper(room, seed + i), yaw=turn + i)
        for i, (dx, dy, half, height) in enumerate(pieces)
    ]


def house() -> Room:
    """Three rooms in a row."""
    walls = {side: paper(k % 3, 700 + k) for k, side in enumerate(("-x", "+x", "-y", "+y"))}
    walls |= {"floor": texture.planks(seed=710), "ceiling": texture.clouds((0.9, 0.9, 0.88), 0.05, 0.5, 4, seed=711)}
    solids = shell((-5.7, -1.8, 0.0), (5.7, 1.8, 2.5), walls)
    for k, x in enumerate(CENTERS):
        for side in (-1, 1):
            solids.append(place(Box((1.9, 0.02, 1.25)), (x, 1.78 * side, 1.25), paper(k, 720 + 10 * k + side)))
            for y in (-1.15, 1.15):  # beside the doors
                end = place(Box((0.03, 0.65, 1.25)), (x + 1.87 * side, y, 1.25), paper(k, 760 + 10 * k + side))
                solids.append(end)
        solids += furniture(k, 800 + 20 * k)
    return Room("house", solids, (), shaded=False)


def poses(path: list[Carried]) -> Tensor:
    """(L, 4, 4) float64."""
    T = torch.eye(4, dtype=torch.float64).repeat(len(path), 1, 1)
    for i, at in enumerate(path):
        yaw = math.radians(at.yaw)
        sight = torch.tensor([[math.cos(yaw), math.sin(yaw), -0.12]], dtype=torch.float64)
        T[i, :3, :3] = torch.from_numpy(upright((sight / sight.norm()).numpy()))[0]
        T[i, :3, 3] = torch.tensor([at.x, at.y, at.z], dtype=torch.float64)
    return T


def between(a: Carried, b: Carried, frames: int) -> list[Carried]:
    """From a to just before b, evenly."""
    return [Carried(*(p + (q - p) * k / frames for p, q in zip(a, b, strict=True))) for k in range(frames)]


class InHouse(RGBDSequence):
    """What a camera with a Kinect's noise sees along poses in the house."""

    def __init__(self, room: Room, T_wc: Tensor, *, seconds: float, size: tuple[int, int], seed: int = 0) -> None:
        timestamps = seconds * torch.arange(len(T_wc), dtype=torch.float64)
        truth = Trajectory(timestamps, T_wc)
        super().__init__(
            name=room.name, layout="synthetic", K=default_intrinsics(size), size=size, timestamps=timestamps,
            ground_truth=truth, T_wc=T_wc,
        )  # fmt: skip
        self.room, self.seed = room, seed

    def view(self, index: int) -> RenderedView:
        """A frame as it would be without noise."""
        return render(self.room, self.ground_truth.T_wc[index], self.K, self.size, antialias=False)

    @torch.no_grad()
    def read(self, index: int) -> tuple[Tensor, Tensor]:
        view = self.view(index)
        return kinect(view.color.float(), view.depth.float(), view.normal.float(), self.K, 1000 * self.seed + index)
