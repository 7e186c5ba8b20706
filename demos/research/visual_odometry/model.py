"""Velocity network, learned noise, SE(2) smoother, extended Kalman filter and LSTM of the robot."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.geometry import se2
from gradslam_ng.graph.residuals import Residual

DT = 0.2  # seconds a step
FEATURES = 48
REACH = (1, 3)  # rows and columns at a quarter of the resolution
UNITS = (0.3, 0.4)  # m/s and rad/s: what velocities are counted in


def advance(
    T: Tensor,  # (..., 3, 3)
    velocity: Tensor,  # (..., 2)
    slip: Tensor | float = 0.0,  # (..., 3)
) -> Tensor:
    """One step at a forward (m/s) and an angular velocity (rad/s) in the body's frame, equation 10 of Yi et al."""
    return T @ se2.exp(DT * (body_twist(velocity) + slip))


def body_twist(
    velocity: Tensor,  # (..., 2)
) -> Tensor:
    """Twist (..., 3) [forward, sideways, turn] of wheels that do not slip."""
    return torch.stack([velocity[..., 0], torch.zeros_like(velocity[..., 0]), velocity[..., 1]], -1)


def integrate(
    velocity: Tensor,  # (B, T, 2)
) -> Tensor:
    """Poses (B, T, 3, 3) of a drive that begins at the identity, at velocities of which the last leads beyond it."""
    T = [torch.eye(3, dtype=velocity.dtype).expand(len(velocity), 3, 3)]
    for v in velocity[:, :-1].unbind(1):
        T.append(advance(T[-1], v))
    return torch.stack(T, 1)


