"""Camera paths through a room: smooth in time, the same for the same seed, 30 frames a second.

A room's stations (position, point looked at) are joined by a closed periodic spline and walked at constant speed; a hand
adds sway, steps and tremor. World z is up; the camera's y axis points down.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation
from torch import Tensor

from gradslam_ng.datasets.synthetic.rooms import Room

RATE = 30.0  # frames a second
WALK = 0.35  # metres a second, with a camera in the hand
UP = np.array([0.0, 0.0, 1.0])

# A hand's motion: frequency band (Hz), translation (m) and rotation (rad), standard deviations. Slow sway, gait, tremor.
HAND = ((0.2, 0.7, 0.012, 0.018), (1.2, 2.2, 0.004, 0.005), (4.0, 9.0, 0.0005, 0.0012))


class Tour:
    """The closed curve through a room's stations, by arc length in metres."""

    def __init__(self, room: Room) -> None:
        stations = np.array(room.stations, dtype=np.float64)  # (S, 2, 3)
        closed = np.concatenate([stations, stations[:1]]).reshape(-1, 6)
        knots = np.arange(len(closed), dtype=np.float64)
        spline = CubicSpline(knots, closed, bc_type="periodic")
        dense = np.linspace(0, knots[-1], 200 * len(closed))
        step = np.linalg.norm(np.diff(spline(dense)[:, :3], axis=0), axis=-1)
        arc = np.concatenate([[0.0], np.cumsum(step)])
        self.length = float(arc[-1])
        # Smooth in arc length, so that the speed does not jump where knots are unevenly spaced.
        even = np.linspace(0, self.length, 8 * len(closed) + 1)
        samples = spline(np.interp(even, arc, dense))
        samples[-1] = samples[0]
        self._spline = CubicSpline(even, samples, bc_type="periodic")

    def __call__(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position and point looked at, (N, 3) each, at arc length s (N,)."""
        both = self._spline(np.mod(s, self.length))
        return both[:, :3], both[:, 3:]


def look_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotations camera to world (N, 3, 3) with the optical axis towards the target and the image upright."""
    forward = target - position
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, UP)
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(forward, right), forward], axis=-1)


def shake(times: np.ndarray, seed: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """A hand's motion about where it means to be: translation (N, 3) metres, rotation vectors (N, 3) radians."""
    random = np.random.default_rng(seed)
    moved, turned = np.zeros((2, len(times), 3))
    for low, high, metres, radians in HAND:
        for out, size in ((moved, metres), (turned, radians)):
            frequency = random.uniform(low, high, size=(5, 3))
            phase = random.uniform(0, math.tau, size=(5, 3))
            out += strength * size * math.sqrt(2 / 5) * np.sin(math.tau * frequency * times[:, None, None] + phase).sum(1)
    return moved, turned


def _camera(position: np.ndarray, target: np.ndarray, times: np.ndarray, seed: int, strength: float) -> np.ndarray:
    """Poses (N, 4, 4) of a camera meant to look from position at target, held with that much shake."""
    moved, turned = shake(times, seed, strength)
    R_wc = look_at(position, target)
    T_wc = np.tile(np.eye(4), (len(times), 1, 1))
    T_wc[:, :3, :3] = R_wc @ Rotation.from_rotvec(turned).as_matrix()
    T_wc[:, :3, 3] = position + (R_wc @ moved[:, :, None])[..., 0]
    return T_wc


def _tour(room: Room, times: np.ndarray, s: np.ndarray, seed: int, strength: float) -> np.ndarray:
    return _camera(*Tour(room)(s), times, seed, strength)


def handheld(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """Walked at 0.35 m/s with the sway, steps and tremor of a hand; another seed starts elsewhere on the tour."""
    start = 0.618034 * seed * Tour(room).length
    return _tour(room, times, start + WALK * times, seed, 1.0)


def fast(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """Three times the speed and shake of `handheld`."""
    start = 0.618034 * seed * Tour(room).length
    return _tour(room, times, start + 3 * WALK * times, seed, 3.0)


def orbit(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """Once around the tour in the whole of the sequence, as on rails."""
    return _tour(room, times, Tour(room).length * np.arange(len(times)) / len(times), seed, 0.0)


def loop(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """Twice around the tour in the whole of the sequence, hand-held; a walking pace takes about 1,500 frames."""
    return _tour(room, times, 2 * Tour(room).length * np.arange(len(times)) / len(times), seed, 0.7)


def pure_rotation(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """Turning on the spot: from one fixed position, the points of the tour come into view one after the other."""
    tour = Tour(room)
    position = np.mean(np.array(room.stations)[:, 0], axis=0)
    target = tour(WALK * times)[1]
    return _camera(np.tile(position, (len(times), 1)), target, times, seed, 0.0)


def back_and_forth(room: Room, times: np.ndarray, seed: int) -> np.ndarray:
    """One metre along the tour and back every eight seconds, over and over, with a calm hand."""
    return _tour(room, times, 0.5 * (1 - np.cos(math.tau * times / 8)), seed, 0.3)


PATHS: dict[str, Callable[[Room, np.ndarray, int], np.ndarray]] = {
    path.__name__: path for path in (handheld, orbit, loop, pure_rotation, fast, back_and_forth)
}


def camera_path(name: str, room: Room, frames: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Time stamps (frames,) seconds from 0 and poses T_wc (frames, 4, 4), float64.

    Raises:
        ValueError: no such path (lists those there are), or frames < 1.
    """
    if name not in PATHS:
        raise ValueError(f"unknown camera path {name!r}; expected one of {', '.join(PATHS)}")
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, got {frames}")
    times = np.arange(frames) / RATE
    return torch.from_numpy(times), torch.from_numpy(PATHS[name](room, times, seed))
