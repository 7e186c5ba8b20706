"""A depth denoiser learned through SLAM: no clean depth, no poses, only that frames of a clip must agree.

A network of three convolutions, which sees what bilateral filters would do, corrects each of the eight frames of a
clip, which are tracked and fused; the loss is how far the corrected points of each frame are from the raw depth of
the others, where tracking put them. What is raw in the others has noise of its own, so nothing is gained by repeating
it, nor by smoothing away what is there (Lehtinen et al. 2018). It is judged on later frames, by depth and by the
trajectory, beside no correction, the best constant factor and the best bilateral filter, both chosen by the very
depth that they are judged on. The true depth of a recording is that of the volume that all its frames make at the
poses that came with them.

    python -m demos.depth_denoiser --out out --real FOLDER_OF_RECORDINGS
"""

from __future__ import annotations

import itertools
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
from demos.common.clips import FOLDERS, Recording, Training, random_clips, rendered, resident_memory, trajectory_errors
from demos.common.consistency import disagreement
from demos.common.recordings import DATA
from gradslam_ng.geometry import images
from gradslam_ng.odometry import ProjectiveICP

EVERY = {"rendered": 4, "ICL office": 4, "7-Scenes kitchen": 2}  # frames from one of a clip to the next
LENGTH = 8  # frames of a clip
RADII = (1, 2, 4)  # pixels, of the filters that the network sees
MOST, OTHER = 0.03, 0.01  # shares of the depth that they change at most, and that the network adds at most
FILTERS = tuple(itertools.product((1, 2, 3, 4), (0.01, 0.02, 0.04, 0.08)))  # radius, pixels; largest jump, share
AGREES = 0.05  # share of the depth: farther off the fused surface a measurement is of another one


