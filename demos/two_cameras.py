"""Two cameras on one rig: how they are mounted, from what each of them saw, and what every measurement had to say.

Two depth cameras that look in different directions are carried through a room. Each finds its own motion by SLAM, in
its own frame. The motions of one rig differ by the mounting only, A X = X B (hand-eye calibration; Horaud and Dornaika
1995): one factor a pair of frames, one unknown X = T_ab, solved as a factor graph. Both steps are differentiable, so
the calibration has a gradient to every motion, and through SLAM to every depth pixel of both cameras: the picture shows
which ones it rests upon.

    python -m demos.two_cameras --out out
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.datasets.synthetic import noise as sensor
from gradslam_ng.datasets.synthetic.paths import camera_path
from gradslam_ng.datasets.synthetic.render import render
from gradslam_ng.datasets.synthetic.rooms import room
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.geometry import se3

MOUNTING = torch.tensor([0.25, 0.05, -0.10, 0.1, math.radians(50), 0.05], dtype=torch.float64)  # T_ab = exp of it
SIGMA = torch.tensor([0.005] * 3 + [0.004] * 3, dtype=torch.float64)  # of a motion found by SLAM, meters and radians


def clips(frames: int, every: int, size: tuple[int, int]) -> gs.RGBDFrames:
    """What both cameras see (2, frames), with Kinect noise, from each `every`-th of a shaky walk's frames."""
    scene, K = room("living_room"), default_intrinsics(size)
    T_wa = camera_path("fast", scene, frames * every, seed=1)[1][::every]
    views = []
    for seed, T_wc in enumerate((T_wa, T_wa @ se3.exp(MOUNTING))):
        seen = []
        for k, T in enumerate(T_wc):
            view = render(scene, T, K, size)
            images = sensor.kinect(view.color.float(), view.depth.float(), view.normal.float(), K, 1000 * seed + k)
            seen.append(gs.RGBDFrames(*images, K.float(), None))
        views.append(gs.RGBDFrames.stack(seen))
    return gs.RGBDFrames.stack(views)


def calibrate(A: Tensor, B: Tensor, backward: str = "implicit") -> tuple[Tensor, Tensor]:
    """T_ab (4, 4) and its covariance (6, 6), from motions A and B (M, 4, 4) of the two cameras over the same times."""
    graph = gs.FactorGraph()
    graph.add_variables("T_ab", optim.SE3(), torch.eye(4, dtype=A.dtype)[None])
    together = torch.zeros(len(A), dtype=torch.int64)

    def disagreement(X: Tensor) -> Tensor:
        return se3.log(se3.inverse(A) @ X @ B @ se3.inverse(X))

    weight = optim.DiagonalWeight((1 / SIGMA).expand(len(A), 6))
    graph.add_factor(disagreement, ("T_ab", together), weight=weight, kernel=optim.Cauchy(3.0))
    solution = graph.optimize(optim.LevenbergMarquardt(), iterations=60, backward=backward)
    return solution["T_ab"][0], solution.covariance("T_ab", [0])[0].detach()


def motions(T_wc: Tensor, spans: tuple[int, ...]) -> Tensor:
    """From each frame to those `spans` later, (M, 4, 4), of poses (L, 4, 4)."""
    return torch.cat([se3.inverse(T_wc[:-s]) @ T_wc[s:] for s in spans])


