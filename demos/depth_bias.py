"""Depth bias: where in the image, and how far away, a camera measures too long, learned by descending through SLAM.

The depth of a recording is bent: up to 7% too long towards the corners, with a ripple across, and more so far away.
Nobody knows the poses. Clips are corrected by a smooth field, tracked and fused; how far their frames disagree where
tracking put them is the loss, and its gradient, through tracking too, teaches the field. It is judged on later frames
of the recording, by depth and by the trajectory, beside no correction and beside the best constant factor. One factor
for all depth is what no map can tell, so the learned field is given one as well, in the same way: the one with which
the depth that it is judged on is best.

    python -m demos.depth_bias --out out --real FOLDER_OF_RECORDINGS
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor, nn

import gradslam_ng as gs
from demos.common.clips import FOLDERS, Recording, Training, random_clips, resident_memory, trajectory_errors
from demos.common.consistency import disagreement
from demos.common.recordings import DATA
from gradslam_ng.odometry import ProjectiveICP

EVERY = {"living room": 8, "ICL office": 15, "7-Scenes kitchen": 4}  # frames from one of a clip to the next
PRIOR = 2.0  # weight of the squares of the field's coefficients; a share of depth of 1% costs 0.0002
FACTORS = np.linspace(0.9, 1.1, 201)


def across(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Right and down (H, W), from -1 to 1."""
    return torch.meshgrid(torch.linspace(-1, 1, size[1]), torch.linspace(-1, 1, size[0]), indexing="xy")


def bent(depth: Tensor) -> Tensor:
    """Depth (..., H, W, 1) as a camera with a bias measures it; no polynomial is quite its inverse."""
    u, v = across(depth.shape[-3:-1])
    bowl = 0.025 * (u * u + v * v)[..., None] * (1 + 0.15 * (depth - 2))
    ripple = 0.01 * (torch.cos(3 * u + 1) - np.cos(1.0))[..., None]
    return torch.where(depth > 0, depth * (1 + bowl + ripple), 0)


def legendre(size: tuple[int, int], degree: int) -> Tensor:
    """(H, W, n) of unit variance: products of Legendre polynomials up to a degree, the constant first, without tilts.

    A tilt of all depth, seen by a camera that hardly turns, looks like a motion of the camera.
    """
    images = []
    u, v = across(size)
    for a in range(degree + 1):
        for b in range(degree + 1 - a):
            along, down = (np.polynomial.Legendre.basis(n) for n in (a, b))
            if a + b != 1:
                image = np.sqrt((2 * a + 1) * (2 * b + 1)) * along(u.numpy()) * down(v.numpy())
                images.append(torch.from_numpy(image).float())
    return torch.stack(images, dim=-1)


