"""Learned weights: a small network looks at a frame and says how far to trust each of its depths, for tracking.

It is trained end to end: frames from random rooms, with noise that grows with range and slant, are aligned by ICP under
the network's weights, and the error of the pose goes back through ICP into the network. Nobody tells it the noise.
Judged by trajectories in rooms and on recordings that it has not seen, beside a constant (the one of six with which
tracking in training rooms is best) and a model made by hand (Nguyen et al. 2012), all within PointFusion at 160 pixels
across.

    python demos/learned_weights.py --out out --real FOLDER_OF_RECORDINGS
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from recordings import DATA, ratios, recordings
from rooms import facing, random_room, sense, sigma, walk
from torch import Tensor, nn

import gradslam_ng as gs
from gradslam_ng.datasets.synthetic.render import View
from gradslam_ng.datasets.synthetic.rooms import room
from gradslam_ng.datasets.synthetic.scene import Room
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.structures import LiveFrame, SurfaceView
from gradslam_ng.structures.live import Noise, axial_noise

REAL = {"ICL office": slice(0, 100), "TUM structure": slice(0, 240, 2), "7-Scenes kitchen": slice(0, 300, 2)}
CONSTANTS = (0.003, 0.005, 0.01, 0.02, 0.04, 0.08)  # metres
UNSEEN = {
    "living room": (partial(room, "living_room"), 0),
    "living room, elsewhere": (partial(room, "living_room"), 1),
    "random room 1": (partial(random_room, 1), 0),
    "random room 2": (partial(random_room, 2), 0),
}


class Network(nn.Module):
    """Depth noise (B, H, W), metres, pixel by pixel from `features`; before training `start` metres everywhere."""

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
    """The same depth noise for every pixel, metres."""

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
        parts = zip(*(getattr(surface, field.name).split(1) for field in fields(surface)), strict=True)
        each = zip(models, parts, color.split(1), strict=True)
        return torch.cat([model(SurfaceView(*part), image) for model, part, image in each])

    return noise


@dataclass(frozen=True)
class Pairs:
    """Noisy frames of the training rooms, each D times, and the exact surface that a neighbouring view shows of them.

    At a quarter of the resolution: errors of neighbouring pixels are alike.
    """

    live: SurfaceView  # (D V, ...), V views
    features: Tensor  # (D V, H, W, 4), found at the full resolution: there the network will have to judge
    model: SurfaceView  # (V, ...), of the neighbour
    T: Tensor  # (V, 4, 4), of the frame in the neighbour's camera, exact

    def error(self, sigma: Tensor, which: Tensor, generator: torch.Generator) -> Tensor:
        """How far off (N,) ICP finds the frames `which` (N,) under that depth noise (N, H, W), from 1 cm away.

        In metres, of a point 2 m away. The robust weights are as good as off: under them more noise everywhere means
        more pairs, and the network would learn little else than to raise its level.
        """
        view = which % len(self.T)
        live, T = taken(self.live, which), self.T[view]
        start = se3.exp(0.005 * torch.randn(len(T), 6, generator=generator)) @ T
        shape = {"photometric": False, "turns": 0, "rows": 1}
        odometer = ProjectiveICP(iterations=(6,), scale=30.0, backward="implicit-gn", **shape)
        frame = LiveFrame(live, live.normals, live.weights, sigma, None)
        found = odometer(frame, taken(self.model, view), torch.eye(4).expand_as(T), start).T_wc
        xi = se3.log(found @ se3.inverse(T))
        return (xi[:, :3].square().sum(-1) + 4 * xi[:, 3:].square().sum(-1) + 1e-8).sqrt()


def taken(surface: SurfaceView, which: Tensor) -> SurfaceView:
    return SurfaceView(*(getattr(surface, field.name)[which] for field in fields(surface)))


@torch.no_grad()
def training_pairs(rooms: int, draws: int, size: tuple[int, int], first: int = 2000) -> Pairs:
    """Of three views, 0.2 s apart, in each of the random rooms from the `first` on."""
    numbers = range(first, first + rooms)
    views, T_wc, K = zip(*(walk(random_room(i), 3, 6, size, seed=i) for i in numbers), strict=True)
    color, depth, normal = (torch.cat([getattr(view, name) for view in views]) for name in ("color", "depth", "normal"))
    T_wc, K = torch.cat(T_wc), K[0].expand(len(depth), 3, 3)
    neighbour = torch.arange(3 * rooms).reshape(rooms, 3).roll(-1, dims=1).flatten()
    model = LiveFrame.of(gs.RGBDFrames(color, depth, K)).surface.halved().halved()
    generator = torch.Generator().manual_seed(0)
    frames = [LiveFrame.of(gs.RGBDFrames(color, sense(depth, normal, K[0], generator), K)) for _ in range(draws)]
    live = [frame.surface.halved().halved() for frame in frames]
    live = SurfaceView(*(torch.cat([getattr(part, field.name) for part in live]) for field in fields(SurfaceView)))
    seen = torch.cat([features(frame.surface)[:, 3::4, 3::4] for frame in frames])
    return Pairs(live, seen, taken(model, neighbour), se3.inverse(T_wc[neighbour]) @ T_wc)


def train(network: Network, pairs: Pairs, steps: int, rate: float, seed: int, batch: int = 64) -> Network:
    """Fit the network by the error of the poses that ICP finds with it, each relative to what a constant leaves on the
    same pair of views: some hardly fix the pose at all."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        sigma = torch.full_like(pairs.features[..., 0], network.start)
        usual = pairs.error(sigma, torch.arange(len(sigma)), generator).reshape(-1, len(pairs.T)).mean(0)
    descent = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    for _ in range(steps):
        which = torch.randint(len(pairs.features), (batch,), generator=generator)
        error = pairs.error(network.of(pairs.features[which]), which, generator)
        descent.zero_grad()
        (error / usual[which % len(pairs.T)]).mean().backward()
        descent.step()
        schedule.step()
    return network


