"""Simulation of a red disk on a spring among other disks, and its images (after Haarnoja et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SIDE, RADIUS = 32, 2.5  # of the picture and of the red disk, pixels
STEP, SPRING, DRAG = 0.2, 0.5, 0.02
FEATURES = 17


@dataclass(frozen=True)
class Scene:
    others: int  # disks on top of the red one
    spread: float  # of where disks are and how fast, about 7 pixels times this
    force: float  # on each in every step, standard deviation, pixels a step: what the law of motion leaves out
    wind: float  # the same through a sequence, left out too
    grain: float  # of the images, standard deviation
    shake: float  # of the camera, new in each image, standard deviation, pixels
    stays: bool  # sequences in which the red disk leaves the picture are drawn again


SCENES = {
    "in a crowd": Scene(others=9, spread=1.0, force=0.35, wind=0.0, grain=0.03, shake=0.0, stays=False),
    "in the wind": Scene(others=0, spread=0.55, force=0.1, wind=0.3, grain=0.8, shake=1.0, stays=True),
}


def motion(x: Tensor) -> Tensor:
    """One step of a disk on a spring with quadratic drag: state [x, y, vx, vy] (..., 4), pixels from the middle."""
    p, v = x[..., :2], x[..., 2:]
    return torch.cat([p + STEP * v, v - STEP * (SPRING * p + DRAG * v * v.abs())], dim=-1)


def motion_jacobian(x: Tensor) -> Tensor:
    """Of one step, (..., 4, 4)."""
    eye, drag = torch.eye(2).to(x).expand(*x.shape[:-1], 2, 2), (2 * DRAG * x[..., 2:].abs()).diag_embed()
    return torch.cat([torch.cat([eye, STEP * eye], -1), torch.cat([-STEP * SPRING * eye, eye - STEP * drag], -1)], -2)


def simulate(scene: Scene, count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """States (count, steps, 4) and images (count, steps, 3, SIDE, SIDE): the red disk below, others on top."""

    def walk(n: int) -> Tensor:
        x = scene.spread * torch.randn(n, 4, generator=generator) * torch.tensor([7.0, 7.0, 5.0, 5.0])
        push = torch.tensor([0.0, 0.0, scene.wind, scene.wind]) * torch.randn(n, 4, generator=generator)
        force = torch.tensor([0.02, 0.02, scene.force, scene.force])
        states = []
        for _ in range(steps):
            states.append(x)
            x = motion(x) + push + force * torch.randn(n, 4, generator=generator)
        return torch.stack(states, 1)

    others, truth = scene.others, walk(count)
    while scene.stays and (left := truth[..., :2].abs().amax((-2, -1)) > SIDE / 2 - RADIUS).any():
        truth[left] = walk(int(left.sum()))
    clutter = walk(count * others).reshape(count, others, steps, 4)
    clutter[..., :2] += 5 * torch.randn(count, others, 1, 2, generator=generator)
    radii = 2.0 + 3.5 * torch.rand(count, others, generator=generator)
    colors = torch.rand(count, others, 3, generator=generator) * torch.tensor([0.6, 1.0, 1.0])
    shake = scene.shake * torch.randn(count, steps, 2, generator=generator)
    grid = torch.arange(SIDE) - (SIDE - 1) / 2
    v, u = torch.meshgrid(grid, grid, indexing="ij")
    images = torch.zeros(count, steps, 3, SIDE, SIDE)

    def paint(center: Tensor, radius: Tensor, color: Tensor) -> None:
        center = center[..., :2] + shake
        distance = torch.hypot(u - center[..., 0, None, None], v - center[..., 1, None, None])
        cover = (radius[:, None, None, None] + 0.5 - distance).clamp(0, 1)[:, :, None]
        images.lerp_(color[:, None, :, None, None].expand_as(images), cover.expand_as(images))

    paint(truth, torch.full((count,), RADIUS), torch.tensor([1.0, 0.1, 0.1]).expand(count, 3))
    for k in range(others):
        paint(clutter[:, k], radii[:, k], colors[:, k])
    return truth, images + scene.grain * torch.randn(images.shape, generator=generator)
