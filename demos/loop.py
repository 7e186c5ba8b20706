"""A loop: drift before, closed after, and the map in two pictures.

A camera is carried around the living room and a fifth of the way again. Its odometry turns a little too far at every
frame, as one may whose gyroscope is not calibrated: tracking against the map does not tell, as the map is made with the
same bias, until the camera sees the first wall again where that wall is not. The same frames are run without loops and
with `LoopCloser`: poses, errors and maps, both seen from above.

    python -m demos.loop --out out
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.datasets import RGBDSequence, Synthetic
from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser
from gradslam_ng.odometry import ProjectiveICP, TrackingResult
from gradslam_ng.rendering import render
from gradslam_ng.slam import Result
from gradslam_ng.structures import LiveFrame, SurfaceView


class Biased(ProjectiveICP):
    """ICP that turns the camera by `bias`, radians about the vertical, too far at every frame."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.bias = bias

    def forward(
        self, live: LiveFrame, model: SurfaceView, T_wc_init: Tensor, T_wc_last: Tensor | None = None
    ) -> TrackingResult:
        found = super().forward(live, model, T_wc_init, T_wc_last)
        twist = torch.tensor([0, 0, 0, 0, self.bias, 0]).to(found.T_wc)
        return replace(found, T_wc=found.T_wc @ se3.exp(twist))


def main(
    out: Path = Path("out"), room: str = "living_room", frames: int = 600, part: float = 0.6,
    size: tuple[int, int] = (120, 160), bias: float = 0.5, window: int = 100,
) -> dict:  # fmt: skip
    """Write loop.png and loop.json.

    Args:
        out: Folder for both.
        room: To walk around in.
        frames: In which the camera would go around twice.
        part: Of these that it does.
        size: Image height and width.
        bias: Of odometry, degrees a frame.
        window: Frames after which what is not seen is looked for as a loop.
    """
    sequence = Synthetic(room, frames=frames, size=size, noise="kinect", path="loop")[: int(part * frames)]
    results, figures = compare_views(sequence, math.radians(bias), window)
    figures |= {"frames": len(sequence), "bias": bias}
    out.mkdir(parents=True, exist_ok=True)
    draw(out / "loop.png", sequence, results, figures)
    (out / "loop.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return figures


def compare_views(sequence: RGBDSequence, bias: float, window: int) -> tuple[dict[str, Result], dict]:
    """The sequence without loops and with them, and the figures of both."""
    results, figures = {}, {}
    for name, loops in (("without loops", None), ("with loops", LoopCloser(window, drift=0.05))):
        result = results[name] = gs.PointFusion(Biased(bias)).run(sequence, loops=loops, compile=False)
        ate = gs.evaluation.ate(sequence.ground_truth, result.trajectory)
        figures[name] = {"ate_cm": 100 * ate.rmse, "worst_cm": 100 * ate.max, "surfels": int(result.map.count[0])}
        figures[name]["loops"] = result.loops
    return results, figures


def draw(path: Path, sequence: RGBDSequence, results: dict[str, Result], figures: dict) -> None:
    """Both maps from above without their ceilings, and both ways over the true one."""
    figure = Figure(figsize=(15, 5.6), layout="constrained")
    for axes, (name, result) in zip(figure.subplots(1, 3), [*results.items(), ("", None)], strict=True):
        axes.set_aspect("equal")
        if result is not None:
            image, extent = from_above(result.map)
            axes.imshow(image, extent=extent)
            axes.plot(*result.trajectory.T_wc[:, :2, 3].T, color="crimson", lw=1.5)
            axes.set_title(f"{name}: ATE {figures[name]['ate_cm']:.2f} cm")
            axes.set_axis_off()
    axes.plot(*sequence.T_wc[:, :2, 3].T, color="0.6", lw=4, label="true")
    for (name, result), style in zip(results.items(), ("-", "--"), strict=True):
        axes.plot(*result.trajectory.T_wc[:, :2, 3].T, style, lw=1.5, label=name)
    axes.set(xlabel="x [m]", ylabel="y [m]", title="the way of the camera")
    axes.legend()
    figure.savefig(path, dpi=110)


def from_above(map_: gs.SurfelMap, ceiling: float = 2.2, side: int = 700) -> tuple[Tensor, list[float]]:
    """A map below `ceiling`, meters, looked down on from 40 m, so nearly without perspective. The image, on white, and
    its extent in the world."""
    low = map_.compact(map_.points[..., 2] < ceiling)
    points = low[0].points[0]
    near, far = points[:, :2].quantile(points.new_tensor([0.002, 0.998]), dim=0)
    middle, half = (near + far) / 2, 0.55 * float((far - near).max())
    T_wc = torch.eye(4)
    T_wc[:3, :3] = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    T_wc[:3, 3] = torch.tensor([float(middle[0]), float(middle[1]), 40.0])
    K = torch.tensor([[20 * side / half, 0, side / 2], [0, 20 * side / half, side / 2], [0, 0, 1]])
    view = render(low, T_wc[None], K[None], (side, side), max_radius=4)
    image = (view.color * view.alpha + 1 - view.alpha)[0].clamp(0, 1)
    x, y = map(float, middle)
    return image, [x - half, x + half, y - half, y + half]


if __name__ == "__main__":
    tyro.cli(main)
