"""Bundle adjustment by rendering: poses and map of a short clip refined together until the map shows what was seen.

The poses of a noisy clip are disturbed, each on its own, and a surfel map is fused at them. Then Adam moves all poses
but the first, and the height and color of every surfel, down the difference between the images and what the map shows
from the poses: one loss, one backward pass through the renderer for all. Nothing is matched, no frame is fused again.

    python -m demos.bundle_by_rendering --out out
    python -m demos.bundle_by_rendering --clips 10 --seed 100    # the figures of demos/README.md
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import gradslam_ng as gs
from demos.pose_from_image import Difference
from gradslam_ng.evaluation import ate
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory

DEPTH, COLOR = (0.05, 0.01), (0.2, 0.1)  # meters and shades at which a difference counts half of its most; first, last
# of Adam, first: meters and radians of a pose, meters of a surfel along its normal, shades
STEP = (2e-3, 1.5e-3, 1e-3, 1e-2)


def perturb(T_wc: Tensor, meters: float, degrees: float, generator: torch.Generator) -> Tensor:
    """Poses (L, 4, 4) with all but the first moved at random: standard deviations of shift and turn along each axis."""
    xi = torch.randn(len(T_wc), 6, generator=generator) * torch.tensor([meters] * 3 + [math.radians(degrees)] * 3)
    xi[0] = 0
    return T_wc @ se3.exp(xi)


def adjust(
    map_: gs.SurfelMap, T_wc: Tensor, clip: gs.RGBDFrames, steps: int
) -> tuple[gs.SurfelMap, Tensor, list[Tensor]]:
    """The map (a batch of one) and the poses (L, 4, 4) of a clip (L,), refined, and the poses on the way.

    Surfels move along their normals alone: sideways they would only crowd and leave holes.
    """
    length, still = len(T_wc), map_[0]
    shift, turn = (torch.zeros(length - 1, 3, requires_grad=True) for _ in range(2))
    height = torch.zeros_like(still.radii[..., None]).requires_grad_()
    colors = still.colors.clone().requires_grad_()
    parameters = zip((shift, turn, height, colors), STEP, strict=True)
    optimizer = torch.optim.Adam([{"params": [x], "lr": lr} for x, lr in parameters], betas=(0.8, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: 0.05 + 0.475 * (1 + math.cos(math.pi * i / steps))
    )

    def now() -> tuple[gs.SurfelMap, Tensor]:
        moved = T_wc[1:] @ se3.exp(torch.cat([shift, turn], -1))  # about each camera
        return replace(still, points=still.points + height * still.normals, colors=colors), torch.cat([T_wc[:1], moved])

    way = []
    for i in range(steps):
        one, poses = now()
        many = one.map(lambda x: x.expand(length, *x.shape[1:]))  # the same for each frame
        depth, color = (a * (b / a) ** (i / steps) for a, b in (DEPTH, COLOR))
        loss = Difference(partial(gs.render, many), clip, 1, depth, color).error(poses).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        way.append(poses.detach())
    return *(x.detach() for x in now()), way


def main(
    out: Path = Path("out"),
    clips: int = 3,
    seed: int = 0,
    frames: int = 8,
    steps: int = 60,
    meters: float = 0.01,
    degrees: float = 0.5,
    size: tuple[int, int] = (90, 120),
    rooms: tuple[str, ...] = ("living_room",),
) -> dict:
    """Write bundle_by_rendering.png and .json.

    Args:
        out: folder for both.
        clips: how many, each with a motion, noise and disturbance of its own.
        seed: of the first.
        frames: of each clip, 4 apart.
        steps: of descent.
        meters: standard deviation of the disturbance along each axis.
        degrees: likewise, of its rotation.
        size: height and width of the images.
        rooms: that take turns, see `gs.datasets.Synthetic`.
    """
    rows, picture = [], None
    for i in range(clips):
        room = rooms[i % len(rooms)]
        sequence = gs.datasets.Synthetic(room, frames=4 * frames, size=size, noise="kinect", seed=seed + i)
        clip = gs.RGBDFrames.stack([sequence[j] for j in range(0, 4 * frames, 4)]).to(dtype=torch.float32)
        times = torch.arange(frames, dtype=torch.float64)
        truth = Trajectory(times, clip.T_wc.double())
        start = perturb(clip.T_wc, meters, degrees, torch.Generator().manual_seed(seed + i))
        with torch.no_grad():
            fused, _ = gs.PointFusion("ground-truth", factor=1)(replace(clip, T_wc=start))
        began = time.process_time()
        map_, found, way = adjust(fused, start, clip, steps)
        spent = time.process_time() - began
        errors = [100 * ate(truth, Trajectory(times, T.double())).rmse for T in (*way, found)]
        before, after = errors[0], errors[-1]
        rows.append(
            {"room": room, "seed": seed + i, "ATE before, cm": before, "ATE after, cm": after, "seconds": spent}
        )
        print(json.dumps(rows[-1]), flush=True)
        picture = picture or (clip, (fused, start), (map_, found), errors)
    before, after = (torch.tensor([row[f"ATE {x}, cm"] for row in rows]) for x in ("before", "after"))
    result = {
        "clips": clips,
        "better": int((after < before).sum()),
        "ATE before, cm (mean)": float(before.mean()),
        "ATE after, cm (mean)": float(after.mean()),
        "after / before (worst)": float((after / before).max()),
        "each": rows,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "bundle_by_rendering.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(out / "bundle_by_rendering.png", *picture)
    print(json.dumps({k: v for k, v in result.items() if k != "each"}, indent=2))
    return result


@torch.no_grad()
def draw(path: Path, clip: gs.RGBDFrames, before: tuple, after: tuple, errors: list[float]) -> None:
    """An image in the middle, what the map shows from there before and after, both differences, and the ATE."""
    figure = Figure(figsize=(13, 4.8), dpi=70, layout="constrained")
    axes = figure.subplots(2, 3).flatten()
    i = len(clip) // 2
    shown = {"image": clip.color[i]}
    for name, (map_, T_wc) in (("before", before), ("after", after)):
        shown[name] = gs.render(map_[0], T_wc[i : i + 1], clip.K[i : i + 1], clip.size).color[0]
    for name in ("before", "after"):
        shown[f"difference, {name}"] = 0.5 + 2 * (shown[name] - clip.color[i])
    for ax, (name, image) in zip(axes, shown.items(), strict=False):
        ax.imshow(image.clamp(0, 1).numpy())
        ax.set(xticks=[], yticks=[], title=name)
    axes[5].plot(errors)
    axes[5].set(xlabel="step", title="ATE, cm", ylim=(0, None))
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