class BiasField(nn.Module):
    """Depth times 1 + a polynomial of degree 4 over the image + one of degree 2 that grows with depth."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        everywhere, with_depth = legendre(size, 4)[..., 1:], legendre(size, 2)  # the first is the constant
        self.everywhere = nn.Parameter(torch.zeros(everywhere.shape[-1]))
        self.with_depth = nn.Parameter(torch.zeros(with_depth.shape[-1]))
        self.register_buffer("image", everywhere, persistent=False)
        self.register_buffer("image_with_depth", with_depth, persistent=False)

    def forward(self, depth: Tensor) -> Tensor:  # (..., H, W, 1), meters
        """Corrected depth, meters; 0 stays 0."""
        everywhere, with_depth = self.image, self.image_with_depth
        share = (everywhere @ self.everywhere)[..., None] + (with_depth @ self.with_depth)[..., None] * (depth - 2) / 2
        return depth * (1 + share)

    def prior(self) -> Tensor:
        """How much is said without being asked for: sum of squares, ()."""
        return self.everywhere.square().sum() + self.with_depth.square().sum()


def train(field: BiasField, frames: gs.RGBDFrames, every: int, steps: int, batch: int = 3, length: int = 4) -> Training:
    """Descend the disagreement of random clips of `frames` (N,), whose poses are not used."""
    odometry = ProjectiveICP(photometric=False, iterations=(3, 3), rotation_iterations=0, backward="implicit-gn")
    slam = gs.PointFusion(odometry, factor=1)
    descent = torch.optim.Adam(field.parameters(), lr=1e-3, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    generator, losses, used, began = torch.Generator().manual_seed(0), [], [], time.process_time()
    for _ in range(steps):
        clips = random_clips(frames, batch, length, every, generator)
        corrected = replace(clips, depth=field(clips.depth))
        _, T_wc = slam(corrected)
        loss = disagreement(corrected, T_wc)
        descent.zero_grad()
        (loss + PRIOR * field.prior()).backward()
        descent.step()
        schedule.step()
        losses.append(float(loss.detach()))
        used.append(resident_memory())
    return Training(losses, used, time.process_time() - began)


def depth_error(depth: Tensor, truth: Tensor) -> float:
    """Mean absolute error where there is depth, mm."""
    return 1e3 * float((depth - truth)[truth > 0].abs().mean())


def with_best_factor(depth: Tensor, truth: Tensor) -> Tensor:
    """Depth times the factor with which it is nearest to the truth."""
    return depth * float(min(FACTORS, key=lambda factor: depth_error(float(factor) * depth, truth)))


@torch.no_grad()
def judge(field: BiasField, measured: Tensor, later: gs.RGBDFrames) -> dict[str, dict[str, float]]:
    """Error of depth, mm, and trajectory, cm, without correction, with the best factor, with field and factor."""
    constant, learned = (with_best_factor(depth, later.depth) for depth in (measured, field(measured)))
    ways = {"none": measured, "best constant": constant, "learned": learned}
    ates = trajectory_errors(later, list(ways.values()))
    return {
        name: {"depth, mm": depth_error(depth, later.depth), "ATE, cm": ate}
        for (name, depth), ate in zip(ways.items(), ates, strict=True)
    }


def main(out: Path = Path("out"), real: Path = DATA, width: int = 80, steps: int = 100) -> dict:
    """Write depth_bias.png and .json.

    Args:
        out: folder for both.
        real: folder of recordings; those that are not there are left out.
        width: that images are shrunk to, about, pixels.
        steps: of training, for each recording.
    """
    numbers, pictures = {}, {}
    for name in FOLDERS:
        recording = Recording.load(name, real, width)
        if recording is None or name not in EVERY:
            continue
        field = BiasField(recording.frames.size)
        earlier = replace(recording.earlier, depth=bent(recording.earlier.depth))
        done = train(field, earlier, EVERY[name], steps)
        measured = bent(recording.later.depth)
        numbers[name] = judge(field, measured, recording.later) | done.figures()
        with torch.no_grad():
            two = torch.full((*recording.frames.size, 1), 2.0)
            wanted, found = 2 / bent(two)[..., 0], field(two)[..., 0] / 2
            pictures[name] = done.losses, wanted / wanted.mean() - 1, found / found.mean() - 1
        print(name, json.dumps(numbers[name]), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "depth_bias.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "depth_bias.png", numbers, pictures)
    return numbers


def draw(path: Path, numbers: dict, pictures: dict[str, tuple[list[float], Tensor, Tensor]]) -> None:
    """For each recording the loss, the correction that undoes the bias and the one learned, and the errors."""
    figure = Figure(figsize=(13, 2.9 * len(pictures)), dpi=100, layout="constrained")
    for row, (name, (losses, wanted, found)) in zip(
        figure.subplots(len(pictures), 4, squeeze=False), pictures.items(), strict=True
    ):
        row[0].plot(losses, color="0.4", lw=1)
        row[0].set(ylabel=name, xlabel="step", title="disagreement", ylim=(0, None))
        for ax, image, title in ((row[1], wanted, "correction at 2 m, wanted"), (row[2], found, "learned")):
            shown = ax.imshow(100 * image.numpy(), cmap="RdBu", vmin=-7, vmax=7)
            ax.set(title=title, xticks=[], yticks=[])
        figure.colorbar(shown, ax=row[2], label="%")
        ways = ("none", "best constant", "learned")
        errors = [numbers[name][way]["depth, mm"] for way in ways]
        row[3].bar(ways, errors, color=("0.7", "0.5", "tab:orange"))
        row[3].set(title="depth error on later frames, mm")
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