class Denoiser(nn.Module):
    """Three 3x3 convolutions on what bilateral filters of three sizes would change of each depth, where depth is, and
    brightness. They say how much of each change to make, and what else."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(len(RADII) + 3, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, len(RADII) + 1, 3, padding=1),
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, frames: gs.RGBDFrames) -> gs.RGBDFrames:
        """Frames, over any leading axes, with corrected depth; where there is none there stays none."""
        size, lead = frames.size, frames.shape
        z = frames.depth.reshape(-1, *size)
        known = (z > 0).to(z)
        filtered = [images.bilateral_depth(z[..., None], radius, max_jump=0.04)[..., 0] for radius in RADII]
        changes = [known * (x / z.clamp(min=0.1) - 1).clamp(-MOST, MOST) for x in filtered]
        brightness = images.intensity(frames.color).reshape(-1, *size)
        seen = torch.stack([*(50 * change for change in changes), known, brightness - 0.5, z - 2], dim=1)
        *shares, other = self.layers(seen).unbind(1)
        share = sum(a * b for a, b in zip(shares, changes, strict=True)) + OTHER * torch.tanh(other)
        return replace(frames, depth=(z * (1 + share)).reshape(*lead, *size, 1))


def train(network: Denoiser, frames: gs.RGBDFrames, every: int, steps: int, rate: float = 5e-3) -> Training:
    """Descend the disagreement of corrected and raw depth in random clips of `frames` (N,), without their poses."""
    odometry = ProjectiveICP(photometric=False, iterations=(3, 3), rotation_iterations=0, backward="implicit-gn")
    slam = gs.PointFusion(odometry, factor=1)
    descent = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    generator, losses, used, began = torch.Generator().manual_seed(0), [], [], time.process_time()
    for _ in range(steps):
        clips = random_clips(frames, 1, LENGTH, every, generator)
        corrected = network(clips)
        _, T_wc = slam(corrected)
        loss = disagreement(corrected, T_wc, seen=clips.depth)
        descent.zero_grad()
        loss.backward()
        descent.step()
        schedule.step()
        losses.append(float(loss.detach()))
        used.append(resident_memory())
    return Training(losses, (used[len(used) // 10], used[-1]), time.process_time() - began)


@torch.no_grad()
def fused(recording: Recording, voxel: float = 0.02) -> Tensor:
    """Depth (N, H, W, 1) of the surface that all frames make at the poses that came with them; 0 where none is."""
    frames = recording.frames
    volume, _ = gs.KinectFusion("ground-truth", factor=1, voxel_size=voxel, truncation=4 * voxel)(frames)
    T_wc = frames.T_wc.to(frames.depth)
    views = [gs.raycast(volume, T_wc[i, None], frames.K[i, None], frames.size) for i in range(len(frames))]
    return torch.cat([view.depth for view in views])


@torch.no_grad()
def judge(network: Denoiser, later: gs.RGBDFrames, truth: Tensor) -> dict[str, dict[str, float]]:
    """Error of depth, mean absolute, mm, and of the trajectory, cm, of each way to correct frames (N,)."""
    raw = later.depth
    counted = (raw > 0) & (truth > 0) & ((raw - truth).abs() < AGREES * truth)

    def error(depth: Tensor) -> float:
        return 1e3 * float((depth - truth)[counted].abs().mean())

    factor = min(np.linspace(0.97, 1.03, 61), key=lambda value: error(float(value) * raw))
    best = min(FILTERS, key=lambda value: error(images.bilateral_depth(raw, *value)))
    ways = {
        "none": raw,
        "best factor": float(factor) * raw,
        "best filter": images.bilateral_depth(raw, *best),
        "learned": network(later).depth,
    }
    ates = trajectory_errors(later, list(ways.values()))
    return {
        name: {"depth, mm": error(depth), "ATE, cm": ate} for (name, depth), ate in zip(ways.items(), ates, strict=True)
    }


def main(
    out: Path = Path("out"), real: Path = DATA, size: tuple[int, int] = (60, 80), frames: int = 60, steps: int = 50
) -> dict:
    """Write depth_denoiser.png and .json.

    Args:
        out: folder for both.
        real: folder of recordings; those that are not there are left out.
        size: of the images, height and width; of a recording every so many-th pixel is taken.
        frames: that are rendered.
        steps: of training, for each recording.
    """
    numbers, pictures = {}, {}
    for name, every in EVERY.items():
        if name == "rendered":
            recording, truth = rendered(frames, size)
        else:
            recording = Recording.load(name, real, size[1], average=False) if name in FOLDERS else None
            truth = None if recording is None else fused(recording)
        if recording is None:
            continue
        torch.manual_seed(0)
        network = Denoiser()
        done = train(network, recording.earlier, every, steps)
        numbers[name] = judge(network, recording.later, recording.part(truth)) | done.figures()
        pictures[name] = look(network, recording.later[-1], recording.part(truth)[-1], done.losses)
        print(name, json.dumps(numbers[name]), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "depth_denoiser.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "depth_denoiser.png", numbers, pictures)
    return numbers


@torch.no_grad()
def look(
    network: Denoiser, frame: gs.RGBDFrames, truth: Tensor, losses: list[float]
) -> tuple[list[float], Tensor, Tensor]:
    """The losses, and the errors (H, W) of a frame in meters, NaN where unknown, as it is and corrected."""
    counted = (frame.depth > 0) & (truth > 0)
    before, after = (torch.where(counted, x.depth - truth, torch.nan)[..., 0] for x in (frame, network(frame)))
    return losses, before, after


def draw(path: Path, numbers: dict, pictures: dict[str, tuple[list[float], Tensor, Tensor]]) -> None:
    """For each recording the loss, the errors of a later frame as it is and corrected, and the mean errors."""
    figure = Figure(figsize=(13, 2.9 * len(pictures)), dpi=100, layout="constrained")
    rows = figure.subplots(len(pictures), 4, squeeze=False)
    for row, (name, (losses, before, after)) in zip(rows, pictures.items(), strict=True):
        row[0].plot(losses, color="0.4", lw=1)
        row[0].set(ylabel=name, xlabel="step", title="disagreement", ylim=(0, None))
        for ax, image, title in ((row[1], before, "error of a later frame"), (row[2], after, "corrected")):
            shown = ax.imshow(1e3 * image.numpy(), cmap="RdBu", vmin=-25, vmax=25)
            ax.set(title=title, xticks=[], yticks=[])
        figure.colorbar(shown, ax=row[2], label="mm")
        ways = ("none", "best factor", "best filter", "learned")
        errors = [numbers[name][way]["depth, mm"] for way in ways]
        row[3].bar([way.replace(" ", "\n") for way in ways], errors, color=("0.7", "0.6", "0.5", "tab:orange"))
        row[3].set(title="depth error on later frames, mm")
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
