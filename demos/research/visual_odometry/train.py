"""Training of the estimators on nine drives, their errors on the tenth, and the table over all folds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import gradslam_ng as gs
from demos.research.visual_odometry.model import (
    UNITS,
    Noise,
    Recurrent,
    VelocityNetwork,
    filtered,
    integrate,
    smoothed,
    smoother,
    with_first,
)
from demos.research.visual_odometry.scene import SIZE, mirrored, pairs
from gradslam_ng.geometry import se2
from gradslam_ng.graph import negative_log_likelihood

TAUGHT, LENGTHS = 20, (20, 100)  # steps of the sequences taught and of those tested, as in Yi et al.

Drive = tuple[Tensor, Tensor, Tensor]  # images (T, 3, H, W), T_wb (T, 3, 3), velocities (T, 2)


@dataclass(frozen=True)
class Clips:
    """Stretches of drives as an estimator sees them: each begins at the identity with a known velocity."""

    features: Tensor  # (B, T, FEATURES)
    z: Tensor  # (B, T, 2) seen velocities
    T: Tensor  # (B, T, 3, 3) true poses
    velocity: Tensor  # (B, T, 2) true

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: Tensor) -> Clips:
        return Clips(self.features[rows], self.z[rows], self.T[rows], self.velocity[rows])


def cut(features: Tensor, z: Tensor, T: Tensor, velocity: Tensor, length: int) -> Clips:
    """One drive in stretches of that length, without overlap."""
    count = len(z) // length

    def parts(x: Tensor) -> Tensor:
        return x[: count * length].unflatten(0, (count, length))

    T = parts(T)
    return Clips(parts(features), parts(z), se2.inverse(T[:, :1]) @ T, parts(velocity))


def join(clips: list[Clips]) -> Clips:
    fields = ("features", "z", "T", "velocity")
    return Clips(*(torch.cat([getattr(clip, name) for clip in clips]) for name in fields))


def surrogate_of_pose(noise: Noise, clips: Clips) -> Tensor:
    """How far two Gauss-Newton steps lead away from the true poses."""
    graph = smoother(noise, clips.features, clips.z, (clips.T, clips.velocity))
    return 100 * gs.surrogate_loss(graph, {"pose": clips.T}, steps=2).mean()


def surrogate_of_velocity(noise: Noise, clips: Clips) -> Tensor:
    """How far two Gauss-Newton steps lead away from the true velocities."""
    graph = smoother(noise, clips.features, clips.z, (clips.T, clips.velocity))
    return 100 * gs.surrogate_loss(graph, {"velocity": clips.velocity}, steps=2).mean()


def joint_likelihood(noise: Noise, clips: Clips) -> Tensor:
    """How unlikely the true drives are."""
    graph = smoother(noise, clips.features, clips.z, (clips.T, clips.velocity))
    return negative_log_likelihood(graph, {"pose": clips.T, "velocity": clips.velocity}).mean()


def filter_error(noise: Noise, clips: Clips) -> Tensor:
    """How far off the Kalman filter is."""
    T = filtered(noise, clips.features, clips.z, clips.velocity[:, 0])
    return 100 * se2.log(clips.T @ se2.inverse(T)).square().mean()


def recurrent_error(network: Recurrent, clips: Clips) -> Tensor:
    """Of the velocities in their units, and of the poses they lead to."""
    velocity = with_first(network(clips.features, clips.z), clips.velocity[:, 0])
    off = (velocity - clips.velocity) / velocity.new_tensor(UNITS)
    return off.square().mean() + 10 * se2.log(clips.T @ se2.inverse(integrate(velocity))).square().mean()


def train(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    epochs: int,
    rate: float,
    count: int,
    batch: int,
    seed: int = 0,
) -> None:
    """Adam on loss(rows) over shuffled batches of rows, the rate rising and falling to nothing."""
    parameters = list(parameters)
    generator, optimizer = torch.Generator().manual_seed(seed), torch.optim.Adam(parameters, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * -(-count // batch))
    for _ in range(epochs):
        for rows in torch.randperm(count, generator=generator).split(batch):
            optimizer.zero_grad()
            loss(rows).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 10.0)
            optimizer.step()
            schedule.step()


def learn_velocity(drives: list[Drive], epochs: int) -> VelocityNetwork:
    """The network, taught velocities on the drives and on their mirror images."""
    images = torch.cat([pairs(drive[0]) for drive in drives])
    velocity = torch.cat([drive[2][1:] for drive in drives]).float()
    network = VelocityNetwork(SIZE)

    def loss(rows: Tensor) -> Tensor:
        half = len(rows) // 2
        seen = torch.cat([images[rows[:half]], images[rows[half:]].flip(-1)])
        true = torch.cat([velocity[rows[:half]], velocity[rows[half:]] * torch.tensor([1.0, -1.0])])
        off = (network(seen)[1] - true) / network.units
        return nn.functional.huber_loss(off, torch.zeros_like(off))

    train(network.parameters(), loss, epochs, 3e-3, len(images), 64)
    return network


@torch.no_grad()
def see(network: VelocityNetwork, drive: Drive) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the network makes of a drive: features, velocities; with the true poses and velocities, all float64."""
    images, T, velocity = drive
    features, z = (torch.cat(x).double() for x in zip(*map(network, pairs(images).split(256)), strict=True))
    return features, z, T[1:], velocity[1:]


