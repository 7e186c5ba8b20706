"""Pose from an image: a camera 5 cm and 5 degrees off finds its place by what it should see from there.

The difference between an image and what a map shows from a pose, in colour and depth, has a gradient to the pose,
through the renderer. Descending it brings the camera back: in a surfel map, rendered as discs, and in a volume,
ray-cast. Nothing is matched and no feature is found.

    python demos/pose_from_image.py --out out
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import huber_loss

import gradslam_ng as gs
from gradslam_ng.geometry import se3

View = Callable[[Tensor], tuple[Tensor, Tensor]]  # T_wc (1, 4, 4) to colour and depth (1, H, W, C), 0 where unknown
STAGES = (
    0.02,
    0.005,
    0.002,
)  # metres at which a difference in depth begins to count less than squared: from far to near
COLOR = 0.1  # and one of shades
UNIT = 0.01  # metres, of the first step of the descent
LENGTH = 1.5  # metres by which a rotation moves the image about as much as a translation


def difference(view: View, T_wc: Tensor, frame: gs.RGBDFrames, stage: float) -> Tensor:
    """Mean robust difference of what is seen from T_wc to the frame, where both know the depth."""
    color, depth = view(T_wc)
    known = ((depth > 0) & (frame.depth > 0) & ((depth - frame.depth).abs() < 0.3)).detach().to(depth)
    off = huber_loss(depth / stage, frame.depth / stage, reduction="none")
    off = off + huber_loss(color / COLOR, frame.color / COLOR, reduction="none").mean(-1, keepdim=True)
    return (known * off).sum() / known.sum().clamp(min=1)


def localise(view: View, T_wc: Tensor, frame: gs.RGBDFrames, stage: float, steps: int) -> tuple[Tensor, list[float]]:
    """T_wc (1, 4, 4) moved down the difference by L-BFGS, and the difference on the way."""
    xi = torch.zeros(1, 6, requires_grad=True)
    scale = UNIT * torch.tensor([1.0, 1, 1, 1 / LENGTH, 1 / LENGTH, 1 / LENGTH])
    optimizer = torch.optim.LBFGS([xi], lr=1, max_iter=steps, history_size=8, line_search_fn="strong_wolfe")
    centre = T_wc.clone()
    centre[:, :3, :3] = torch.eye(3)  # turn about the camera, not about the world's origin
    losses = []

    def pose() -> Tensor:
        return centre @ se3.exp(xi * scale) @ se3.inverse(centre) @ T_wc

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = difference(view, pose(), frame, stage)
        loss.backward()
        losses.append(float(loss.detach()))
        return loss

    optimizer.step(closure)
    return pose().detach(), losses


def off(T_wc: Tensor, truth: Tensor) -> tuple[float, float]:
    """Metres and degrees between two poses (1, 4, 4)."""
    xi = se3.log(se3.inverse(truth.double()) @ T_wc.double())[0]
    return float((T_wc - truth)[0, :3, 3].norm()), float(xi[3:].norm().rad2deg())


def main(
    out: Path = Path("out"), starts: int = 5, size: tuple[int, int] = (90, 120), steps: int = 20, frames: int = 10
) -> dict:
    """Write pose_from_image.png and .json.

    Args:
        out: folder for both.
        starts: random ones, each up to 5 cm and 5 degrees off.
        size: height and width of the image that is localised.
        steps: of descent in each of three stages, at most.
        frames: that the maps are made of, none of them the one to be found.
    """
    every, middle = 6, 6 * (frames // 2) + 3
    rendered = gs.datasets.Synthetic("living_room", frames=every * frames, size=(240, 320))
    clip = gs.RGBDFrames.stack([rendered[i] for i in range(0, every * frames, every)])
    with torch.no_grad():
        surfels, _ = gs.PointFusion("ground-truth")(clip)
        volume, _ = gs.KinectFusion(odometry="ground-truth")(clip)
    frame = gs.datasets.Synthetic("living_room", frames=every * frames, size=size)[middle].map(
        lambda value: value[None]
    )
    frame = frame.to(dtype=torch.float32)

    def discs(T_wc: Tensor) -> tuple[Tensor, Tensor]:
        seen = gs.render(surfels, T_wc, frame.K, size)
        return seen.color, seen.depth

    def rays(T_wc: Tensor) -> tuple[Tensor, Tensor]:
        seen = gs.raycast(volume, T_wc, frame.K, size)
        return seen.color, seen.depth

    generator = torch.Generator().manual_seed(0)
    numbers, pictures = {}, {}
    for name, view in (("surfels", discs), ("volume", rays)):
        errors, curves = [], []
        for i in range(starts):
            xi = torch.nn.functional.normalize(torch.randn(2, 3, generator=generator), dim=-1)
            reach = torch.rand(2, 1, generator=generator) ** (1 / 3) * torch.tensor([[0.05], [0.0873]])
            start = frame.T_wc @ se3.exp((reach * xi).reshape(1, 6))
            found, losses = start, []
            for stage in STAGES:
                found, curve = localise(view, found, frame, stage, steps)
                losses += curve
            errors.append((*off(start, frame.T_wc), *off(found, frame.T_wc)))
            curves.append(losses)
            if i == 0:
                with torch.no_grad():
                    pictures[name] = [view(T)[0][0].clamp(0, 1) for T in (start, found)]
        e = torch.tensor(errors)
        there = (e[:, 2] < 0.002) & (e[:, 3] < 0.1)
        numbers[name] = {
            "starts": starts,
            "there": int(there.sum()),
            "start, cm and degrees": [100 * e[:, 0].mean().item(), e[:, 1].mean().item()],
            "end, mm and degrees (median)": [1000 * e[:, 2].median().item(), e[:, 3].median().item()],
            "end, mm and degrees (worst)": [1000 * e[:, 2].max().item(), e[:, 3].max().item()],
        }  # fmt: skip
        pictures[name].append(curves)
    out.mkdir(parents=True, exist_ok=True)
    (out / "pose_from_image.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "pose_from_image.png", frame.color[0], pictures)
    print(json.dumps(numbers, indent=2))
    return numbers


def draw(path: Path, image: Tensor, pictures: dict[str, list]) -> None:
    """The image, what is seen from the first start and from where it ended, and the descents of all."""
    figure = Figure(figsize=(13, 6), dpi=120, layout="constrained")
    rows = figure.subplots(2, 4)
    for axes, (name, (start, found, curves)) in zip(rows, pictures.items(), strict=True):
        titles = "image", f"{name}, from the start", "from where it ended"
        for ax, picture, title in zip(axes, (image, start, found), titles, strict=False):
            ax.imshow(picture.numpy())
            ax.set(xticks=[], yticks=[], title=title)
        for curve in curves:
            axes[3].semilogy(curve, lw=1)
        axes[3].set(xlabel="evaluation", title="difference")
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
