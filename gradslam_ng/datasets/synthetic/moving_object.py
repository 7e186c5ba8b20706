"""Rendered sequences with a dynamic object: a box as tall as a person crosses the camera's view."""

from __future__ import annotations

import dataclasses
import math

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.placement import place
from gradslam_ng.datasets.synthetic.render import render
from gradslam_ng.datasets.synthetic.rooms import Room
from gradslam_ng.datasets.synthetic.sequence import Synthetic, default_intrinsics
from gradslam_ng.datasets.synthetic.solids import Box, Solid

PERIOD = 4.0  # seconds from left to right and back
SWING = math.radians(50)  # to either side of the line of sight: out of view at the ends
SMOOTH = 0.5  # seconds: it goes along with the camera's walk, not with its shake


class WithMovingObject(Synthetic):
    """A room in which a box as tall as a person crosses the camera's view, from left to right and back every 4 s.

    It begins out of view, stands on the floor, hides what is behind it, and is seen with the sensor's noise; it passes
    through furniture. Everything else, noise included, is as in `Synthetic` with the same arguments, and `mesh` and
    `room` are of the room alone.

    Args:
        distance: of the box's middle from the camera, along the floor, meters.
        half: half extents of the box, meters: along its way, towards the camera, upwards.
        **options: of `Synthetic`.
    """

    def __init__(
        self,
        name: str = "living_room",
        *,
        distance: float = 1.3,
        half: tuple[float, float, float] = (0.20, 0.15, 0.80),
        **options,
    ) -> None:
        super().__init__(name, **options)
        self.distance, self.half = distance, half
        self.notes = (*self.notes, f"a box of half extents {half} m walks by at {distance} m")

    def moving_object(self, index: int) -> Solid:
        """The box at the time of a frame."""
        T_wc, times = self.ground_truth.T_wc, self.ground_truth.timestamps
        yaw = torch.atan2(T_wc[:, 1, 2], T_wc[:, 0, 2])  # of the line of sight
        turn = torch.cat([yaw[:1], yaw[:1] + _wrap_angle(yaw.diff()).cumsum(0)])
        rate = float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 else 1.0
        calm = gaussian_filter1d(torch.column_stack([T_wc[:, :2, 3], turn]).numpy(), SMOOTH * rate, axis=0)
        x, y, in_front = calm[index].tolist()
        in_front += SWING * math.cos(math.tau * float(times[index]) / PERIOD)
        at = (x + self.distance * math.cos(in_front), y + self.distance * math.sin(in_front), self.half[2])
        cloth = texture.blend((0.85, 0.30, 0.20), (0.95, 0.85, 0.60), (0.20, 0.25, 0.45), wavelength=0.3, seed=400)
        return place(Box(self.half), at, cloth, yaw=in_front + math.pi / 2)

    def scene(self, index: int) -> Room:
        return dataclasses.replace(self.room, solids=[*self.room.solids, self.moving_object(index)])

    def object_coverage(self, index: int, size: tuple[int, int] = (60, 80)) -> float:
        """Share of the image that the box takes."""
        scene = self.scene(index)
        view = render(scene, self.ground_truth.T_wc[index], default_intrinsics(size), size, antialias=False)
        return float((view.solid == len(scene.solids) - 1).double().mean())


def _wrap_angle(angle: Tensor) -> Tensor:
    """Into -pi to pi."""
    return torch.atan2(angle.sin(), angle.cos())
