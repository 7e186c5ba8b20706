"""Camera paths through a room: smooth in time, the same for the same seed, 30 frames a second.

A room's stations (position, point looked at) are joined by a closed periodic spline and walked at constant speed; a
hand adds sway, steps and tremor. World z is up; the camera's y axis points down.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation
from torch import Tensor

from gradslam_ng.datasets.synthetic.scene import Room

RATE = 30.0  # frames a second
WALK = 0.35  # meters a second, with a camera in the hand
REACH = 0.5  # meters of walking that take as long as turning by one radian
GOLDEN = (5**0.5 - 1) / 2
UP = np.array([0.0, 0.0, 1.0])

# A hand's motion, slow sway, steps and tremor: band (Hz), and standard deviation of translation (m) and rotation (rad).
HAND = ((0.2, 0.7, 0.012, 0.018), (1.2, 2.2, 0.004, 0.005), (4.0, 9.0, 0.0005, 0.0012))


class Tour:
    """The closed curve through a room's stations: positions and directions of sight, parametrized by its length.

    Length counts turning as well, `REACH` meters a radian, so that a camera at constant speed takes its time to turn.
    """

    def __init__(self, room: Room) -> None:
        stations = np.array(room.stations, dtype=np.float64)  # (S, 2, 3)
        sight = stations[:, 1] - stations[:, 0]
        yaw = np.unwrap(np.append(angles := np.arctan2(sight[:, 1], sight[:, 0]), angles[0]))
        pitch = np.arctan2(sight[:, 2], np.hypot(sight[:, 0], sight[:, 1]))
        knots = np.linspace(0, 1, len(yaw))
        self._turn = yaw[-1] - yaw[0]  # whole turns in a tour; what is left is periodic
        still = np.column_stack([stations[:, 0], yaw[:-1] - self._turn * knots[:-1], pitch])
        rough = CubicSpline(knots, np.append(still, still[:1], axis=0), bc_type="periodic")
        dense = np.linspace(0, 1, 200 * len(yaw))
        metric = rough(dense) + self._turn * dense[:, None] * [0, 0, 0, 1, 0]
        length = np.append(0, np.linalg.norm(np.diff(metric * [1, 1, 1, REACH, REACH], axis=0), axis=-1).cumsum())
        self.length = float(length[-1])
        # A second spline, even in length, so that speed does not jump where stations are unevenly spaced.
        even = np.linspace(0, self.length, 6 * len(yaw) + 1)
        u = np.interp(even, length, dense)
        samples = rough(u) + self._turn * (u - even / self.length)[:, None] * [0, 0, 0, 1, 0]
        samples[-1] = samples[0]
        self._spline = CubicSpline(even, samples, bc_type="periodic")

    def __call__(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position (N, 3) and direction of sight (N, 3), of length 1, at length s (N,) along the tour."""
        x, y, z, yaw, pitch = self._spline(np.mod(s, self.length)).T
        yaw = yaw + self._turn * s / self.length
        sight = np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)], -1)
        return np.stack([x, y, z], -1), sight


def upright(sight: np.ndarray) -> np.ndarray:
    """Rotations camera to world (N, 3, 3) that look along sight (N, 3), of length 1, with the horizon level."""
    right = np.cross(sight, UP)
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(sight, right), sight], axis=-1)


def shake(times: np.ndarray, seed: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """A hand's motion about where it means to be: translation (N, 3) meters, rotation vectors (N, 3) radians."""
    random = np.random.default_rng(seed)
    moved, turned = np.zeros((2, len(times), 3))
    for low, high, meters, radians in HAND:
        for out, size in ((moved, meters), (turned, radians)):
            frequency = random.uniform(low, high, size=(5, 3))
            phase = random.uniform(0, math.tau, size=(5, 3))
            out += (
                strength * size * math.sqrt(2 / 5) * np.sin(math.tau * frequency * times[:, None, None] + phase).sum(1)
            )
    return moved, turned


def _camera(position: np.ndarray, sight: np.ndarray, times: np.ndarray, seed: int, strength: float) -> np.ndarray:
    """Poses (N, 4, 4) of a camera meant to be at position and look along sight, held with that much shake."""
    moved, turned = shake(times, seed, strength)
    R_wc = upright(sight)
    T_wc = np.tile(np.eye(4), (len(times), 1, 1))
    T_wc[:, :3, :3] = R_wc @ Rotation.from_rotvec(turned).as_matrix()
    T_wc[:, :3, 3] = position + (R_wc @ moved[:, :, None])[..., 0]
    return T_wc


def _start(tour: Tour, seed: int) -> float:
    """Where on the tour to begin: seed 0 at its first station, others spread around."""
    return GOLDEN * seed * tour.length


def handheld(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """Walked at up to 0.35 m/s with the sway, steps and tremor of a hand; another seed starts elsewhere on the tour."""
    tour = Tour(room)
    return _camera(*tour(_start(tour, seed) + WALK * times), times, seed, 1.0)


def fast(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """Three times the speed and shake of `handheld`."""
    tour = Tour(room)
    return _camera(*tour(_start(tour, seed) + 3 * WALK * times), times, seed, 3.0)


def orbit(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """Once around the tour in the whole of the sequence, as on rails."""
    tour = Tour(room)
    return _camera(*tour(_start(tour, seed) + tour.length * _progress(times)), times, seed, 0.0)


def loop(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """Twice around the tour in the whole of the sequence, hand-held; a walking pace takes about 1,500 frames."""
    tour = Tour(room)
    return _camera(*tour(_start(tour, seed) + 2 * tour.length * _progress(times)), times, seed, 0.7)


def pure_rotation(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """Turning on the spot, amid the stations, through the tour's directions of sight."""
    tour = Tour(room)
    spot = np.array(room.stations)[:, 0].mean(0)
    sight = tour(_start(tour, seed) + WALK * times)[1]
    return _camera(np.tile(spot, (len(times), 1)), sight, times, seed, 0.0)


def back_and_forth(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """A meter along the tour and back every eight seconds, over and over, with a calm hand."""
    tour = Tour(room)
    return _camera(*tour(_start(tour, seed) + 0.5 * (1 - np.cos(math.tau * times / 8))), times, seed, 0.3)


def _progress(times: np.ndarray) -> np.ndarray:
    """0 at the first frame to just under 1 at the last."""
    return np.arange(len(times)) / len(times)


PATHS: dict[str, Callable[[Room, np.ndarray, int], np.ndarray]] = {
    path.__name__: path for path in (handheld, orbit, loop, pure_rotation, fast, back_and_forth)
}


def camera_path(name: str, room: Room, frames: int, seed: int = 0, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Time stamps (frames,) seconds from `offset` and poses T_wc (frames, 4, 4), float64.

    Raises:
        ValueError: no such path (lists those there are), or frames < 1.
    """
    if name not in PATHS:
        raise ValueError(f"unknown camera path {name!r}; expected one of {', '.join(PATHS)}")
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, got {frames}")
    times = np.arange(frames) / RATE + offset
    return torch.from_numpy(times), torch.from_numpy(PATHS[name](room, times, seed))
