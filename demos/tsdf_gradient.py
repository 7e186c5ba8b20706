"""An error in a volume, followed back through its integration to the depth pixels that caused it.

gradSLAM's study (Jatavallabhula, Iyer and Paull 2020, section 5) on KinectFusion: something covers part of one depth
image of a clip. The mesh of the volume built from that clip differs from that of the one built without; and so does
what a camera sees of it. The gradient of either difference with respect to every depth pixel, with one backward pass,
points at the culprits.

    python -m demos.tsdf_gradient --out out
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from torch import Tensor

import gradslam_ng as gs
from demos.map_to_pixels import concentration, scene


def between(volume: gs.VoxelGrid, truth: gs.VoxelGrid) -> Tensor:
    """Mean squared distance of the vertices of one mesh to the nearest of the other, m^2; which is nearest is a
    constant."""
    p, q = gs.marching_cubes(volume).vertices, gs.marching_cubes(truth).vertices
    return (p - q[cKDTree(q.numpy()).query(p.detach().numpy())[1]]).square().sum(-1).mean()


def seen(volume: gs.VoxelGrid, truth: gs.VoxelGrid, T_wc: Tensor, K: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean squared difference of ray-cast depth, m^2, where both show something."""
    mine, theirs = gs.raycast(volume, T_wc, K, size), gs.raycast(truth, T_wc, K, size)
    return (mine.depth - theirs.depth).square()[mine.mask & theirs.mask].mean()


def main(out: Path = Path("out"), size: tuple[int, int] = (120, 160), side: int = 20, frames: int = 4) -> dict:
    """Write tsdf_gradient.png and .json.

    Args:
        out: folder for both.
        size: image height and width.
        side: of the occluder, pixels.
        frames: in the clip; the last but one is occluded.
    """
    clip, culprit, depth, inside = scene(size, side, frames)
    numbers, gradients = {"share of pixels inside": float(inside.float().mean())}, {}
    for name, odometry in (("known poses", "ground-truth"), ("tracked", "gradicp")):
        with torch.no_grad():
            truth, _ = gs.KinectFusion(odometry, voxel_size=0.02, truncation=0.08)(clip)
        pixels = depth.clone().requires_grad_()
        volume, _ = gs.KinectFusion(odometry, voxel_size=0.02, truncation=0.08)(replace(clip, depth=pixels))
        view = clip.T_wc[culprit : culprit + 1], clip.K[culprit : culprit + 1], size
        for kind, error in (("mesh", between(volume, truth)), ("ray-cast depth", seen(volume, truth, *view))):
            (gradient,) = torch.autograd.grad(error, pixels, retain_graph=True)
            magnitude = gradient[culprit, ..., 0].abs()
            gradients[f"{kind}, {name}"] = magnitude
            figures = {"error, cm": 100 * float(error.detach().sqrt()), **concentration(magnitude, inside)}
            numbers[f"{kind}, {name}"] = figures
    out.mkdir(parents=True, exist_ok=True)
    (out / "tsdf_gradient.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "tsdf_gradient.png", clip[culprit], depth[culprit, ..., 0], gradients)
    print(json.dumps(numbers, indent=2))
    return numbers


def draw(path: Path, frame: gs.RGBDFrames, depth: Tensor, gradients: dict[str, Tensor]) -> None:
    """The frame, its depth with the occluder, and the size of the gradients."""
    figure = Figure(figsize=(12, 6), dpi=130, layout="constrained")
    axes = figure.subplots(2, 3).T.flatten()
    axes[0].imshow(frame.color.numpy())
    axes[0].set_title("color")
    axes[1].imshow(np.ma.masked_equal(depth.numpy(), 0), cmap="viridis")
    axes[1].set_title("depth with an occluder")
    for ax, (name, magnitude) in zip(axes[2:], gradients.items(), strict=True):
        top = float(magnitude.max())
        shown = ax.imshow(magnitude.numpy().clip(min=1e-4 * top), cmap="inferno", norm=LogNorm(1e-4 * top, top))
        ax.set_title(name)
        figure.colorbar(shown, ax=ax, label="|d error / d depth|, m", shrink=0.8)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
