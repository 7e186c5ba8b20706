"""Synthetic sequences: a room, a camera path and a sensor, rendered frame by frame when asked for."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.datasets.synthetic import noise as sensor
from gradslam_ng.datasets.synthetic.paths import RATE, camera_path
from gradslam_ng.datasets.synthetic.render import nearest, render
from gradslam_ng.datasets.synthetic.rooms import Room, room
from gradslam_ng.geometry import camera, se3
from gradslam_ng.structures import Trajectory

NOISE = ("none", "kinect")


def default_intrinsics(size: tuple[int, int]) -> Tensor:
    """(3, 3) of a Kinect, 525, 525, 319.5, 239.5 at 640x480, scaled to another image height and width."""
    height, width = size
    sy, sx = height / 480, width / 640
    return torch.tensor([[525 * sx, 0, 320 * sx - 0.5], [0, 525 * sy, 240 * sy - 0.5], [0, 0, 1]], dtype=torch.float64)


class Synthetic(RGBDSequence):
    """A rendered sequence with exact poses, 30 frames a second, in a world whose z axis points up.

    Args:
        name: of the room: "living_room", "corridor", "wall", "corner", "twins" or "doors".
        frames: how many.
        size: image height and width.
        noise: "none" (exact), or "kinect" (Handa et al. 2014, with holes at edges and grazing angles).
        path: "handheld", "orbit", "loop", "pure_rotation", "fast" or "back_and_forth".
        seed: of the hand's motion and of the noise; the same seed gives the same sequence.

    `T_wc` (L, 4, 4) float64 are the exact poses, `mesh` the exact surface, which takes a few seconds the first time.

    Raises:
        ValueError: an unknown room, path or noise (the message lists those known), no frames, or no pixels.
    """

    @mode_free
    def __init__(
        self,
        name: str = "living_room",
        *,
        frames: int = 300,
        size: tuple[int, int] = (480, 640),
        noise: str = "none",
        path: str = "handheld",
        seed: int = 0,
    ) -> None:
        if noise not in NOISE:
            raise ValueError(f"unknown noise {noise!r}; expected one of {', '.join(NOISE)}")
        if min(size) < 2:
            raise ValueError(f"size: expected an image height and width of at least 2 pixels, got {tuple(size)}")
        if seed < 0:
            raise ValueError(f"seed: expected a number of at least 0, got {seed}")
        self.room, self.noise, self.seed = room(name), noise, seed
        timestamps, T_wc = camera_path(path, self.room, frames, seed)
        super().__init__(
            name=name,
            layout="synthetic",
            K=default_intrinsics(size),
            size=size,
            timestamps=timestamps,
            ground_truth=Trajectory(timestamps, T_wc),
            T_wc=T_wc,
            notes=[f"rendered: path {path}, noise {noise}, seed {seed}"],
        )

    @property
    def mesh(self) -> tuple[Tensor, Tensor]:
        """The exact surface of the room, `Room.surface`."""
        return self.room.surface

    def scene(self, index: int) -> Room:
        """What stands in the room at the time of a frame of the recording."""
        return self.room

    def along(self, T_wc: Tensor) -> Synthetic:
        """The same, seen from other poses (L, 4, 4), 30 a second."""
        moved = copy.copy(self)
        moved.timestamps = torch.arange(len(T_wc), dtype=torch.float64) / RATE
        moved.T_wc, moved.indices = T_wc.double(), range(len(T_wc))
        moved.ground_truth = Trajectory(moved.timestamps, moved.T_wc)
        return moved

    @torch.no_grad()
    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Color (H, W, 3) and depth (H, W, 1) of a frame, float32, with the sequence's noise."""
        view = render(self.scene(index), self.ground_truth.T_wc[index], self.K, self.size)
        color, depth = view.color.float(), view.depth.float()
        if self.noise == "none":
            return color, depth
        return sensor.kinect(color, depth, view.normal.float(), self.K, 1_000_003 * self.seed + index)

    @mode_free
    @torch.no_grad()
    def seen(self, points: Tensor, every: int = 10, tolerance: float = 0.005) -> Tensor:
        """Which points of the surface (N, 3), meters, the camera saw: (N,) bool, for the completion of a map.

        A point is seen from a frame if it falls inside the image and a ray towards it is stopped no earlier than
        `tolerance` meters before it; with Kinect noise, in its range only. Points hidden inside furniture never are.

        Args:
            every: how many frames to move on by.
        """
        seen = torch.zeros(len(points), dtype=torch.bool)
        height, width = self.size
        for T_wc in self.T_wc[::every]:
            uv, z = camera.project(se3.transform(se3.inverse(T_wc), points.to(T_wc)), self.K.to(T_wc))
            inside = (z > 0) & (uv >= -0.5).all(-1) & (uv[:, 0] <= width - 0.5) & (uv[:, 1] <= height - 0.5)
            if self.noise == "kinect":
                inside &= (z >= sensor.NEAREST) & (z <= sensor.FARTHEST)
            new = (inside & ~seen).nonzero()[:, 0]
            if len(new):
                sight = points[new].to(T_wc) - T_wc[:3, 3]  # the point itself is at ray parameter 1
                _, stop = nearest(self.room.solids, T_wc[:3, 3], sight)
                seen[new] = (1 - stop) * sight.norm(dim=-1) <= tolerance
        return seen