class VelocityNetwork(nn.Module):
    """Pairs of images (N, 6, H, W), the one before first, to features (N, FEATURES) and velocities (N, 2).

    Both images are encoded alike and compared at all shifts of up to `REACH` (Dosovitskiy et al. 2015, "FlowNetC").
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(3, 16, 5, 2, 2), nn.InstanceNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1)
        )
        shifts = (2 * REACH[0] + 1) * (2 * REACH[1] + 1)
        self.compare = nn.Sequential(
            nn.Conv2d(shifts + 24, 48, 3, 1, 1), nn.ReLU(), nn.Conv2d(48, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * (size[0] // 8) * (size[1] // 8), FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.velocity = nn.Linear(FEATURES, 2)
        self.register_buffer("units", torch.tensor(UNITS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        before, now = (nn.functional.normalize(self.encode(x), dim=1) for x in images.split(3, 1))
        rows, columns = now.shape[-2:]
        padded = nn.functional.pad(before, (REACH[1], REACH[1], REACH[0], REACH[0]))
        likeness = [
            (now * padded[..., i : i + rows, j : j + columns]).sum(1)
            for i in range(2 * REACH[0] + 1)
            for j in range(2 * REACH[1] + 1)
        ]
        features = self.compare(torch.cat([torch.stack(likeness, 1), now], 1))
        return features, self.units * self.velocity(features)


class Noise(nn.Module):
    """Standard deviations of the law of motion, pose (3) and velocity (2), and of seen velocities (B, T, 2).

    The velocities themselves are read from the features once more, so that what is learned can mend their bias.
    """

    def __init__(self, depends_on_input: bool) -> None:
        super().__init__()
        self.pose = nn.Parameter(torch.tensor([0.01, 0.01, 0.01]).log())
        self.change = nn.Parameter(torch.tensor([0.1, 0.2]).log())
        self.sight = nn.Parameter(torch.tensor([0.1, 0.1]).log())
        self.bias = nn.Linear(FEATURES, 2)
        self.head = None
        if depends_on_input:
            self.head = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 2))
        for layer in (self.bias, self.head[-1] if self.head else self.bias):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def seen(
        self,
        features: Tensor,  # (B, T, FEATURES)
        z: Tensor,  # (B, T, 2)
    ) -> tuple[Tensor, Tensor]:
        """Velocities (B, T, 2) and their standard deviation (B, T, 2)."""
        log_sight = self.sight.expand(*features.shape[:-1], 2)
        if self.head is not None:
            log_sight = log_sight + 4 * torch.tanh(self.head(features) / 4)  # bounded, but never without a gradient
        return z + z.new_tensor(UNITS) * self.bias(features), log_sight.exp()


class LawOfMotion(Residual):
    """log(advance(T, v)^-1 T'), with Jacobians to left updates of both poses and to the velocity."""

    def __call__(self, T: Tensor, velocity: Tensor, T_next: Tensor) -> Tensor:
        return se2.log(se2.inverse(advance(T, velocity)) @ T_next)

    def linearize(self, T: Tensor, velocity: Tensor, T_next: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        r, u = self(T, velocity, T_next), DT * body_twist(velocity)
        J_next = se2.left_jacobian_inverse(-r) @ se2.adjoint(se2.inverse(T_next))
        J_velocity = -DT * se2.left_jacobian_inverse(r) @ se2.left_jacobian(-u)
        return r, (-J_next, J_velocity[..., [0, 2]], J_next)


def smoother(noise: Noise, features: Tensor, z: Tensor, start: tuple[Tensor, Tensor]) -> gs.FactorGraph:
    """Poses (B, T, 3, 3) and velocities (B, T, 2) from `start`, between seen velocities and the law of motion.

    The first pose and velocity are known, as in Yi et al.
    """
    z, sigma = noise.seen(features, z)
    k = torch.arange(z.shape[1])
    graph = gs.FactorGraph()
    graph.add_variables("pose", optim.SE2(), start[0])
    graph.add_variables("velocity", optim.Euclidean(), start[1])
    graph.fix("pose", [0])
    graph.fix("velocity", [0])

    def weight(log_sigma: Tensor) -> optim.DiagonalWeight:
        return optim.DiagonalWeight((-log_sigma).exp().expand(len(z), len(k) - 1, len(log_sigma)))

    keys = ("pose", k[:-1]), ("velocity", k[:-1]), ("pose", k[1:])
    graph.add_factor(LawOfMotion(), *keys, weight=weight(noise.pose))
    still = torch.zeros_like(z[:, 1:])
    graph.add_between("velocity", k[:-1], k[1:], still, weight=weight(noise.change))
    graph.add_prior("velocity", k[1:], z[:, 1:], weight=optim.DiagonalWeight(1 / sigma[:, 1:]))
    return graph


def with_first(
    z: Tensor,  # (B, T, 2)
    first: Tensor,  # (B, 2)
) -> Tensor:
    """Seen velocities with the known one before them."""
    return torch.cat([first[:, None], z[:, 1:]], 1)


def smoothed(noise: Noise, features: Tensor, z: Tensor, first: Tensor) -> Tensor:
    """Poses (B, T, 3, 3) of the smoother, started from what is seen."""
    velocity = with_first(noise.seen(features, z)[0], first)
    graph = smoother(noise, features, z, (integrate(velocity), velocity))
    return graph.optimize(optim.LevenbergMarquardt(), 15, tolerance=None)["pose"]


def filtered(noise: Noise, features: Tensor, z: Tensor, first: Tensor) -> Tensor:
    """Poses (B, T, 3, 3) of the extended Kalman filter, errors of poses in the body's frame."""
    z, sigma = noise.seen(features, z)
    T, velocity = torch.eye(3, dtype=z.dtype).expand(len(z), 3, 3), first
    P, poses = z.new_zeros(len(z), 5, 5), []
    Q = torch.cat([noise.pose, noise.change]).mul(2).exp().diag()
    lower = torch.cat([torch.zeros(2, 3, dtype=z.dtype), torch.eye(2, dtype=z.dtype)], -1).expand(len(z), 2, 5)
    poses.append(T)
    for t in range(1, z.shape[1]):
        u = DT * body_twist(velocity)
        to_velocity = DT * se2.left_jacobian(-u)[..., [0, 2]]
        F = torch.cat([torch.cat([se2.adjoint(se2.exp(-u)), to_velocity], -1), lower], -2)
        T, P = advance(T, velocity), F @ P @ F.mT + Q
        S = P[:, 3:, 3:] + sigma[:, t].square().diag_embed()
        gain = torch.linalg.solve(S, P[:, 3:]).mT
        change = (gain @ (z[:, t] - velocity)[..., None])[..., 0]
        T, velocity = T @ se2.exp(change[:, :3]), velocity + change[:, 3:]
        P = P - gain @ P[:, 3:]
        poses.append(T)
    return torch.stack(poses, 1)


class Recurrent(nn.Module):
    """Features and seen velocities to velocities (B, T, 2)."""

    def __init__(self, both_ways: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES + 2, 48, batch_first=True, bidirectional=both_ways)
        self.read = nn.Linear(96 if both_ways else 48, 2)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, features: Tensor, z: Tensor) -> Tensor:
        units = z.new_tensor(UNITS)
        return z + units * self.read(self.lstm(torch.cat([features, z / units], -1))[0])
