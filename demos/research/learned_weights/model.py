"""Depth noise networks for ICP: learned per pixel, constant, and several side by side in one batch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from demos.common.rooms import facing
from gradslam_ng.preprocessing import Noise
from gradslam_ng.structures import SurfaceView


class Network(nn.Module):
    """Depth noise (B, H, W), meters, pixel by pixel from `features`; before training `start` meters everywhere."""

    def __init__(self, start: float = 0.02, channels: int = 16) -> None:
        super().__init__()
        self.start = start
        self.layers = nn.Sequential(nn.Linear(4, channels), nn.Tanh(), nn.Linear(channels, channels), nn.Tanh())
        self.last = nn.Linear(channels + 4, 1)  # a power law, and what the layers add to it
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, surface: SurfaceView, color: Tensor) -> Tensor:
        return self.of(features(surface))

    def of(self, features: Tensor) -> Tensor:
        logarithm = self.last(torch.cat([self.layers(features), features], dim=-1))[..., 0]
        return self.start * torch.exp(3.0 * torch.tanh(logarithm))


class Constant:
    """The same depth noise for every pixel, meters."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, surface: SurfaceView, color: Tensor) -> Tensor:
        return torch.full_like(surface.vertices[..., 2], self.value)


@torch.no_grad()
def features(surface: SurfaceView) -> Tensor:
    """What the network sees of a pixel (B, H, W, 4), each of the order of 1: range, slant, and within 5 x 5 pixels how
    far the normals differ and how many there are."""
    seen = (surface.weights > 0).to(surface.weights)
    around = torch.cat([surface.normals.movedim(-1, 1), seen[:, None]], dim=1)
    *mean, share = nn.functional.avg_pool2d(around, 5, stride=1, padding=2).unbind(1)
    spread = 1 - torch.stack(mean).norm(dim=0) / share.clamp(min=0.04)
    z = surface.vertices[..., 2:]
    cosine = facing(z, surface.normals, surface.K)[..., 0].clamp(0.05, 1.0)
    logs = (2 * z[..., 0].clamp(0.3, 5.0).log() - 1.6, 2 * cosine.log() + 0.5, 0.5 * (spread + 1e-3).log() + 2)
    return torch.stack([*logs, share], dim=-1)


def side_by_side(models: Iterable[Noise]) -> Noise:
    """One noise model for each element of the batch, so that all of them can be judged in one run."""

    def noise(surface: SurfaceView, color: Tensor) -> Tensor:
        parts = (surface.map(lambda image, b=b: image[b : b + 1]) for b in range(len(color)))
        each = zip(models, parts, color.split(1), strict=True)
        return torch.cat([model(part, image) for model, part, image in each])

    return noise
