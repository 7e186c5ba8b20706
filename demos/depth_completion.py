"""Depth completion through SLAM: half of a depth image is lost, and the map built from the other frames brings it back.

A clip is tracked and fused. The last frame comes with half of its depth missing, in blocks. Every missing depth is a
parameter: the frame is tracked and fused with a guess, the distance between what it adds and the surface that the map
already holds is the loss, and its gradient, back through fusion and tracking, improves the guess. A small prior asks
for inverse depth without kinks, except where the color has an edge.

    python -m demos.depth_completion --out out
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.slam import State


def holes(size: tuple[int, int], block: int, seed: int) -> Tensor:
    """(H, W) bool: half of all blocks of that many pixels a side, at random."""
    rows, columns = -(-size[0] // block), -(-size[1] // block)
    rank = torch.rand(rows * columns, generator=torch.Generator().manual_seed(seed)).argsort().argsort()
    chosen = (rank < rows * columns // 2).reshape(rows, columns)
    return chosen.repeat_interleave(block, 0).repeat_interleave(block, 1)[: size[0], : size[1]]


def map_loss(before: State, after: State, known: cKDTree) -> Tensor:
    """Sum of squared distances, m^2, of what the last frame changed in the map from the surface that the map held."""
    changed = after.map.mask & (after.map.updated == before.frames)
    p = after.map.points[changed]
    nearest = known.query(p.detach().numpy())[1]
    q, n = before.map.points[0, nearest], before.map.normals[0, nearest]
    return ((p - q) * n).sum(-1).square().sum() + 0.1 * (p - q).square().sum()


def roughness(inverse: Tensor, color: Tensor) -> Tensor:
    """Sum of squared second differences of inverse depth (H, W), of which planes have none; less at edges in color."""
    total = inverse.new_zeros(())
    for axis in (0, 1):
        contrast = color.diff(2, axis).abs().amax(-1)
        total = total + (torch.exp(-20 * contrast) * inverse.diff(2, axis).square()).sum()
    return total


def descend(inverse: Tensor, lost: Tensor, loss: Callable[[Tensor], Tensor], steps: int) -> Tensor:
    """Inverse depth (H, W) with the values where `lost` holds moved to lower the loss."""
    unknown = inverse.clone().requires_grad_()
    descent = torch.optim.Adam([unknown], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    for _ in range(steps):
        descent.zero_grad()
        loss(torch.where(lost, unknown, inverse)).backward()
        descent.step()
        schedule.step()
        unknown.data.clamp_(0.1, 3.0)
    return torch.where(lost, unknown.detach(), inverse)


def main(
    out: Path = Path("out"), size: tuple[int, int] = (120, 160), frames: int = 8, block: int = 16, steps: int = 60
) -> dict:
    """Write depth_completion.png and .json.

    Args:
        out: folder for both.
        size: image height and width.
        frames: of the clip, the incomplete one included.
        block: side of the holes, pixels.
        steps: of gradient descent.
    """
    exact, noisy = (
        gs.datasets.Synthetic("living_room", frames=3 * frames, size=size, noise=noise) for noise in ("none", "kinect")
    )
    *others, frame = (noisy[3 * i] for i in range(frames))
    truth = exact[3 * frames - 3].depth[..., 0]
    lost = holes(size, block, seed=0) | (frame.depth[..., 0] == 0)
    left = torch.where(lost, 0.0, frame.depth[..., 0])

    slam = gs.PointFusion()
    before = None
    with torch.no_grad():
        for other in others:
            before = slam.step(before, other)
    known = cKDTree(before.map.points[before.map.mask].numpy())

    def prior(inverse: Tensor) -> Tensor:
        return 20 * roughness(inverse, frame.color)

    def map_and_prior(inverse: Tensor) -> Tensor:
        after = slam.step(before, replace(frame, depth=(1 / inverse)[..., None]))
        return map_loss(before, after, known) + prior(inverse)

    flat = torch.where(lost, 1 / left[~lost].median(), 1 / left.clamp(min=0.1))
    smooth = descend(flat, lost, prior, 10 * steps)
    completed = descend(smooth, lost, map_and_prior, steps)

    guesses = {"median of what is left": 1 / flat, "prior alone": 1 / smooth, "map and prior": 1 / completed}
    numbers = {"share of the depth removed": float(lost.float().mean())}
    for name, depth in guesses.items():
        error = 100 * (depth - truth)[lost & (truth > 0)].abs()
        numbers[name] = {"mean error, cm": float(error.mean()), "median error, cm": float(error.median())}
    out.mkdir(parents=True, exist_ok=True)
    (out / "depth_completion.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "depth_completion.png", frame.color, left, truth, guesses)
    print(json.dumps(numbers, indent=2))
    return numbers


def draw(path: Path, color: Tensor, left: Tensor, truth: Tensor, guesses: dict[str, Tensor]) -> None:
    """What is left of the depth, the guesses and the truth, and how far from it each guess is."""
    figure = Figure(figsize=(14, 5.6), dpi=120, layout="constrained")
    above, below = figure.subplots(2, 4)
    _, prior, completed = guesses.items()
    for ax, (title, depth) in zip(above, (("what is left", left), prior, completed, ("truth", truth)), strict=True):
        shown = ax.imshow(np.ma.masked_equal(depth.numpy(), 0), cmap="viridis", vmin=0.5, vmax=float(truth.max()))
        ax.set_title(title)
    figure.colorbar(shown, ax=above, label="depth, m")
    below[0].imshow(color.numpy())
    below[0].set_title("color")
    for ax, (title, depth) in zip(below[1:], guesses.items(), strict=True):
        shown = ax.imshow(100 * (depth - truth).abs().numpy(), cmap="magma", vmin=0, vmax=50)
        ax.set_title(f"error: {title}")
    figure.colorbar(shown, ax=below, label="cm")
    for ax in (*above, *below):
        ax.set(xticks=[], yticks=[])
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