def main(
    out: Path = Path("out"), size: tuple[int, int] = (120, 160), frames: int = 24, every: int = 3,
    spans: tuple[int, ...] = (4, 8, 16),
) -> dict:  # fmt: skip
    """Write two_cameras.png and .json.

    Args:
        out: folder for both.
        size: image height and width.
        frames: of each camera.
        every: frames of the walk from one of them to the next.
        spans: frames between the two ends of a motion that is compared.
    """
    began = time.perf_counter()
    seen = clips(frames, every, size)
    depth = seen.depth.clone().requires_grad_()
    _, T_wc = gs.PointFusion()(replace(seen, depth=depth), checkpoint=True)
    T_wc = T_wc.double()
    A, B = (motions(T, spans) for T in T_wc)
    A.retain_grad(), B.retain_grad()
    T_ab, covariance = calibrate(A, B)

    truth = se3.exp(MOUNTING)
    error = se3.log(T_ab @ se3.inverse(truth))
    xi = error.detach()
    error.square().sum().sqrt().backward()  # how to change the measurements so that the calibration gets better
    pixels = depth.grad.abs()[..., 0]
    offsets = (T_ab.detach()[:3, 3] - truth[:3, 3]).norm()
    numbers = {
        "translation error, mm": 1e3 * float(offsets),
        "rotation error, degrees": math.degrees(float(xi[3:].norm())),
        "expected by the graph, mm and degrees": [
            1e3 * float(covariance[:3, :3].trace().sqrt()), math.degrees(float(covariance[3:, 3:].trace().sqrt()))
        ],
        "motions": len(A),
        "mounting, meters and degrees": [float(truth[:3, 3].norm()), math.degrees(float(MOUNTING[3:].norm()))],
        "check of one gradient, relative": check(A.detach(), B.detach(), A.grad, truth),
        "seconds": time.perf_counter() - began,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "two_cameras.json").write_text(json.dumps(numbers, indent=2) + "\n")
    angles = [se3.log(M.detach())[:, 3:].norm(dim=-1).rad2deg() for M in (A, B)]
    draw(out / "two_cameras.png", seen, pixels, [A.grad, B.grad], angles[0], spans, frames)
    print(json.dumps(numbers, indent=2))
    return numbers


def check(A: Tensor, B: Tensor, gradient: Tensor, truth: Tensor) -> float:
    """The gradient to the motions, along a random twist of them all, against a central difference."""
    twist = torch.randn(len(A), 6, dtype=A.dtype, generator=torch.Generator().manual_seed(0))

    def error(h: float) -> Tensor:
        T_ab, _ = calibrate(se3.exp(h * twist) @ A, B, "detach")
        return se3.log(T_ab @ se3.inverse(truth)).norm()

    numeric = (error(1e-5) - error(-1e-5)) / 2e-5
    _, change = torch.func.jvp(lambda h: se3.exp(h * twist) @ A, (A.new_zeros(()),), (A.new_ones(()),))
    return float(((gradient * change).sum() - numeric).abs() / numeric.abs())


def draw(
    path: Path, seen: gs.RGBDFrames, pixels: Tensor, gradients: list[Tensor], angle: Tensor, spans, frames
) -> None:
    """A frame of each camera with the pixels that the calibration rests on, and the pull of each motion."""
    figure = Figure(figsize=(12, 6.2), dpi=80, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    frame = int(pixels.flatten(2).sum(-1).sum(0).argmax())
    for row, name in zip(left.subplots(2, 2), "ab", strict=True):
        camera = "ab".index(name)
        row[0].imshow(seen.color[camera, frame].numpy())
        row[0].set_title(f"camera {name}, frame {frame}")
        strength = pixels[camera, frame].numpy()
        row[1].imshow(strength, cmap="inferno", vmax=np.quantile(strength, 0.995))
        row[1].set_title("|d calibration error / d depth|")
        for axes in row:
            axes.set(xticks=[], yticks=[])
    above, below = right.subplots(2, 1)
    starts = np.concatenate([np.arange(frames - s) + s / 2 for s in spans])
    span = np.concatenate([np.full(frames - s, s) for s in spans])
    pull = [g.flatten(1).norm(dim=-1).numpy() for g in gradients]
    for s, color in zip(spans, ("#92c5de", "#4393c3", "#053061"), strict=False):
        here = span == s
        above.plot(starts[here], pull[0][here], "o-", ms=3, color=color, label=f"camera a, {s} frames")
        above.plot(starts[here], pull[1][here], "x--", ms=4, color=color, label=f"camera b, {s} frames")
        below.plot(angle.numpy()[here], pull[0][here], "o", ms=4, color=color, label=f"{s} frames")
    above.set(xlabel="middle of the motion, frame", ylabel="|d error / d motion|", title="pull of each motion")
    above.legend(frameon=False, fontsize=7, ncols=len(spans))
    below.set(xlabel="turn of the motion, degrees", ylabel="|d error / d motion|", title="by how far the rig turned")
    below.legend(frameon=False, fontsize=7)
    for axes in (above, below):
        axes.set_ylim(0, 1.3 * max(float(p.max()) for p in pull))
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