def best_constant(rooms: int, frames: int, size: tuple[int, int]) -> float:
    """Of `CONSTANTS` the one with which PointFusion does best, in the mean, in as many training rooms, metres."""
    models = {value: Constant(value) for value in CONSTANTS}
    errors = [judge(models, *clip(random_room(2000 + i), 0, frames, size)) for i in range(rooms)]
    return min(CONSTANTS, key=lambda value: sum(math.log(error[value]) for error in errors))


@torch.no_grad()
def judge(models: dict[str, Noise], frames: Iterable[gs.RGBDFrames], truth: gs.Trajectory) -> dict[str, float]:
    """Absolute trajectory error, RMSE in cm, of PointFusion at 160 pixels across with each noise model."""
    slam = gs.PointFusion(ProjectiveICP(photometric=False), noise=side_by_side(list(models.values())))
    state, times, poses = None, [], []
    for frame in frames:
        slam.factor = max(1, frame.size[1] // 160)
        state = slam.step(state, frame.map(lambda value: value.expand(len(models), *value.shape)))
        times.append(float(frame.timestamps))
        poses.append(state.T_wc.double())
    times = torch.tensor(times, dtype=torch.float64)
    found = zip(models, torch.stack(poses, dim=1), strict=True)
    return {name: 100 * gs.evaluation.ate(truth, gs.Trajectory(times, T_wc)).rmse for name, T_wc in found}


def clip(place: Room, seed: int, frames: int, size: tuple[int, int]) -> tuple[gs.RGBDFrames, gs.Trajectory]:
    """A walk through a room as the noisy sensor sees it, 15 frames a second, and the exact trajectory."""
    view, T_wc, K = walk(place, frames, 2, size, seed)
    depth = sense(view.depth, view.normal, K, torch.Generator().manual_seed(seed))
    times = torch.arange(frames, dtype=torch.float64) / 15
    return gs.RGBDFrames(view.color, depth, K, timestamps=times), gs.Trajectory(times, T_wc.double())


def main(
    out: Path = Path("out"),
    real: Path = DATA,
    size: tuple[int, int] = (120, 160),
    rooms: int = 40,
    steps: int = 150,
    seeds: int = 1,
    frames: int = 40,
) -> dict:
    """Write learned_weights.png and .json: each ATE, cm, and for each kind of place the mean over a constant's.

    Args:
        out: folder for both.
        real: folder of recordings (see REAL); those that are not there are left out.
        size: image height and width.
        rooms: to train in.
        steps: of training.
        seeds: networks trained, each from its own start, on its own pairs and noise.
        frames: of each test in a room not seen in training.
    """
    pairs = training_pairs(rooms, 4, size)
    constant = best_constant(min(rooms, 3), max(frames // 2, 3), size)
    models = {"constant": Constant(constant), "made by hand": axial_noise}
    for seed in range(seeds):
        torch.manual_seed(seed)
        models[f"learned {seed}"] = train(Network(constant), pairs, steps, 0.02, seed)
        print(f"seed {seed}: range^p, cosine^-q:", exponents(models[f"learned {seed}"], size), flush=True)
    learned = [name for name in models if name.startswith("learned")]

    tables = {"unseen rooms": {}, "recordings": {}}
    for name, (place, seed) in UNSEEN.items():
        tables["unseen rooms"][name] = judge(models, *clip(place(), seed, frames, size))
        print(name, tables["unseen rooms"][name], flush=True)
    for name, sequence in recordings(real, REAL):
        views = (sequence[i] for i in range(len(sequence)))
        tables["recordings"][name] = judge(models, views, sequence.ground_truth)
        print(name, tables["recordings"][name], flush=True)
    numbers = {
        "constant, m": constant,
        "ATE, cm": tables,
        "mean ratio to constant": {k: ratios(v, to="constant") for k, v in tables.items() if v},
        "grows with range^p / cosine^q": {name: exponents(models[name], size) for name in learned},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "learned_weights.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "learned_weights.png", models["learned 0"], tables, size)
    print(json.dumps(numbers, indent=2))
    return numbers


def models_of(rows: dict[str, dict[str, float]]) -> list[str]:
    return list(next(iter(rows.values())))


@torch.no_grad()
def exponents(network: Network, size: tuple[int, int]) -> tuple[float, float]:
    """Of range and of one over the cosine to the normal, fitted to what the network says of an unseen view.

    Of the noise put in, across the surface as point-to-plane ICP meets it, they are 2 and 1.
    """
    _, _, found = unseen_view(network, size)
    seen = found.surface.weights > 0
    z, normals = found.surface.vertices[..., 2:], found.surface.normals
    cosine = facing(z, normals, found.surface.K)[seen][:, 0].clamp(min=0.05)
    z = z[seen][:, 0]
    terms = torch.stack([z.log(), -cosine.log(), torch.ones_like(z)], dim=-1)
    p, q, _ = torch.linalg.lstsq(terms, found.sigma[seen].log()[:, None]).solution[:, 0].tolist()
    return p, q


def unseen_view(network: Network, size: tuple[int, int]) -> tuple[View, Tensor, LiveFrame]:
    """Of the living room: the exact view, the noise across the surface (1, H, W), metres, and what the network says."""
    view, _, K = walk(room("living_room"), 1, 1, size, seed=3)
    measured = sense(view.depth, view.normal, K, torch.Generator().manual_seed(0))
    across = sigma(view.depth, view.normal, K) * facing(view.depth, view.normal, K)
    truth = torch.where(measured > 0, across, torch.nan)[..., 0]
    return view, truth, LiveFrame.of(gs.RGBDFrames(view.color, measured, K[None]), noise=network)


@torch.no_grad()
def draw(path: Path, network: Network, tables: dict, size: tuple[int, int]) -> None:
    """What the network says of a view that it has not seen, beside the noise put there; and the errors."""
    view, truth, found = unseen_view(network, size)
    truth, learned = truth[0], torch.where(found.surface.weights > 0, found.sigma, torch.nan)[0]
    learned = learned * (truth.nanmedian() / learned.nanmedian())  # a common factor changes hardly anything
    figure = Figure(figsize=(13, 7), dpi=120, layout="constrained")
    axes = figure.subplot_mosaic([["view", "truth", "learned"], ["unseen rooms", "unseen rooms", "recordings"]])
    axes["view"].imshow(view.color[0].numpy())
    for name, image in (("truth", truth), ("learned", learned)):
        shown = axes[name].imshow(1e3 * image.numpy(), cmap="magma", vmin=0, vmax=30)
    figure.colorbar(shown, ax=axes["learned"], label="depth noise, mm")
    titles = {
        "view": "an unseen view",
        "truth": "its noise, across the surface",
        "learned": "what the network says, scaled",
    }
    for name, title in titles.items():
        axes[name].set(title=title, xticks=[], yticks=[])
    for name, rows in tables.items():
        for i, model in enumerate(models_of(rows) if rows else ()):
            places = np.arange(len(rows)) + 0.8 * i / len(models_of(rows))
            color = {"constant": "0.6", "made by hand": "0.3"}.get(model, "tab:orange")
            width = 0.75 / len(models_of(rows))
            axes[name].bar(places, [row[model] for row in rows.values()], width, color=color, label=model)
        axes[name].set(title=name, xticks=np.arange(len(rows)) + 0.3, xticklabels=list(rows), ylabel="ATE, cm")
    axes["unseen rooms"].legend()
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
