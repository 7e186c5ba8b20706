"""Novel views: what a map shows from where it was not built, beside the photographs taken there.

PointFusion tracks a sequence; at the poses that it found, every second frame builds a volume and a surfel map. The
frames between are held back from both, and rendered.

    python -m demos.novel_views SOURCE --out out
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from kornia.metrics import ssim
from matplotlib.figure import Figure
from torch import Tensor

import gradslam_ng as gs

EDGE = 0.1  # meters


def figures(color: Tensor, depth: Tensor, frame: gs.RGBDFrames) -> dict[str, float]:
    """How a view (1, H, W, C) compares to the photograph, where both have depth: PSNR, SSIM, depth L1 and median.

    Of depth also the share of the L1 that comes from the pixels that are off by more than `EDGE`: outlines, where the
    two see different surfaces.
    """
    mask = (depth > 0) & (frame.depth > 0)
    away = (depth - frame.depth)[mask].abs()
    error = (color - frame.color)[mask[..., 0]].square().mean()
    window = ssim(color.movedim(-1, 1).clamp(0, 1), frame.color.movedim(-1, 1), 11).mean(1)[..., None]
    return {
        "psnr_db": float(-10 * error.log10()),
        "ssim": float(window[mask].mean()),
        "depth_l1_cm": 100 * float(away.mean()),
        "depth_median_cm": 100 * float(away.median()),
        "outlines": float((away > EDGE).float().mean()),
        "outlines_share_of_l1": float(away[away > EDGE].sum() / away.sum().clamp(min=1e-12)),
        "shown": float(mask.sum() / (frame.depth > 0).sum()),
    }


def estimate_poses(sequence: gs.datasets.RGBDSequence) -> gs.datasets.RGBDSequence:
    """The same frames, with the poses that SLAM finds for them.

    Raises:
        ValueError: a frame could not be read or was lost.
    """
    result = gs.PointFusion().run(sequence)
    if len(result.tracked) < len(sequence) or not result.tracked.all():
        raise ValueError(f"{sequence.name}: expected to track {len(sequence)} frames, got {int(result.tracked.sum())}")
    posed = copy.copy(sequence)
    posed.T_wc = result.trajectory.T_wc
    return posed


@torch.no_grad()
def main(
    source: tyro.conf.Positional[str] = "synthetic:living_room",
    /,
    out: Path = Path("out"),
    frames: int = 60,
    views: int = 6,
    poses: Literal["estimated", "given"] = "estimated",
    scale: int = 2,
) -> dict:
    """Write novel_views.png and .json.

    Args:
        source: folder of a sequence, or synthetic:NAME.
        out: folder for both.
        frames: the first so many, which are tracked; those with even numbers build the maps.
        views: of frames with odd numbers, spread over the sequence.
        poses: those that PointFusion finds, or those that come with the frames.
        scale: views are that many times smaller than the photographs.
    """
    sequence = gs.datasets.load(source)[:frames]
    shown = [2 * (i * (len(sequence) // 2) // views) + 1 for i in range(views)]
    sequence = estimate_poses(sequence) if poses == "estimated" else sequence
    volume = gs.KinectFusion(odometry="ground-truth").run(sequence[::2]).map
    surfels = gs.PointFusion("ground-truth").run(sequence[::2]).map
    numbers, pictures = {"volume": [], "surfels": []}, []
    for i in shown:
        live = gs.preprocessing.measure_surface(sequence[i].map(lambda value: value[None]), scale)
        frame = gs.RGBDFrames(live.color, live.surface.vertices[..., 2:], live.surface.K, live.T_wc)
        cast = gs.raycast(volume, frame.T_wc, frame.K, frame.size)
        drawn = gs.render(surfels, frame.T_wc, frame.K, frame.size)
        for name, view in (("volume", cast), ("surfels", drawn)):
            numbers[name].append(figures(view.color, view.depth, frame))
        pictures.append((frame.color, cast.color, drawn.color, frame.depth, cast.depth))
    means = {name: {k: float(np.mean([row[k] for row in rows])) for k in rows[0]} for name, rows in numbers.items()}
    result = {"sequence": sequence.name, "frames": len(sequence), "poses": poses, "views": shown, **means}
    out.mkdir(parents=True, exist_ok=True)
    (out / "novel_views.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(out / "novel_views.png", pictures[:: max(1, views // 3)])
    print(json.dumps(result, indent=2))
    return result


def draw(path: Path, pictures: list[tuple[Tensor, ...]]) -> None:
    """Photograph, volume and surfels in color; depth as measured and as ray-cast."""
    figure = Figure(figsize=(15, 2.4 * len(pictures)), dpi=110, layout="constrained")
    titles = "photograph, not in the map", "volume", "surfels", "depth, measured", "depth, volume"
    for row, images in zip(figure.subplots(len(pictures), 5, squeeze=False), pictures, strict=True):
        top = float(images[3].max())
        for ax, image, title in zip(row, images, titles, strict=True):
            picture = image[0].clamp(0, 1) if image.shape[-1] == 3 else np.ma.masked_equal(image[0, ..., 0].numpy(), 0)
            ax.imshow(picture, vmin=0, vmax=top)
            ax.set(xticks=[], yticks=[], title=title)
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
