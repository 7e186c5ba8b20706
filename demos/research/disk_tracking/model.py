"""Convolutional position network, learned noise, factor-graph smoother, extended Kalman filter and LSTM of the disk."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import gradslam_ng as gs
from demos.research.disk_tracking.scene import FEATURES, SIDE, motion, motion_jacobian
from gradslam_ng import optim
from gradslam_ng.graph.residuals import Residual


class Eye(nn.Module):
    """Images to a heat map, and from its mean to a position (pixels); with features of how it came about."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(3, 12, 5, 2, 2), nn.ReLU(), nn.Conv2d(12, 12, 3, 1, 1), nn.ReLU(), nn.Conv2d(12, 12, 3, 1, 1)
        )
        self.heat = nn.Conv2d(12, 1, 1)
        middle = (torch.arange(0, SIDE, 2) - (SIDE - 1) / 2).expand(SIDE // 2, SIDE // 2)
        self.register_buffer("places", torch.stack([middle, middle.T], -1).flatten(0, 1))  # (P, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.see(images.flatten(0, 1))
        logits = self.heat(maps.relu()).flatten(1)
        share = logits.softmax(-1)
        z = share @ self.places
        spread = (share @ self.places.square() - z.square()).clamp(min=1e-6).sqrt()
        features = torch.cat([maps.amax((-2, -1)), logits.amax(-1, keepdim=True), spread, z / 10], -1)
        return features.unflatten(0, images.shape[:2]), z.unflatten(0, images.shape[:2])


def from_nothing(layer: nn.Linear) -> nn.Linear:
    """A last layer that says zero until it is taught."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Noise(nn.Module):
    """Standard deviations of the law of motion (4) and of where the disk is seen (..., T, 2), for each image or not."""

    def __init__(self, depends_on_input: bool) -> None:
        super().__init__()
        self.motion = nn.Parameter(torch.tensor([-2.0, -2.0, 0.0, 0.0]))
        self.sight = nn.Parameter(torch.full((2,), 1.0))
        self.head = None
        if depends_on_input:
            self.head = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), from_nothing(nn.Linear(32, 2)))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        log_sight = self.sight.expand(*features.shape[:-1], 2)
        if self.head is not None:
            log_sight = log_sight + 5 * torch.tanh(self.head(features) / 5)  # a hard bound would be a trap: no gradient
        return self.motion.exp(), log_sight.exp()


class LawOfMotion(Residual):
    """The residual y - motion(x), with its Jacobians."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return y - motion(x)

    def linearize(self, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return self(x, y), (-motion_jacobian(x), torch.eye(4).to(x).expand(*x.shape, 4))


class Sighting(Residual):
    """The residual of a position z (B, T, 2)."""

    def __init__(self, z: Tensor) -> None:
        self.z = z

    def __call__(self, x: Tensor) -> Tensor:
        return x[..., :2] - self.z

    def linearize(self, x: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        return self(x), (torch.eye(4)[:2].to(x).expand(*x.shape[:-1], 2, 4),)


def smoother(noise: Noise, features: Tensor, z: Tensor) -> gs.FactorGraph:
    """States (B, T, 4) between sightings z (B, T, 2) and the law of motion."""
    count, steps = z.shape[:2]
    sigma_motion, sigma_sight = noise(features)
    graph = gs.FactorGraph()
    graph.add_variables("state", optim.Euclidean(), torch.cat([z, torch.zeros_like(z)], -1).detach())
    k = torch.arange(steps)
    moves = (1 / sigma_motion).expand(count, steps - 1, 4)
    graph.add_factor(LawOfMotion(), ("state", k[:-1]), ("state", k[1:]), weight=optim.DiagonalWeight(moves))
    graph.add_factor(Sighting(z), ("state", k), weight=optim.DiagonalWeight(1 / sigma_sight))
    return graph


def positions(noise: Noise, features: Tensor, z: Tensor) -> Tensor:
    """Smoothed positions (B, T, 2)."""
    return smoother(noise, features, z).optimize(optim.GaussNewton(), 8, tolerance=None)["state"][..., :2]


def kalman(noise: Noise, features: Tensor, z: Tensor) -> Tensor:
    """The extended Kalman filter's states (B, T, 4), started at the first sighting with an unknown velocity."""
    sigma_motion, sigma_sight = noise(features)
    x = torch.cat([z[:, 0], torch.zeros_like(z[:, 0])], -1)
    P = torch.cat([sigma_sight[:, 0] ** 2, torch.full_like(z[:, 0], 49.0)], -1).diag_embed()
    Q, states = sigma_motion.square().diag(), [x]
    for t in range(1, z.shape[1]):
        F = motion_jacobian(x)
        x, P = motion(x), F @ P @ F.mT + Q
        S = P[:, :2, :2] + (sigma_sight[:, t] ** 2).diag_embed()
        gain = torch.linalg.solve(S, P[:, :2]).mT
        x = x + (gain @ (z[:, t] - x[:, :2])[..., None])[..., 0]
        P = P - gain @ P[:, :2]
        states.append(x)
    return torch.stack(states, 1)


class Recurrent(nn.Module):
    """Features to states, without any law of motion."""

    def __init__(self, both_ways: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES + 2, 48, batch_first=True, bidirectional=both_ways)
        self.read = from_nothing(nn.Linear(96 if both_ways else 48, 4))

    def forward(self, features: Tensor, z: Tensor) -> Tensor:
        change = 5 * self.read(self.lstm(torch.cat([features, z / 5], -1))[0])
        return torch.cat([z, torch.zeros_like(z)], -1) + change