def errors_of(T: Tensor, clips: Clips) -> tuple[float, float]:
    """Of the last poses, over the distance driven: meters a meter and degrees a meter, all clips together.

    The robot also turns on the spot, so that a mean of the clips' own quotients would be that of the shortest.
    """
    driven = (clips.T[:, 1:, :2, 2] - clips.T[:, :-1, :2, 2]).norm(dim=-1).sum()
    off = se2.inverse(clips.T[:, -1]) @ T[:, -1]
    return (
        float(off[:, :2, 2].norm(dim=-1).sum() / driven),
        float(torch.rad2deg(se2.heading(off)).abs().sum() / driven),
    )


METHODS = {
    "smoother, surrogate loss of the pose": (surrogate_of_pose, smoothed),
    "smoother, surrogate loss of the velocity": (surrogate_of_velocity, smoothed),
    "smoother, joint likelihood": (joint_likelihood, smoothed),
    "extended Kalman filter": (filter_error, filtered),
}


def fold(drives: list[Drive], held_out: int, epochs: int) -> tuple[dict[str, dict[int, tuple]], dict]:
    """Errors of every method on the drive held out, by length, taught on the others; and what to draw."""
    torch.manual_seed(held_out)
    taught = [drive for k, drive in enumerate(drives) if k != held_out]
    network = learn_velocity(taught, epochs)
    seen = [see(network, drive) for one in taught for drive in (one, mirrored(*one))]
    middle = torch.cat([features for features, *_ in seen]).mean(0)
    scale = torch.cat([features for features, *_ in seen]).std(0) + 1e-3

    def clips_of(drive: tuple[Tensor, ...], length: int) -> Clips:
        return cut((drive[0] - middle) / scale, *drive[1:], length)

    clips = join([clips_of(drive, TAUGHT) for drive in seen])
    tests = [see(network, drive) for drive in (drives[held_out], mirrored(*drives[held_out]))]
    test = {length: join([clips_of(drive, length) for drive in tests]) for length in LENGTHS}
    estimates = {"network alone": lambda c: integrate(with_first(c.z, c.velocity[:, 0]))}
    noises = {}
    for name, (loss, estimate) in METHODS.items():
        constant, by_input = Noise(False).double(), Noise(True).double()
        for kind, noise in (("constant noise", constant), ("noise by input", by_input)):
            noise.load_state_dict(constant.state_dict(), strict=False)
            train(
                noise.parameters(),
                lambda rows, n=noise, f=loss: f(n, clips[rows]),
                2 * epochs // 3,
                0.03,
                len(clips),
                20,
            )
            label = f"{name}, {kind}"
            noises[label] = noise
            estimates[label] = lambda c, n=noise, f=estimate: f(n, c.features, c.z, c.velocity[:, 0])
    for name, both in (("LSTM", False), ("LSTM both ways", True)):
        lstm = Recurrent(both).double()
        train(lstm.parameters(), lambda rows, n=lstm: recurrent_error(n, clips[rows]), 2 * epochs, 1e-2, len(clips), 40)
        estimates[name] = lambda c, n=lstm: integrate(with_first(n(c.features, c.z), c.velocity[:, 0]))
    with torch.no_grad():
        poses = {name: {length: f(test[length]) for length in LENGTHS} for name, f in estimates.items()}
        found = {name: {n: errors_of(T, test[n]) for n, T in by_length.items()} for name, by_length in poses.items()}
        longest = test[LENGTHS[-1]]
        sigma = noises["smoother, surrogate loss of the pose, noise by input"].seen(longest.features, longest.z)[1]
    shown = {
        "clips": longest,
        "sigma": sigma,
        "images": drives[held_out][0],
        "poses": {name: by_length[LENGTHS[-1]] for name, by_length in poses.items()},
    }
    return found, shown


def table(folds: list[dict]) -> dict[str, dict]:
    """Of each method and length: mean and standard error over folds of both errors."""
    return {
        name: {
            f"{length} steps": {
                what: over_folds([fold[name][length][k] for fold in folds]) for k, what in enumerate(("m/m", "deg/m"))
            }
            for length in LENGTHS
        }
        for name in folds[0]
    }


def over_folds(values: list[float]) -> dict[str, float | None]:
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "standard error": error}
