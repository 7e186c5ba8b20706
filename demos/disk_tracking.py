"""Learned noise: a smoother that knows how far to trust each image, taught through its own solution.

The visual tracking task of Yi et al. 2021 ("Differentiable Factor Graph Optimization for Learning Smoothers", section
V-A; after Haarnoja et al. 2016), made here: a red disk on a spring moves among other disks, which often cover it. A
small network says where the disk is; a factor graph joins that with the law of motion. How much either is worth is
learned: one standard deviation for all images, or one for each, by a head of the network; by the surrogate loss through
the optimiser, or by the joint likelihood of the factors, or through an extended Kalman filter. An LSTM and its
bidirectional twin see the same features and know no law of motion.

In a second scene nothing covers the disk and it stays in the picture; instead images are grainy, the camera shakes, and
a steady wind, a different one in each sequence, pushes the disk without the law of motion knowing. There the
likelihood, which takes what the law leaves out for new in every step, is wrong about it, as it is on the recordings of
a car in Yi et al.

Every method starts from the simple one: noise by input from the constant noise found by the same loss, the LSTMs from
the network alone.

A fold takes about a minute and a quarter of one core in each scene.

    python demos/disk_tracking.py --out out
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor, nn

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.graph import negative_log_likelihood

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


class LawOfMotion:
    """The residual y - motion(x), with its Jacobians."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return y - motion(x)

    def linearize(self, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return self(x, y), (-motion_jacobian(x), torch.eye(4).to(x).expand(*x.shape, 4))


class Sighting:
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


def by_surrogate(noise: Noise, x: Tensor, features: Tensor, z: Tensor, rows: Tensor) -> Tensor:
    """How far two Gauss-Newton steps lead away from the true states x (B, T, 4)."""
    return gs.surrogate_loss(smoother(noise, features[rows], z[rows]), {"state": x[rows]}, steps=2).mean()


def by_likelihood(noise: Noise, x: Tensor, features: Tensor, z: Tensor, rows: Tensor) -> Tensor:
    """How unlikely the true states are."""
    return negative_log_likelihood(smoother(noise, features[rows], z[rows]), {"state": x[rows]}).mean()


def by_filter(noise: Noise, x: Tensor, features: Tensor, z: Tensor, rows: Tensor) -> Tensor:
    """How far off the Kalman filter is."""
    return (kalman(noise, features[rows], z[rows]) - x[rows]).square().mean()


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


def train(parameters, loss, epochs: int, rate: float, count: int, batch: int = 30, seed: int = 0) -> None:
    """Adam on loss(rows) over shuffled batches of rows, the rate falling to nothing."""
    parameters = list(parameters)
    generator, optimizer = torch.Generator().manual_seed(seed), torch.optim.Adam(parameters, rate)
    steps = epochs * -(-count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    for _ in range(epochs):
        for rows in torch.randperm(count, generator=generator).split(batch):
            optimizer.zero_grad()
            loss(rows).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 10.0)
            optimizer.step()
            schedule.step()


def fold(truth: Tensor, images: Tensor, test: Tensor, epochs: int, seed: int) -> tuple[dict[str, float], dict]:
    """Position errors (RMS, pixels) of every method on the test rows, taught on the others; and what to draw."""
    torch.manual_seed(seed)
    x, seen = truth[~test], images[~test]
    eye = Eye()
    train(
        eye.parameters(), lambda rows: (eye(seen[rows])[1] - x[rows, :, :2]).square().mean(), epochs, 1e-2, len(x), 10
    )
    with torch.no_grad():
        features, z = (t.double() for t in eye(seen))  # in float32 the solver's floor would count as knowledge
        test_features, test_z = (t.double() for t in eye(images[test]))
    middle, scale = features.mean((0, 1)), features.std((0, 1))  # of tens they would saturate whatever reads them
    features, test_features = (features - middle) / scale, (test_features - middle) / scale
    x, position = x.double(), {"network alone": test_z}

    sigmas = {}
    for name, how in (("smoother, {}", by_surrogate), ("smoother, {}, likelihood", by_likelihood),
                      ("Kalman filter, {}", by_filter)):  # fmt: skip
        constant, by_input = Noise(False).double(), Noise(True).double()
        for kind, noise, rate in (("constant noise", constant, 0.1), ("noise by input", by_input, 0.02)):
            noise.load_state_dict(constant.state_dict(), strict=False)
            train(noise.parameters(), lambda rows, n=noise, f=how: f(n, x, features, z, rows), 2 * epochs, rate, len(x),
                  40)  # fmt: skip
            with torch.no_grad():
                found = (kalman if how is by_filter else positions)(noise, test_features, test_z)
                position[name.format(kind)], sigmas[name.format(kind)] = found[..., :2], noise(test_features)[1]
    for name, both in (("LSTM", False), ("LSTM both ways", True)):
        network = Recurrent(both).double()
        train(network.parameters(), lambda rows, n=network: (n(features[rows], z[rows]) - x[rows]).square().mean(),
              5 * epochs, 1e-2, len(x))  # fmt: skip
        with torch.no_grad():
            position[name] = network(test_features, test_z)[..., :2]
    errors = {name: float((p - truth[test][..., :2]).square().sum(-1).mean().sqrt()) for name, p in position.items()}
    return errors, {"truth": truth[test], "images": images[test], "position": position, "sigma": sigmas}


def main(out: Path = Path("out"), folds: int = 10, sequences: int = 300, steps: int = 24, epochs: int = 12) -> dict:
    """Write disk_tracking.png and .json.

    Args:
        out: folder for both.
        folds: of the cross-validation.
        sequences: all together, in each scene.
        steps: in each.
        epochs: of every training.
    """
    began = time.perf_counter()
    tables, shown = {}, {}
    for scene in SCENES:
        truth, images = simulate(SCENES[scene], sequences, steps, torch.Generator().manual_seed(0))
        errors = []
        for k in range(folds):
            found, example = fold(truth, images, torch.arange(sequences) % folds == k, epochs, seed=k)
            errors.append(found)
            shown.setdefault(scene, example)
            print(f"{scene}, fold {k}:", found, flush=True)
        tables[scene] = table(errors)
    numbers = {"position error, pixels": tables, "folds": folds, "seconds": time.perf_counter() - began}
    out.mkdir(parents=True, exist_ok=True)
    (out / "disk_tracking.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "disk_tracking.png", tables, shown["in a crowd"])
    print(json.dumps(numbers, indent=2))
    return numbers


def table(errors: list[dict[str, float]]) -> dict[str, dict]:
    """Of each method its error over folds, and by how much more it is than that of the first smoother, fold by fold."""
    best = "smoother, noise by input"
    return {
        name: {**over_folds([e[name] for e in errors]), "more than the first": over_folds(
            [e[name] - e[best] for e in errors])}
        for name in errors[0]
    }  # fmt: skip


def over_folds(values: list[float]) -> dict[str, float | None]:
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "standard error": error}


def draw(path: Path, tables: dict, shown: dict) -> None:
    """Images with the disk found in them, one sequence's positions with their noise, and all methods' errors."""
    sigma = shown["sigma"]["smoother, noise by input"].mean(-1)
    row = int(sigma.amax(-1).argsort()[len(sigma) // 2])
    truth = shown["truth"][row]
    positions = {name: p[row].numpy() for name, p in shown["position"].items()}
    figure = Figure(figsize=(13, 6.4), dpi=90, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.9))
    frames = np.linspace(0, len(truth) - 1, 8).astype(int)
    for axes, t in zip(above.subplots(1, 8), frames, strict=True):
        axes.imshow(shown["images"][row, t].permute(1, 2, 0).clamp(0, 1).numpy())
        middle = (SIDE - 1) / 2
        for name, mark, color in (("network alone", "x", "white"), ("smoother, noise by input", "+", "yellow")):
            axes.plot(*(positions[name][t] + middle), mark, color=color, ms=9, mew=1.8)
        spread = f"{float(sigma[row, t]):.1f}" if sigma[row, t] < 50 else "> 50"
        axes.set(xticks=[], yticks=[], xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5))
        axes.set_title(f"t = {t}\nsigma {spread}", fontsize=10)
    left, *right = below.subplots(1, 3, width_ratios=(1.2, 1, 1))
    k = np.arange(len(truth))
    left.plot(k, truth[:, 0], color="0.2", lw=2, label="truth")
    left.plot(k, positions["network alone"][:, 0], "x", color="#999999", label="network alone")
    for name, color in (("smoother, constant noise", "#2166ac"), ("smoother, noise by input", "#b2182b")):
        left.plot(k, positions[name][:, 0], color=color, lw=1.3, label=name)
    spread = shown["sigma"]["smoother, noise by input"][row, :, 0].numpy()
    seen = positions["network alone"][:, 0]
    left.fill_between(
        k, seen - spread, seen + spread, color="#b2182b", alpha=0.12, label="learned sigma of the network"
    )
    left.set(xlabel="step", ylabel="x [pixels]", title="above: x the network, + the smoother")
    left.set_ylim(-25, 25)
    left.legend(frameon=False, fontsize=7)
    for axes, (scene, rows) in zip(right, tables.items(), strict=True):
        names = sorted(rows, key=lambda name, rows=rows: -rows[name]["mean"])
        means, errors = ([rows[name][kind] or 0.0 for name in names] for kind in ("mean", "standard error"))
        color = ["#b2182b" if name == "smoother, noise by input" else "#92c5de" for name in names]
        axes.barh(names, means, xerr=errors, color=color)
        axes.tick_params(axis="y", labelsize=7)
        axes.set(xlabel="position error, RMS [pixels]", title=scene)
    for axes in (left, *right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
