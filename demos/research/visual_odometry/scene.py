"""A wheeled robot in rendered rooms: its drive, the images of its camera, and what spoils some of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from demos.research.visual_odometry.model import DT, advance
from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.curved import Ellipsoid
from gradslam_ng.datasets.synthetic.placement import place, shell
from gradslam_ng.datasets.synthetic.render import render
from gradslam_ng.datasets.synthetic.scene import Room
from gradslam_ng.datasets.synthetic.solids import Box

SIZE = (32, 64)  # of the images, pixels
FOCAL = 40.0  # pixels
HEIGHT, PITCH = 0.6, math.radians(12)  # of the camera above the floor, meters, and how far it looks down
FREE = 0.5  # share of the room around its middle without furniture


def random_hall(seed: int) -> tuple[Room, tuple[float, float]]:
    """A room of 7 to 12 m with furniture along its walls; and half of its extents."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(3.5, 6.0, size=2)

    def material() -> texture.Material:
        color = tuple(random.uniform(0.3, 0.9) + random.uniform(-0.15, 0.15, size=3))
        return texture.clouds(color, random.uniform(0.05, 0.4), random.uniform(0.15, 0.8), 4, int(random.integers(1e6)))

    names = ("-x", "+x", "-y", "+y", "floor", "ceiling")
    materials = {name: material() for name in names}
    materials["floor"] = texture.clouds((0.5, 0.45, 0.4), random.uniform(0.3, 0.6), random.uniform(0.3, 0.6), 4, seed)
    solids = shell((-x, -y, 0.0), (x, y, 2.6), materials)
    for _ in range(22):
        angle, half = random.uniform(0, math.tau), random.uniform((0.15, 0.15, 0.2), (0.5, 0.5, 1.0))
        away = min(x / max(abs(math.cos(angle)), 1e-3), y / max(abs(math.sin(angle)), 1e-3)) * random.uniform(0.75, 1.0)
        at = (away * math.cos(angle), away * math.sin(angle), half[2])
        shape = Box(tuple(half), rounding=0.02) if random.random() < 0.7 else Ellipsoid(tuple(half))
        solids.append(place(shape, at, material(), yaw=random.uniform(0, math.tau)))
    return Room(f"hall {seed}", solids, ()), (x, y)


