"""A depth denoiser learned through SLAM: no clean depth, no poses, only that frames of a clip must agree.

A network of three convolutions corrects each of the eight frames of a clip, which are tracked and fused; the loss is
how far the corrected points of each frame are from the raw depth of the others, where tracking put them. The network
sees of a frame what bilateral filters would do, and the mean with frames before, carried into it by where SLAM found
them. Those are an odd number of frames back and the frames of a clip an even number apart, so what the network sees is
never what the loss compares with: the noise there is new, and nothing is gained by repeating one's own, nor by
smoothing away what is there (Lehtinen et al. 2018). It is judged on later frames, by depth and by the trajectory,
beside no correction, that mean alone, the best constant factor and the best bilateral filter, both chosen by the very
depth that they are judged on. The true depth of a recording is that of the volume that its frames make at the poses
that came with them: for each frame only those an even number away, so that it is made of nothing that the network saw
of other frames.

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
from demos.common.clips import (
    Recording,
    Training,
    found_poses,
    random_indices,
    rendered,
    resident_memory,
    trajectory_errors,
)
from demos.common.consistency import disagreement
from demos.common.recordings import DATA
from gradslam_ng.geometry import camera, images, se3
from gradslam_ng.odometry import ProjectiveICP

# frames from one of a clip to the next: even, so that those that the network sees are in none
EVERY = {"rendered": 4, "ICL office": 4, "7-Scenes kitchen": 2, "TUM structure": 2}
LENGTH = 8  # frames of a clip
BEFORE = (1, 3, 5, 7, 9, 11, 13, 15)  # frames back, odd, that the network sees the mean with
SAME = 0.04  # share of the depth: what was measured farther off before is of another surface
RADII = (1, 2, 4)  # pixels, of the filters that the network sees, of the frame and of that mean
JUMPS = (0.04, 0.02)  # share of the depth, of the frame and of that mean, which is less noisy: largest that they smooth
CHANGES = 2 * len(RADII) + 1
MOST, OTHER = 0.03, 0.01  # shares of the depth that they change at most, and that the network adds at most
FILTERS = tuple(itertools.product((1, 2, 3, 4), (0.01, 0.02, 0.04, 0.08)))  # radius, pixels; largest jump, share
WAYS = "none", "best factor", "best filter", "mean", "learned"
AGREES = 0.05  # share of the depth: farther off the fused surface a measurement is of another one


class Denoiser(nn.Module):
    """Three 3x3 convolutions on what filters and the frames before would change of each depth, where depth is, and
    brightness. They say how much of each change to make, and what else."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(CHANGES + 3, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, CHANGES + 1, 3, padding=1),
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, frames: gs.RGBDFrames, mean: Tensor) -> gs.RGBDFrames:
        """Frames, over any leading axes, with corrected depth; where there is none there stays none.

        Args:
            frames: as measured.
            mean: (..., H, W, 1) of their depth and that of frames before, see `mean_with_before`, meters.
        """
        size, lead = frames.size, frames.shape
        z, mean = frames.depth.reshape(-1, *size, 1), mean.reshape(-1, *size, 1)
        known = (z > 0).to(z)
        others = [mean]
        for x, jump in zip((z, mean), JUMPS, strict=True):
            others += [images.bilateral_depth(x, radius, max_jump=jump) for radius in RADII]
        changes = [known * (x / z.clamp(min=0.1) - 1).clamp(-MOST, MOST) for x in others]
        brightness = images.intensity(frames.color).reshape(-1, *size, 1)
        seen = torch.cat([*(50 * change for change in changes), known, brightness - 0.5, z - 2], dim=-1)
        *shares, other = self.layers(seen.movedim(-1, 1)).unbind(1)
        share = sum(a * b[..., 0] for a, b in zip(shares, changes, strict=True)) + OTHER * torch.tanh(other)
        return replace(frames, depth=(z * (1 + share[..., None])).reshape(*lead, *size, 1))


@torch.no_grad()
def mean_with_before(frames: gs.RGBDFrames, T_wc: Tensor) -> Tensor:
    """Mean (N, H, W, 1) of the depth of each of `frames` (N,) and what those `BEFORE` it measured there, meters.

    Each pixel is looked for in a frame before, where `T_wc` (N, 4, 4) puts it. By the share that it is measured nearer
    or farther there it is taken to be so here too, if that is less than `SAME`: else it was of another surface.
    """
    points = camera.unproject(frames.depth, frames.K).flatten(1, 2)
    known = (frames.depth > 0).to(points)
    inverse = torch.cat([known / torch.where(frames.depth > 0, frames.depth, 1), known], dim=-1)
    total, count = torch.zeros_like(frames.depth), torch.ones_like(frames.depth)
    for back in (back for back in BEFORE if back < len(frames)):
        uv, z = camera.project(se3.transform(se3.inverse(T_wc[:-back]) @ T_wc[back:], points[back:]), frames.K[back:])
        uv, z = uv.unflatten(1, frames.size), z.unflatten(1, frames.size)[..., None]
        one_over, share = camera.sample(inverse[:-back], uv).split(1, dim=-1)
        change = 1 / (z * one_over).clamp(min=0.1) - 1
        same = known[back:] * (share > 0.999) * (change.abs() < SAME)
        total[back:] += same * change
        count[back:] += same
    return frames.depth * (1 + total / count)


