"""Learned weights: a small network looks at a frame and says how far to trust each of its depths, for tracking.

It is trained end to end: pairs of frames from random rooms, with noise that grows with range and slant, are aligned by
ICP under the network's weights, and the error of the pose goes back through ICP into the network. Nobody tells it the
noise. Judged by trajectories in rooms and on recordings that it has not seen, beside a constant (trained the same way)
and a model made by hand (Nguyen et al. 2012), all within PointFusion at 160 pixels across.

    python demos/learned_weights.py --out out --real FOLDER_OF_RECORDINGS
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from rooms import random_room, sense, sigma, walk
from torch import Tensor, nn

import gradslam_ng as gs
from gradslam_ng.datasets.synthetic.rooms import Room, room
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ICPOdometer
from gradslam_ng.structures import LiveFrame, Surface
from gradslam_ng.structures.live import Noise, axial_noise

DATA = Path(os.environ.get("GRADSLAM_NG_DATA", Path(__file__).parents[2] / "shared" / "data"))
REAL = {  # frames of each, below --real
    "ICL office": ("icl/office_room_traj3_frei_png", slice(0, 100)),
    "TUM structure": ("tum/rgbd_dataset_freiburg3_structure_notexture_far", slice(0, 240, 2)),
    "7-Scenes kitchen": ("sevenscenes_tum/redkitchen", slice(0, 300, 2)),
}
UNSEEN = {
    "living room": (partial(room, "living_room"), 0),
    "living room, elsewhere": (partial(room, "living_room"), 1),
    "random room 1": (partial(random_room, 1), 0),
    "random room 2": (partial(random_room, 2), 0),
}


class Network(nn.Module):
    """Depth noise (B, H, W), metres, from depth, slant, normals and colour; before training 5 mm everywhere."""

    def __init__(self, channels: int = 12) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(9, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, 1, 1),
        )  # fmt: skip
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, surface: Surface, color: Tensor) -> Tensor:
        z = surface.vertices[..., 2:]
        slant = -(nn.functional.normalize(surface.vertices, dim=-1) * surface.normals).sum(-1, keepdim=True)
        seen = torch.cat([z - 2.0, slant, (z > 0).to(z), surface.normals, color - 0.5], dim=-1)
        return 0.005 * torch.exp(2.5 * torch.tanh(0.5 * self.layers(seen.movedim(-1, 1))[:, 0]))


class Constant(nn.Module):
    """The same depth noise for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.tensor(0.005).log())

    def forward(self, surface: Surface, color: Tensor) -> Tensor:
        return self.logarithm.exp().expand(surface.vertices.shape[:-1])


def side_by_side(models: Iterable[Noise]) -> Noise:
    """One noise model for each element of the batch, so that all of them can be judged in one run."""

    def noise(surface: Surface, color: Tensor) -> Tensor:
        parts = zip(*(getattr(surface, field.name).split(1) for field in fields(surface)), strict=True)
        each = zip(models, parts, color.split(1), strict=True)
        return torch.cat([model(Surface(*part), image) for model, part, image in each])

    return noise


def training_rooms(count: int, size: tuple[int, int]) -> list[Tensor]:
    """Of 3 frames, 0.2 s apart, in each room: colour, exact depth, normals, T_wc (count, 3, ...); and K (3, 3)."""
    views, T_wc, K = zip(*(walk(random_room(2000 + i), 3, 6, size, seed=i) for i in range(count)), strict=True)
    images = [torch.stack([getattr(view, name) for view in views]) for name in ("color", "depth", "normal")]
    return [*images, torch.stack(T_wc), K[0]]