def drive(half: tuple[float, float], steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Poses T_wb (steps, 3, 3) and velocities (steps, 2), meters and radians a second, from goal to goal.

    Wheels slip: sideways in curves by 4% of the centrifugal acceleration's velocity, and at random.
    """
    random = np.random.default_rng(seed)
    reach = FREE * np.array(half)

    def goal() -> np.ndarray:
        angle = random.uniform(0, math.tau)
        return reach * math.sqrt(random.uniform(0.2, 1.0)) * np.array([math.cos(angle), math.sin(angle)])

    T, velocity, wanted, target = torch.eye(3, dtype=torch.float64), np.zeros(2), 0.8, goal()
    poses, velocities = [], []
    for _ in range(steps):
        poses.append(T)
        velocities.append(torch.tensor(velocity))
        slip = np.array([0.0, -0.04 * velocity[0] * velocity[1], 0.0]) + random.normal(0, (0.01, 0.01, 0.01))
        T = advance(T, torch.tensor(velocity), torch.tensor(slip))
        to_goal = target - T[:2, 2].numpy()
        if np.hypot(*to_goal) < 0.4:
            target, wanted = goal(), random.uniform(0.5, 1.2)
        turn = math.remainder(math.atan2(to_goal[1], to_goal[0]) - math.atan2(float(T[1, 0]), float(T[0, 0])), math.tau)
        asked = np.array([wanted * max(0.3, math.cos(turn)), np.clip(1.5 * turn, -0.9, 0.9)])
        velocity = velocity + 0.35 * (asked - velocity) + random.normal(0, (0.03, 0.06))
    return torch.stack(poses), torch.stack(velocities)


def camera_poses(
    T_wb: Tensor,  # (..., 3, 3)
) -> Tensor:
    """T_wc (..., 4, 4) of the camera that looks ahead from a robot."""
    cos, sin = math.cos(PITCH), math.sin(PITCH)
    R_bc = T_wb.new_tensor([[0, -sin, cos], [-1, 0, 0], [0, -cos, -sin]])
    T_wc = torch.eye(4, dtype=T_wb.dtype).repeat(*T_wb.shape[:-2], 1, 1)
    R_wb = torch.eye(3, dtype=T_wb.dtype).repeat(*T_wb.shape[:-2], 1, 1)
    R_wb[..., :2, :2] = T_wb[..., :2, :2]
    T_wc[..., :3, :3] = R_wb @ R_bc
    T_wc[..., :2, 3], T_wc[..., 2, 3] = T_wb[..., :2, 2], HEIGHT
    return T_wc


def events(steps: int, share: float, longest: int, random: np.random.Generator) -> np.ndarray:
    """Where (steps,) something goes on that takes that share of the time, up to `longest` steps at once."""
    going = np.zeros(steps, dtype=bool)
    while going.mean() < share:
        start = random.integers(steps)
        going[start : start + random.integers(3, longest + 1)] = True
    return going


def record(seed: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """One drive: images (steps, 3, H, W), poses T_wb (steps, 3, 3) and velocities (steps, 2).

    An eighth of the time somebody crosses in front of the camera, a fifteenth of the time the light is out but for a
    thirtieth; exposure drifts, and every image has grain.
    """
    room, half = random_hall(seed)
    T_wb, velocity = drive(half, steps, seed)
    random, generator = np.random.default_rng(seed + 1000), torch.Generator().manual_seed(seed)
    passing, dark = events(steps, 0.12, 10, random), events(steps, 0.07, 8, random)
    T_wc = camera_poses(T_wb).float()
    K = torch.tensor([[FOCAL, 0, (SIZE[1] - 1) / 2], [0, FOCAL, (SIZE[0] - 1) / 2], [0, 0, 1.0]])
    images, clothes = [], texture.clouds((0.4, 0.3, 0.3), 0.5, 0.3, 4, seed)
    side, speed, away = 0.0, 0.0, 1.5
    for t in range(steps):
        if passing[t] and not (t and passing[t - 1]):
            side, speed, away = random.uniform(-1, 1), random.choice((-1, 1)) * random.uniform(0.6, 1.4), 1.0
            away = random.uniform(0.8, 1.6)
        side += speed * DT
        shown = room
        if passing[t]:
            p = T_wc[t, :3, :3].double() @ torch.tensor([side, 0.0, away], dtype=torch.float64) + T_wc[t, :3, 3]
            somebody = place(Ellipsoid((0.3, 0.3, 0.9)), (float(p[0]), float(p[1]), 0.9), clothes)
            shown = replace(room, solids=[*room.solids, somebody])
        images.append(render(shown, T_wc[t], K, SIZE, antialias=False).color)
    drift = 0.02 * torch.randn(steps, generator=generator).cumsum(0)
    light = (1 + 0.3 * torch.tanh(drift)) * torch.where(torch.from_numpy(dark), 1 / 30, 1.0)
    colors = torch.stack(images) * light[:, None, None, None]
    colors = (colors + 0.02 * torch.randn(colors.shape, generator=generator)).clamp(0, 1)
    return colors.permute(0, 3, 1, 2), T_wb, velocity


def mirrored(images: Tensor, T_wb: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same drive seen in a mirror: left is right."""
    flip = torch.diag(T_wb.new_tensor([1.0, -1.0, 1.0]))
    return images.flip(-1), flip @ T_wb @ flip, velocity * velocity.new_tensor([1.0, -1.0])


def pairs(
    images: Tensor,  # (T, 3, H, W)
) -> Tensor:
    """Each image but the first with the one before it in front, (T - 1, 6, H, W)."""
    return torch.cat([images[:-1], images[1:]], 1) - 0.5
