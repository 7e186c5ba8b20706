"""Self-calibration: the camera's intrinsics from a clip of its own images, by descending through SLAM.

K is off by 3%, and nobody knows the poses. A wrong K bends every frame's geometry, so the frames do not fit together:
color and depth of the map disagree with the images that it is made of. The gradient of that disagreement with
respect to K, through projection, fusion and tracking, leads back to the true K. No ground truth is used.

    python -m demos.self_calibration --out out
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import camera, se3
from gradslam_ng.odometry import ProjectiveICP

NAMES = ("f", "cx", "cy")


def disagreement(map_: gs.SurfelMap, clip: gs.RGBDFrames, T_wc: Tensor) -> Tensor:
    """Mean over what every frame sees of the surfels that it did not found: difference in color plus that in depth.

    Depth counts in units of 2% at 1 m, growing with its square like the sensor's noise, each pixel 1 at most.
    clip (L,), T_wc (L, 4, 4).
    """
    n = map_.num_slots
    points, colors, founded = map_.points[0, :n], map_.colors[0, :n], map_.created[0, :n]
    total, count = points.new_zeros(()), points.new_zeros(())
    T_cw = se3.inverse(T_wc).to(points)
    for i in range(len(clip)):
        uv, z = camera.project(se3.transform(T_cw[i], points), clip.K[i])
        color = camera.sample(clip.color[i], uv[None])[0]
        depth = camera.sample(clip.depth[i], uv[None], "nearest")[0, :, 0]
        visible = (founded != i) & (z > 0.1) & (depth > 0) & ((depth - z).abs() < 0.05 * z)
        gap = ((depth - z) / (0.02 * z * z)).square()
        each = (color - colors).abs().mean(-1) + 0.5 * gap / (1 + gap)
        total = total + torch.where(visible, each, 0.0).sum()
        count = count + visible.sum()
    return total / count


def intrinsics(values: Tensor) -> Tensor:
    """K (3, 3) of f, cx, cy (3,), pixels."""
    f, cx, cy = values
    zero, one = torch.zeros_like(f), torch.ones_like(f)
    return torch.stack([f, zero, cx, zero, f, cy, zero, zero, one]).reshape(3, 3)


def main(
    out: Path = Path("out"), size: tuple[int, int] = (120, 160), frames: int = 6, steps: int = 20, off: float = 0.03
) -> dict:
    """Write self_calibration.png and .json.

    Args:
        out: folder for both.
        size: image height and width.
        frames: of the clip.
        steps: of gradient descent.
        off: how far K is off at first, relative.
    """
    sequence = gs.datasets.Synthetic("living_room", frames=100, size=size, noise="kinect", path="fast", seed=2)
    clip = gs.RGBDFrames.stack([sequence[5 * i] for i in range(frames)])
    truth = torch.stack([clip.K[0, 0, 0], clip.K[0, 0, 2], clip.K[0, 1, 2]])
    slam = gs.PointFusion(ProjectiveICP(photometric=False))

    scale = torch.tensor([off, -off, off]).log1p().requires_grad_()  # logarithm of the guess over the truth
    descent = torch.optim.Adam([scale], lr=0.25 * off, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    history, looks = [], []
    for _ in range(steps + 1):
        guess = replace(clip, K=intrinsics(truth * scale.exp()))
        map_, T_wc = slam(guess)
        loss = disagreement(map_, guess, T_wc[0])
        history.append((float(loss.detach()), *(100 * scale.detach().expm1()).tolist()))
        looks.append(look(map_, guess[-1], T_wc[:, -1]))
        descent.zero_grad()
        loss.backward()
        descent.step()
        schedule.step()

    first, last = history[0], history[-1]
    numbers = {"loss before": first[0], "loss after": last[0]} | {
        name: {"off before, %": first[i], "off after, %": last[i], "truth, pixels": float(truth[i - 1])}
        for i, name in enumerate(NAMES, start=1)
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "self_calibration.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "self_calibration.png", clip[-1].color, np.array(history), looks)
    print(json.dumps(numbers, indent=2))
    return numbers


@torch.no_grad()
def look(map_: gs.SurfelMap, frame: gs.RGBDFrames, T_wc: Tensor) -> tuple[Tensor, Tensor]:
    """What the frames before the newest put into the map, as the newest should see it, and how far that differs."""
    view = gs.render(map_.compact(map_.created < map_.created.max()), T_wc, frame.K[None], frame.size)
    return view.color[0], ((view.color[0] - frame.color).abs() * view.alpha[0]).mean(-1)


def draw(path: Path, color: Tensor, history: np.ndarray, looks: list[tuple[Tensor, Tensor]]) -> None:
    """How far off the intrinsics are at each step, the loss, and how the newest frame fits the map before and after."""
    figure = Figure(figsize=(13.5, 5.6), dpi=120, layout="constrained")
    axes = figure.subplot_mosaic([["off", "frame", "first"], ["loss", "map", "last"]])
    for i, name in enumerate(NAMES, start=1):
        axes["off"].plot(history[:, i], label=name, lw=2)
    axes["off"].axhline(0, color="0.6", lw=0.8)
    axes["off"].set(ylabel="off the truth, %", xlim=(0, len(history) - 1))
    axes["off"].legend()
    axes["loss"].plot(history[:, 0], color="0.2", lw=2)
    axes["loss"].set(ylabel="disagreement", xlabel="step", ylim=(0, None), xlim=(0, len(history) - 1))
    (_, first), (seen, last) = looks[0], looks[-1]
    images = {"frame": "newest frame", "map": "map of the others", "first": "misfit before", "last": "misfit after"}
    for (name, title), image in zip(images.items(), (color, seen, first, last), strict=True):
        axes[name].imshow(image.numpy(), cmap="magma", vmin=0, vmax=0.3)
        axes[name].set(title=title, xticks=[], yticks=[])
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
