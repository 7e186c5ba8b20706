"""Random rooms to learn from, a camera walked through them by hand, and a depth sensor with noise."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.curved import Ellipsoid
from gradslam_ng.datasets.synthetic.paths import camera_path
from gradslam_ng.datasets.synthetic.placement import place, shell
from gradslam_ng.datasets.synthetic.render import RenderedView, render
from gradslam_ng.datasets.synthetic.scene import Room
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.datasets.synthetic.solids import Box
from gradslam_ng.geometry import camera


def random_room(seed: int) -> Room:
    """Walls 1.8 to 3 m from the middle, boxes and ellipsoids along them, a tour around the middle that looks across."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(1.8, 3.0, size=2)

    def material() -> texture.Material:
        color = tuple(random.uniform(0.3, 0.9) + random.uniform(-0.15, 0.15, size=3))
        return texture.clouds(color, random.uniform(0.02, 0.3), random.uniform(0.1, 0.6), 4, int(random.integers(1e6)))

    names = ("-x", "+x", "-y", "+y", "floor", "ceiling")
    solids = shell((-x, -y, 0.0), (x, y, 2.6), {name: material() for name in names})
    for _ in range(16):
        angle, half = random.uniform(0, math.tau), random.uniform((0.1, 0.1, 0.1), (0.5, 0.4, 0.6))
        away = min(x / max(abs(math.cos(angle)), 1e-3), y / max(abs(math.sin(angle)), 1e-3)) * random.uniform(0.7, 1.0)
        height = half[2] if random.random() < 0.7 else random.uniform(1.0, 2.2)
        shape = Box(tuple(half), rounding=0.02) if random.random() < 0.7 else Ellipsoid(tuple(half))
        at = (away * math.cos(angle), away * math.sin(angle), height)
        solids.append(place(shape, at, material(), yaw=random.uniform(0, math.tau)))
    stations = []
    for angle in np.arange(0, math.tau, math.tau / 6):
        at = 0.4 * np.array([x * math.cos(angle), y * math.sin(angle)])
        in_front = angle + math.pi + random.uniform(-0.6, 0.6)
        stations.append(
            ((*at, 1.35), (*at + 2 * np.array([math.cos(in_front), math.sin(in_front)]), random.uniform(0.5, 1.0)))
        )
    return Room(f"random {seed}", solids, tuple(stations))


def walk(
    room: Room, frames: int, every: int, size: tuple[int, int], seed: int = 0
) -> tuple[RenderedView, Tensor, Tensor]:
    """What a hand-held camera sees, exactly, of each `every`-th frame, 30 a second.

    Returns the views (frames, ...), T_wc (frames, 4, 4) and K (3, 3), float32.
    """
    _, T_wc = camera_path("handheld", room, frames * every, seed)
    T_wc, K = T_wc[::every].float(), default_intrinsics(size).float()
    return render(room, T_wc, K, size), T_wc, K


def facing(depth: Tensor, normal: Tensor, K: Tensor) -> Tensor:
    """Cosine (..., H, W, 1) between the surface's normal and the direction to the camera."""
    ray = normalize(camera.unproject(torch.ones_like(depth), K), dim=-1)
    return -(ray * normal).sum(-1, keepdim=True)


def sigma(depth: Tensor, normal: Tensor, K: Tensor) -> Tensor:
    """Standard deviation (..., H, W, 1), meters, of the sensor's depth: grows with the range squared and the slant."""
    slant = facing(depth, normal, K).clamp(0.05, 1.0).pow(-2) - 1  # squared tangent
    return 0.0015 * depth.square() * (1 + slant.clamp(max=16))


def sense(depth: Tensor, normal: Tensor, K: Tensor, generator: torch.Generator) -> Tensor:
    """Depth (..., H, W, 1) as the sensor reports it: errors in patches of 8 and of 2 pixels, as matching makes them.

    Beyond 5 m and at more than 84 degrees from face on there is no reading.
    """
    height, width = depth.shape[-3:-1]
    error = torch.zeros_like(depth)
    for share, patch in ((0.8, 8), (0.6, 2)):
        grid = torch.randn(depth.shape[:-3].numel(), 1, height // patch + 2, width // patch + 2, generator=generator)
        smooth = interpolate(grid, scale_factor=patch, mode="bicubic")[..., :height, :width]
        error = error + share * (smooth / smooth.std()).reshape(depth.shape)
    measured = depth + sigma(depth, normal, K) * error
    seen = (facing(depth, normal, K) > 0.1) & (measured > 0.3) & (measured < 5.0)
    return torch.where(seen, measured, 0.0)