def train(model: nn.Module, rooms: list[Tensor], steps: int, rate: float, seed: int, batch: int = 48) -> nn.Module:
    """Fit a noise model by the poses that ICP finds with it, a batch of frame pairs with fresh noise in each step.

    At a quarter of the resolution: many pairs say more about the weights than many pixels.
    """
    color, depth, normal, T_wc, K = rooms
    slam = gs.ICPOdometry(ICPOdometer(iterations=(8, 6), backward="implicit-gn"), factor=4, noise=model)
    descent = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        which = torch.randint(len(color), (batch, 1), generator=generator)
        pair = which, torch.randint(2, (batch, 1), generator=generator) + torch.tensor([0, 1])
        measured = sense(depth[pair], normal[pair], K, generator)
        _, T = slam(gs.RGBDFrames(color[pair], measured, K.expand(batch, 3, 3)))
        truth = se3.inverse(T_wc[pair][:, 1]) @ T_wc[pair][:, 0]
        xi = se3.log(se3.inverse(T[:, 0]) @ T[:, 1] @ truth)
        error = xi[:, :3].norm(dim=-1) + 2 * xi[:, 3:].norm(dim=-1)  # metres, of a point 2 m away
        descent.zero_grad()
        (error + 0.002).log().mean().backward()  # in proportion: some views hardly fix the pose
        descent.step()
        schedule.step()
    return model


@torch.no_grad()
def judge(models: dict[str, Noise], frames: Iterable[gs.RGBDFrames], truth: gs.Trajectory) -> dict[str, float]:
    """Absolute trajectory error, RMSE in cm, of PointFusion at 160 pixels across with each noise model."""
    slam = gs.PointFusion(noise=side_by_side(list(models.values())))
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
    steps: int = 120,
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
    training = training_rooms(rooms, size)
    models = {"constant": train(Constant(), training, steps // 3, 0.05, seed=0), "made by hand": axial_noise}
    for seed in range(seeds):
        torch.manual_seed(seed)
        models[f"learned {seed}"] = train(Network(), training, steps, 0.004, seed)

    tables = {"unseen rooms": {}, "recordings": {}}
    for name, (place, seed) in UNSEEN.items():
        tables["unseen rooms"][name] = judge(models, *clip(place(), seed, frames, size))
    for name, (path, part) in REAL.items():
        if (real / path).is_dir():
            sequence = gs.datasets.load(real / path)[part]
            views = (sequence[i] for i in range(len(sequence)))
            tables["recordings"][name] = judge(models, views, sequence.ground_truth)
        else:
            print(f"{name}: left out, no {real / path}")
    numbers = {"ATE, cm": tables, "mean ratio to constant": {k: ratios(v) for k, v in tables.items() if v}}
    out.mkdir(parents=True, exist_ok=True)
    (out / "learned_weights.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "learned_weights.png", models["learned 0"], tables, size)
    print(json.dumps(numbers, indent=2))
    return numbers


def ratios(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of each model's error to the constant's, geometric mean over the rows."""
    logs = {name: np.mean([np.log(row[name] / row["constant"]) for row in rows.values()]) for name in models_of(rows)}
    return {name: float(np.exp(value)) for name, value in logs.items()}


def models_of(rows: dict[str, dict[str, float]]) -> list[str]:
    return list(next(iter(rows.values())))


@torch.no_grad()
def draw(path: Path, network: Network, tables: dict, size: tuple[int, int]) -> None:
    """What the network says of a view that it has not seen, beside the noise put there; and the errors."""
    view, _, K = walk(room("living_room"), 1, 1, size, seed=3)
    measured = sense(view.depth, view.normal, K, torch.Generator().manual_seed(0))
    found = LiveFrame.of(gs.RGBDFrames(view.color, measured, K[None]), noise=network)
    truth = torch.where(measured > 0, sigma(view.depth, view.normal, K), torch.nan)[0, ..., 0]
    learned = torch.where(found.surface.weights > 0, found.sigma, torch.nan)[0]
    learned = learned * (truth.nanmedian() / learned.nanmedian())  # a common factor changes hardly anything
    figure = Figure(figsize=(13, 7), dpi=120, layout="constrained")
    axes = figure.subplot_mosaic([["view", "truth", "learned"], ["unseen rooms", "unseen rooms", "recordings"]])
    axes["view"].imshow(view.color[0].numpy())
    for name, image in (("truth", truth), ("learned", learned)):
        shown = axes[name].imshow(1e3 * image.numpy(), cmap="magma", vmin=0, vmax=30)
    figure.colorbar(shown, ax=axes["learned"], label="depth noise, mm")
    titles = {"view": "an unseen view", "truth": "noise of the sensor", "learned": "noise that the network says"}
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
