"""Registration of color to depth learned from images alone: where the color camera is, and its K, without poses.

A color camera stands beside a depth camera, and nobody has calibrated the two: the mounting and the color camera's K
are guesses. SLAM finds the motion from depth alone, which knows nothing of color. Then every depth pixel of one frame,
carried by that motion into another, must have the same color there: the gradient of what differs, back through
projection, motion and `register_color`, leads to the mounting, the focal length and the center. No pose, no calibration
target and no ground truth is used.

    python -m demos.registration --out out
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import gradslam_ng as gs
from demos.common.clips import resident_memory
from demos.common.recordings import DATA, FOLDERS
from gradslam_ng.datasets.synthetic import noise as sensor
from gradslam_ng.datasets.synthetic.paths import camera_path
from gradslam_ng.datasets.synthetic.render import render
from gradslam_ng.datasets.synthetic.rooms import room
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.geometry import camera, images, se3
from gradslam_ng.geometry.registration import register_color
from gradslam_ng.odometry import ProjectiveICP

MOUNTING = torch.tensor([-0.05, 0.01, 0.005, 0.01, -0.015, 0.012], dtype=torch.float64)  # T_color_depth = exp of it
SAME_DEPTH = 0.02  # relative: what another frame measures so near is the same surface
# what the guess is off: translation, rotation, focal length and center, each in about pixels of the image
OFF = torch.tensor([2.0, -3.0, 1.0, 2.0, 3.0, -2.0, 3.0, -3.0, 2.0])
UNSEEN = (40, 260)  # frames of the kitchen, where clips begin that are not learned from
KERNEL = 0.1  # of intensity: differences from which on a pair counts less and less


@dataclass(frozen=True)
class Clip:
    """Frames of two cameras, (L, ...), and how the depth camera moved."""

    color: Tensor  # (L, H', W', 3)
    depth: Tensor  # (L, H, W, 1), meters
    K_depth: Tensor  # (3, 3)
    T_wc: Tensor  # (L, 4, 4), of the depth camera, as SLAM found it
    pairs: Sequence[tuple[int, int]]  # of frames that are compared


@dataclass(frozen=True)
class Cameras:
    """What is learned, as offsets from a guess in units that each move the image by about a pixel."""

    K: Tensor  # (3, 3), of color
    T_color_depth: Tensor  # (4, 4)

    def moved(self, offset: Tensor) -> Cameras:
        """By offsets (9,): translation, rotation, focal length, center."""
        f = self.K[0, 0].detach()
        twist = torch.cat([2.0 * offset[:3], offset[3:6]]) / f  # of what is 2 m away
        u, v, one = self.K.unbind(0)
        zoom = 1.0 + 2.0 * offset[6] / f
        zero = torch.zeros_like(zoom)
        u = torch.stack([zoom * u[0], u[1], u[2] + offset[7]])
        v = torch.stack([zero, zoom * v[1], v[2] + offset[8]])
        return Cameras(torch.stack([u, v, one]), se3.exp(twist) @ self.T_color_depth)


def misfit(clip: Clip, cameras: Cameras) -> Tensor:
    """Mean robust difference in intensity of what two frames see of the same points, over all pairs; in [0, 1].

    Brightness may change by a gain and a bias from frame to frame.
    """
    registered, seen = register_color(clip.color, clip.depth, cameras.K, clip.K_depth, cameras.T_color_depth)
    bright, raw = images.intensity(registered)[..., 0].flatten(1), images.intensity(clip.color)
    vertices = camera.unproject(clip.depth, clip.K_depth).flatten(1, 2)
    total, count = bright.new_zeros(()), bright.new_zeros(())
    for i, j in clip.pairs:
        p_j = se3.transform((se3.inverse(clip.T_wc[j]) @ clip.T_wc[i]).to(vertices), vertices[i])
        uv, z = camera.project(p_j, clip.K_depth)
        there = camera.sample(torch.cat([clip.depth[j], seen[j].to(z.dtype)], -1), uv[None], "nearest")[0]
        uv, z_color = camera.project(se3.transform(cameras.T_color_depth, p_j), cameras.K)
        color = camera.sample(torch.cat([raw[j], torch.ones_like(raw[j])], -1), uv[None])[0]
        same = (there[:, 0] - z).abs() < SAME_DEPTH * z
        use = seen[i].flatten() & same & (there[:, 1] > 0) & (z_color > 0) & (color[:, 1].detach() > 0.999)
        difference = exposed(color[:, 0], bright[i], use.to(z.dtype))
        square = (difference / KERNEL).square()
        total = total + (use * square / (1.0 + square)).sum()
        count = count + use.sum()
    return total / count.clamp(min=1)


def exposed(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """a - b (N,) after the gain and the bias, without gradient, that bring a nearest to b."""
    with torch.no_grad():
        total = weight.sum().clamp(min=1)
        mean_a, mean_b = (weight * a).sum() / total, (weight * b).sum() / total
        spread_a, spread_b = ((weight * (x - m).square()).sum() + 1e-6 for x, m in ((a, mean_a), (b, mean_b)))
        gain = (spread_b / spread_a).sqrt()
    return gain * (a - mean_a) + mean_b - b


class Step(NamedTuple):
    """Of a descent."""

    misfit: float
    cameras: Cameras
    megabytes: float  # that the process holds


def descend(clip: Clip, start: Cameras, free: Tensor, steps: int, rate: float) -> list[Step]:
    """Each step of Adam on those of the nine offsets that are `free` (9,), 1 or 0."""
    offset = torch.zeros(9, dtype=start.K.dtype).requires_grad_()
    descent = torch.optim.Adam([offset], lr=rate, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    history = []
    for _ in range(steps + 1):
        cameras = start.moved(offset * free)
        loss = misfit(clip, cameras)
        cameras = Cameras(cameras.K.detach(), cameras.T_color_depth.detach())
        history.append(Step(float(loss.detach()), cameras, resident_memory()))
        descent.zero_grad()
        loss.backward()
        descent.step()
        schedule.step()
    return history


@torch.no_grad()
def found_motion(depth: Tensor, K: Tensor) -> Tensor:
    """The motion (L, 4, 4) of a depth camera, by SLAM from depth (L, H, W, 1) alone."""
    frames = gs.RGBDFrames(torch.full((*depth.shape[:-1], 3), 0.5), depth, K)
    return gs.PointFusion(ProjectiveICP(photometric=False))(frames[None])[1][0]


def neighbors(count: int) -> list[tuple[int, int]]:
    """Each of so many frames with the next two."""
    return [(i, j) for i in range(count) for j in (i + 1, i + 2) if j < count]


def rendered(frames: int, size: tuple[int, int], seed: int) -> tuple[Clip, Cameras]:
    """Every fourth frame of a shaky walk through a room, with Kinect noise, and the true cameras."""
    scene, K = room("living_room"), default_intrinsics(size)
    color_size = size[0] * 5 // 4, size[1] * 5 // 4
    K_color = default_intrinsics(color_size)
    K_color[:2, :2] *= 1.1
    T_dc = se3.exp(-MOUNTING)
    color, depth = [], []
    for k, T in enumerate(camera_path("fast", scene, 4 * frames, seed=seed)[1][::4]):
        view, seen = render(scene, T, K, size), render(scene, T @ T_dc, K_color, color_size)
        depth.append(sensor.kinect(view.color.float(), view.depth.float(), view.normal.float(), K, k)[1])
        color.append(sensor.kinect(seen.color.float(), seen.depth.float(), seen.normal.float(), K_color, 1000 + k)[0])
    images_of_depth = torch.stack(depth)
    T_wc = found_motion(images_of_depth, K.float())
    clip = Clip(torch.stack(color), images_of_depth, K.float(), T_wc, neighbors(frames))
    return clip, Cameras(K_color.float(), se3.exp(MOUNTING).float())


def recorded(sequence: gs.datasets.RGBDSequence, first: int, frames: int) -> Clip:
    """Every fourth frame of a recording from `first` on, at half its size."""
    chosen = gs.RGBDFrames.stack([sequence[first + 4 * i] for i in range(frames)])
    depth = images.downsample_depth(chosen.depth, 2)
    K = camera.scale_intrinsics(sequence.K, 0.5)
    return Clip(images.downsample_color(chosen.color, 2), depth, K, found_motion(depth, K), neighbors(frames))


def displacement(clip: Clip, a: Cameras, b: Cameras) -> Tensor:
    """How far apart, (N, 2) pixels of color, two cameras see every point that was measured."""
    points = camera.unproject(clip.depth, clip.K_depth).flatten(0, 2)
    points = points[points[:, 2] > 0]
    (at_a, _), (at_b, _) = (camera.project(se3.transform(c.T_color_depth, points), c.K) for c in (a, b))
    return at_a - at_b


def root_mean_square(d: Tensor) -> float:  # (N, 2)
    return float(d.square().sum(-1).mean().sqrt())


def learn_rendered(frames: int, size: tuple[int, int], steps: int) -> tuple[dict, list[Step], Clip]:
    """Figures of the rendered room, the descent, and frames that were not learned from."""
    clip, truth = rendered(frames, size, seed=2)
    unseen, _ = rendered(max(3, frames // 4), size, seed=5)
    start = truth.moved(OFF)
    history = descend(clip, start, torch.ones(9), steps, rate=0.3)
    at_first = displacement(unseen, start, truth)
    constant = displacement(clip, start, truth).mean(0)  # the best there is, from the truth
    errors = [root_mean_square(displacement(unseen, step.cameras, truth)) for step in history]
    numbers = {
        "frames": frames,
        "off before, pixels": root_mean_square(at_first),
        "off with the best constant, pixels": root_mean_square(at_first - constant),
        "off after, pixels": errors[-1],
        "misfit before": history[0].misfit,
        "misfit after": history[-1].misfit,
        "memory after a tenth of the steps and at the end, MB": [history[steps // 10].megabytes, history[-1].megabytes],
        "off by step, pixels": errors,
    }
    return numbers, history, unseen


@torch.no_grad()
def learn_recorded(folder: Path, frames: int, steps: int) -> dict:
    """Misfit of frames of the kitchen that were not learned from: as recorded, with a constant shift, all learned."""
    sequence = gs.datasets.load(folder)
    clip, unseen = recorded(sequence, 0, frames), [recorded(sequence, first, frames) for first in UNSEEN]
    start = Cameras(clip.K_depth, torch.eye(4))
    center = torch.tensor([0.0] * 7 + [1.0] * 2)
    found = {"as recorded": start}
    for name, free in (("constant", center), ("learned", torch.ones(9))):
        with torch.enable_grad():
            found[name] = descend(clip, start, free, steps, rate=0.15)[-1].cameras
    shift = 2 * displacement(unseen[0], found["learned"], start)
    return {
        "misfit of other frames": {
            name: float(np.mean([float(misfit(other, cameras)) for other in unseen])) for name, cameras in found.items()
        },
        "shift learned, pixels of 640x480": shift.mean(0).tolist(),
        "shift learned varies by, pixels of 640x480": root_mean_square(shift - shift.mean(0)),
    }


def main(
    out: Path = Path("out"),
    data: Path = DATA,
    size: tuple[int, int] = (120, 160),
    frames: int = 10,
    steps: int = 60,
) -> dict:
    """Write registration.png and .json.

    Args:
        out: folder for both.
        data: folder of recordings; without the kitchen's the rendered room alone is learned from.
        size: height and width of rendered depth images.
        frames: of the rendered clip.
        steps: of gradient descent.
    """
    numbers, history, unseen = learn_rendered(frames, size, steps)
    result = {"rendered": numbers}
    print(f"rendered: {numbers['off before, pixels']:.2f} to {numbers['off after, pixels']:.2f} pixels", flush=True)
    kitchen = data / FOLDERS["7-Scenes kitchen"]
    if kitchen.is_dir():
        result["kitchen"] = learn_recorded(kitchen, frames=6, steps=steps // 2)
    else:
        print(f"kitchen: left out, no {kitchen}; set GRADSLAM_NG_DATA to the folder of recordings")
    out.mkdir(parents=True, exist_ok=True)
    (out / "registration.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(out / "registration.png", result, history, unseen)
    print(json.dumps({name: {k: v for k, v in found.items() if "step" not in k} for name, found in result.items()}))
    return result


@torch.no_grad()
def draw(path: Path, result: dict, history: list[Step], clip: Clip) -> None:
    """Misfit and error by step; the edges of depth over color as registered at first and in the end."""
    figure = Figure(figsize=(13.5, 4.2), dpi=120, layout="constrained")
    axes = figure.subplot_mosaic([["misfit", "first", "last"], ["off", "first", "last"]], width_ratios=[1, 1.3, 1.3])
    axes["misfit"].plot([step.misfit for step in history], color="0.2", lw=2)
    axes["misfit"].set(ylabel="misfit", ylim=(0, None), xlim=(0, len(history) - 1))
    axes["off"].plot(result["rendered"]["off by step, pixels"], lw=2, label="learned")
    axes["off"].axhline(
        result["rendered"]["off with the best constant, pixels"], color="0.5", ls="--", label="constant"
    )
    axes["off"].set(ylabel="off, pixels", xlabel="step", ylim=(0, None), xlim=(0, len(history) - 1))
    axes["off"].legend()
    z = clip.depth[0, ..., 0]
    jump = torch.zeros_like(z, dtype=torch.bool)
    jump[:, 1:] |= (z[:, 1:] - z[:, :-1]).abs() > 0.08 * z[:, 1:]
    jump[1:] |= (z[1:] - z[:-1]).abs() > 0.08 * z[1:]
    for name, step, title in (("first", history[0], "as guessed"), ("last", history[-1], "as learned")):
        K, T_color_depth = step.cameras.K, step.cameras.T_color_depth
        color, _ = register_color(clip.color[0], clip.depth[0], K, clip.K_depth, T_color_depth)
        color = torch.where((jump & (z > 0))[..., None], torch.tensor([1.0, 0.2, 0.9]), color.clamp(0, 1))
        axes[name].imshow(color.numpy())
        axes[name].set(title=f"color at depth's pixels, {title}; edges of depth", xticks=[], yticks=[])
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