def train(
    network: Denoiser, frames: gs.RGBDFrames, mean: Tensor, every: int, steps: int, rate: float = 5e-3
) -> Training:
    """Descend the disagreement of corrected and raw depth in random clips of `frames` (N,), without their poses.

    Raises:
        ValueError: too few frames for a clip of every so many-th, or that number is odd: the network would see the
            depth that it is compared with.
    """
    if every % 2 or len(frames) <= every * (LENGTH - 1):
        raise ValueError(f"frames: expected more than {every * (LENGTH - 1)}, an even number apart, got {len(frames)}")
    odometry = ProjectiveICP(photometric=False, iterations=(3, 3), rotation_iterations=0, backward="implicit-gn")
    slam = gs.PointFusion(odometry, factor=1)
    descent = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    generator, losses, used, began = torch.Generator().manual_seed(0), [], [], time.process_time()
    for _ in range(steps):
        which = random_indices(len(frames), 1, LENGTH, every, generator)
        clips = gs.RGBDFrames(frames.color[which], frames.depth[which], frames.K[which])
        corrected = network(clips, mean[which])
        _, T_wc = slam(corrected)
        loss = disagreement(corrected, T_wc, seen=clips.depth)
        descent.zero_grad()
        loss.backward()
        descent.step()
        schedule.step()
        losses.append(float(loss.detach()))
        used.append(resident_memory())
    return Training(losses, used, time.process_time() - began)


@torch.no_grad()
def fused(frames: gs.RGBDFrames, voxel: float = 0.02) -> Tensor:
    """Depth (N, H, W, 1) of the surface that those of `frames` (N,) make that are an even number from each, at the
    poses that came with them; 0 where none is."""
    depth = torch.zeros_like(frames.depth)
    for first in (0, 1):
        half = frames[first::2]
        volume, _ = gs.KinectFusion("ground-truth", factor=1, voxel_size=voxel, truncation=4 * voxel)(half)
        T_wc = half.T_wc.to(half.depth)
        views = [gs.raycast(volume, T_wc[i, None], half.K[i, None], half.size) for i in range(len(half))]
        depth[first::2] = torch.cat([view.depth for view in views])
    return depth


@torch.no_grad()
def judge(network: Denoiser, later: gs.RGBDFrames, mean: Tensor, truth: Tensor) -> dict[str, dict[str, float]]:
    """Error of depth, mean absolute, mm, and of the trajectory, cm, of each way to correct frames (N,)."""
    raw = later.depth
    counted = (raw > 0) & (truth > 0) & ((raw - truth).abs() < AGREES * truth)

    def error(depth: Tensor) -> float:
        return 1e3 * float((depth - truth)[counted].abs().mean())

    factor = min(np.linspace(0.97, 1.03, 61), key=lambda value: error(float(value) * raw))
    best = min(FILTERS, key=lambda value: error(images.bilateral_depth(raw, *value)))
    depths = raw, float(factor) * raw, images.bilateral_depth(raw, *best), mean, network(later, mean).depth
    ates = trajectory_errors(later, list(depths))
    return {
        name: {"depth, mm": error(depth), "ATE, cm": ate} for name, depth, ate in zip(WAYS, depths, ates, strict=True)
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
            recording = Recording.load(name, real, size[1], average=False)
            truth = None if recording is None else fused(recording.frames)
        if recording is None:
            continue
        mean = mean_with_before(recording.frames, found_poses(recording.frames[None])[0])
        torch.manual_seed(0)
        network = Denoiser()
        done = train(network, recording.earlier, mean[: len(recording.earlier)], every, steps)
        later = recording.later, recording.part(mean), recording.part(truth)
        numbers[name] = judge(network, *later) | done.figures()
        pictures[name] = look(network, *(x[-1:] for x in later), done.losses)
        print(name, json.dumps(numbers[name]), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "depth_denoiser.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "depth_denoiser.png", numbers, pictures)
    return numbers


@torch.no_grad()
def look(
    network: Denoiser, frames: gs.RGBDFrames, mean: Tensor, truth: Tensor, losses: list[float]
) -> tuple[list[float], Tensor, Tensor]:
    """The losses, and the errors (H, W), meters, NaN where unknown, of the first of `frames` as it is and corrected."""
    counted = (frames.depth > 0) & (truth > 0)
    depths = frames.depth, network(frames, mean).depth
    before, after = (torch.where(counted, depth - truth, torch.nan)[0, ..., 0] for depth in depths)
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
        errors = [numbers[name][way]["depth, mm"] for way in WAYS]
        row[3].bar([way.replace(" ", "\n") for way in WAYS], errors, color=("0.7", "0.6", "0.5", "0.4", "tab:orange"))
        row[3].set(title="depth error on later frames, mm")
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
