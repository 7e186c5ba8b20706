"""Map to pixels: an error in the map, followed back through SLAM to the depth pixels that caused it.

The study of gradSLAM (Jatavallabhula, Iyer and Paull 2020, section 5): something covers 40 x 40 pixels of one depth
image of a clip. The map built from that clip differs from the one built without. One backward pass, through fusion,
tracking, normals and filters, gives the gradient of the difference with respect to every depth pixel, and it points at
the culprits.

With known poses only the occluder has a gradient to speak of. With tracked poses every pixel that holds the camera in
its place has one too, for it could move the occluder by moving the camera: nearby surfaces most, as their depth is
the surest.

    python -m demos.map_to_pixels --out out
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from torch import Tensor

import gradslam_ng as gs

SYSTEMS = {
    "PointFusion, known poses": partial(gs.PointFusion, odometry="ground-truth"),
    "PointFusion": gs.PointFusion,
    "ICP-SLAM": gs.ICPSLAM,
}


def chamfer(map_: gs.SurfelMap, truth: gs.SurfelMap) -> Tensor:
    """Mean squared distance between nearest points of two maps, both ways, m^2. Which is nearest is a constant."""
    p, q = map_.points[map_.mask], truth.points[truth.mask]
    p_tree, q_tree = cKDTree(p.detach().numpy()), cKDTree(q.detach().numpy())
    to_truth = (p - q[q_tree.query(p.detach().numpy())[1]]).square().sum(-1)
    to_map = (q - p[p_tree.query(q.detach().numpy())[1]]).square().sum(-1)
    return to_truth.mean() + to_map.mean()


def occlude(depth: Tensor, frame: int, side: int, nearer: float = 0.4) -> tuple[Tensor, Tensor]:
    """The clip's depth (L, H, W, 1) with a flat thing held before the camera of one frame, and where it is (H, W)."""
    height, width = depth.shape[1:3]
    top, left = int(0.35 * height), int(0.55 * width)
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[top : top + side, left : left + side] = True
    depth = depth.clone()
    depth[frame][inside] = (1 - nearer) * depth[frame][inside].median()
    return depth, inside


def scene(size: tuple[int, int], side: int, frames: int) -> tuple[gs.RGBDFrames, int, Tensor, Tensor]:
    """A clip of the living room, which frame of it is occluded, its depth with the occluder, and where that is."""
    sequence = gs.datasets.Synthetic("living_room", frames=3 * frames, size=size, noise="kinect", seed=3)
    clip = gs.RGBDFrames.stack([sequence[i] for i in range(0, 3 * frames, 3)])
    culprit = frames - 2
    return clip, culprit, *occlude(clip.depth, culprit, side)


def concentration(magnitude: Tensor, inside: Tensor) -> dict[str, float]:
    """How far the size of a gradient (H, W) gathers where `inside` (H, W) holds."""
    strongest = magnitude.flatten().topk(magnitude.numel() // 100).indices
    return {
        "mean gradient inside / outside": float(magnitude[inside].mean() / magnitude[~inside].mean()),
        "share of the strongest 1% inside": float(inside.flatten()[strongest].float().mean()),
    }


def main(out: Path = Path("out"), size: tuple[int, int] = (240, 320), side: int = 40, frames: int = 4) -> dict:
    """Write map_to_pixels.png and .json.

    Args:
        out: folder for both.
        size: image height and width.
        side: of the occluder, pixels.
        frames: in the clip; the last but one is occluded.
    """
    clip, culprit, depth, inside = scene(size, side, frames)
    numbers, gradients = {"share of pixels inside": float(inside.float().mean())}, {}
    for name, system in SYSTEMS.items():
        with torch.no_grad():
            truth, _ = system()(clip)
        pixels = depth.clone().requires_grad_()
        map_, _ = system()(replace(clip, depth=pixels))
        error = chamfer(map_, truth)
        error.backward()

        gradients[name] = magnitude = pixels.grad[culprit, ..., 0].abs()
        numbers[name] = {"map error, cm": 100 * float(error.detach().sqrt()), **concentration(magnitude, inside)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "map_to_pixels.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "map_to_pixels.png", clip[culprit], depth[culprit, ..., 0], gradients)
    print(json.dumps(numbers, indent=2))
    return numbers


def draw(path: Path, frame: gs.RGBDFrames, depth: Tensor, gradients: dict[str, Tensor]) -> None:
    """The frame, its depth as it was and with the occluder, and the size of the gradient for each system."""
    figure = Figure(figsize=(12, 6), dpi=130, layout="constrained")
    (above, below) = figure.subplots(2, 3)
    above[0].imshow(frame.color.numpy())
    above[0].set_title("color")
    clean = frame.depth[..., 0]
    for ax, image, title in ((above[1], clean, "depth"), (above[2], depth, "depth with an occluder")):
        shown = ax.imshow(np.ma.masked_equal(image.numpy(), 0), cmap="viridis", vmin=0.5, vmax=float(clean.max()))
        ax.set_title(title)
    figure.colorbar(shown, ax=above, label="meters", shrink=0.9)
    top = max(float(magnitude.max()) for magnitude in gradients.values())
    for ax, (name, magnitude) in zip(below, gradients.items(), strict=True):
        shown = ax.imshow(magnitude.numpy().clip(min=1e-4 * top), cmap="inferno", norm=LogNorm(1e-4 * top, top))
        ax.set_title(name)
    figure.colorbar(shown, ax=below, label="|d map error / d depth|, m", shrink=0.9)
    for ax in (*above, *below):
        ax.set(xticks=[], yticks=[])
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
