"""A plan followed back through the map to the depth pixels on which it depends.

The shortest safe path over the floor of a reconstructed room: depth images become a volume, that becomes free space and
distances to obstacles, these a cost of a meter, and that a path. One backward pass gives the gradient of the path's
cost in every depth pixel: which frames and pixels the plan depends on. It is compared with central differences, and
with what the cost really does when depth moves by a millimeter or a centimeter and everything is decided anew. Then the
middle of the coffee table has no depth, as if it were glass, and the plan goes through it; which of the pixels without
depth opened that way the gradient in the cells of the map tells. Last, a recording of a kitchen, if it is there.

    python -m demos.plan_in_room --out out
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

import gradslam_ng as gs
from demos.common.recordings import DATA, FOLDERS
from gradslam_ng import planning
from gradslam_ng.compute.discrete import intercept_choices
from gradslam_ng.geometry import camera, se3
from gradslam_ng.planning.occupancy import FREE, OCCUPIED

VOXEL, TRUNCATION = 0.047, 0.19  # meters; walls that lie exactly on voxels have no one mesh
HEIGHTS = (0.15, 1.3)
TABLE, GLASS = (0.1, -0.2), 0.42  # meters: the middle of the coffee table, and how far from it, along x, it is glass
ACROSS = (0.1, -1.1), (0.1, 0.8)  # meters: from one side of the table to the other
STEPS = (1e-3, 1e-2)  # meters by which depth is moved


@dataclass(frozen=True)
class Task:
    """Frames of a room, and where to go in it."""

    clip: gs.RGBDFrames
    start: tuple[float, float]  # meters
    goal: tuple[float, float]
    radius: float
    unknown: planning.occupancy.Unknown = "blocked"
    association: str = "hard"  # of pixels and voxels

    def cells(self, depth: Tensor) -> planning.Occupancy:  # depth (L, H, W, 1)
        """The room's cells (X, Y, Z)."""
        clip = replace(self.clip, depth=depth)
        settings = gs.Settings(association=self.association)
        fusion = gs.KinectFusion("ground-truth", voxel_size=VOXEL, truncation=TRUNCATION, settings=settings)
        volume, _ = fusion(clip)
        up = planning.estimate_up(volume.detach(), clip.T_wc)
        grid = planning.Occupancy.of(volume, up=up, heights=HEIGHTS)
        return grid.carve(replace(clip, depth=depth.detach()))

    def plan(self, depth: Tensor) -> planning.SafePath:
        """The shortest safe path; its cost has the gradient to depth."""
        ends = torch.tensor(self.start), torch.tensor(self.goal)
        return planning.safe_path(
            self.cells(depth).flatten(), *ends, radius=self.radius, unknown=self.unknown, smoothed=False
        )


def living_room(frames: int, size: tuple[int, int]) -> gs.RGBDFrames:
    """Exact images of a tour around the living room, in double precision."""
    sequence = gs.datasets.Synthetic("living_room", frames=288, size=size, path="orbit")
    every = [round(288 / frames * i) for i in range(frames)]
    clip = gs.RGBDFrames.stack([sequence[i] for i in every]).to(dtype=torch.float64)
    return replace(clip, T_wc=sequence.T_wc[every])


def kitchen(frames: int) -> gs.RGBDFrames | None:
    """Of the recording, every fourth pixel; None where it is not there."""
    folder = DATA / FOLDERS["7-Scenes kitchen"]
    if not folder.is_dir():
        print(f"kitchen: left out, no {folder}; set GRADSLAM_NG_DATA to the folder of recordings")
        return None
    sequence = gs.datasets.load(folder)
    step = len(sequence) // frames
    clip = gs.RGBDFrames.stack([sequence[i] for i in range(0, frames * step, step)])
    K = clip.K * clip.K.new_tensor([0.25, 0.25, 1.0])[:, None]
    return gs.RGBDFrames(clip.color[:, ::4, ::4], clip.depth[:, ::4, ::4], K, clip.T_wc).to(dtype=torch.float64)


def glass(clip: gs.RGBDFrames) -> Tensor:
    """(L, H, W) bool: pixels that see the middle of the coffee table, which from now on is glass."""
    p_w = (camera.unproject(clip.depth, clip.K) @ clip.T_wc[:, None, :3, :3].mT) + clip.T_wc[:, None, None, :3, 3]
    x, y, z = (p_w - p_w.new_tensor([*TABLE, 0.0])).unbind(-1)
    return (x.abs() < GLASS) & (y.abs() < 0.7) & (z > 0.03) & (z < 1.2)


def smooth_images(count: int, like: Tensor) -> Iterator[Tensor]:  # like (L, H, W, 1)
    """Random smooth changes of depth images, of about one in size."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        coarse = torch.randn(len(like), 1, 6, 8, generator=generator, dtype=like.dtype)
        image = torch.nn.functional.interpolate(coarse, like.shape[1:3], mode="bicubic")
        yield image.permute(0, 2, 3, 1)


@contextmanager
def held(choices: list, replay: bool) -> Iterator[None]:
    """Discrete choices kept, or made as they were."""
    again, deciding = iter(choices), []

    def choose(function, *args, **kwargs):
        if deciding:  # one choice within another
            return function(*args, **kwargs)
        if replay:
            return next(again)
        deciding.append(True)
        choices.append(function(*args, **kwargs))
        deciding.clear()
        return choices[-1]

    with intercept_choices(choose):
        yield


def differentiate(task: Task) -> tuple[planning.SafePath, Tensor, dict[str, float]]:
    """The plan, the gradient (L, H, W, 1) of its cost in depth, and how long both took."""
    depth = task.clip.depth.clone().requires_grad_()
    began = time.process_time()
    found = task.plan(depth)
    middle = time.process_time()
    (gradient,) = torch.autograd.grad(found.cost, depth)
    times = {"forward, s": middle - began, "backward, s": time.process_time() - middle}
    return found, gradient, times


def against_differences(task: Task, gradient: Tensor, directions: int = 3, step: float = 1e-6) -> dict[str, float]:
    """Largest error of the gradient along smooth directions relative to central differences, with choices as they were
    and made anew."""
    choices: list = []
    with held(choices, replay=False):
        task.plan(task.clip.depth.clone().requires_grad_())  # without gradients maps change in place, choices with them

    def cost(depth: Tensor, replay: bool) -> float:
        with held(choices if replay else [], replay):
            return float(task.plan(depth.requires_grad_()).cost.detach())

    worst = {"choices held": 0.0, "choices made anew": 0.0}
    for way in smooth_images(directions, task.clip.depth):
        expected = float((gradient * way).sum())
        for name, replay in (("choices held", True), ("choices made anew", False)):
            ends = [cost(task.clip.depth + sign * step * way, replay) for sign in (1, -1)]
            found = (ends[0] - ends[1]) / (2 * step)
            worst[name] = max(worst[name], abs(expected - found) / abs(found))
    return worst


def usefulness(task: Task, count: int) -> dict[str, dict[str, float]]:
    """How well the gradient tells what the cost does when depth moves and everything is decided anew."""
    found, gradient, _ = differentiate(task)
    before, told = float(found.cost.detach()), {}
    for step in STEPS:
        pairs = []
        for way in smooth_images(count, task.clip.depth):
            with torch.no_grad():
                after = float(task.plan(task.clip.depth + step * way).cost)
            pairs.append((step * float((gradient * way).sum()), after - before))
        predicted, actual = np.array(pairs).T
        told[f"{1000 * step:g} mm"] = {
            "sign agreement": float((np.sign(predicted) == np.sign(actual)).mean()),
            "correlation": float(np.corrcoef(predicted, actual)[0, 1]),
        }
    return told


def shares(gradient: Tensor) -> np.ndarray:  # (L, H, W[, 1])
    """Of each frame in the size of the gradient, (L,)."""
    size = gradient.abs().flatten(1).sum(1)
    return (size / size.sum()).numpy()


def known(task: Task) -> dict[str, float]:
    """Shares of the cells that the volume and the cameras know."""
    clip = task.clip
    with torch.no_grad():
        volume, _ = gs.KinectFusion("ground-truth", voxel_size=VOXEL, truncation=TRUNCATION)(clip)
    grid = planning.Occupancy.of(volume, up=planning.estimate_up(volume, clip.T_wc), heights=HEIGHTS)
    named = {"known to the volume": grid, "known with what cameras saw through": grid.carve(clip)}
    return {name: float(1 - one.unknown.double().mean()) for name, one in named.items()}


def suspects(task: Task, found: planning.SafePath) -> Tensor:
    """(L, H, W): how much of a path in unknown cells each pixel without depth should have seen, meters.

    The gradient of a path's cost in the cost of cells is its length in each. What it is in unknown cells is spread over
    those of the column that are unknown, and goes to the pixels in which these lie.
    """
    grid, flat = task.cells(task.clip.depth), found.distances.grid
    cost = planning.clearance_cost(found.distances.distance.detach(), radius=task.radius).requires_grad_()
    start, goal = (flat.index(torch.tensor(p)).tolist() for p in (task.start, task.goal))
    way = planning.shortest_path(cost, goal, cell=flat.cell)
    (length,) = torch.autograd.grad(way.cost_to_go[tuple(start)], cost)
    crossed = length * flat.unknown
    unknown = grid.unknown & (crossed > 0)[..., None]
    weight = (crossed[..., None] / unknown.sum(-1, keepdim=True).clamp(min=1)).expand(unknown.shape)[unknown]
    p_w = grid.to_world(grid.centers()[unknown])
    uv, z = camera.project(se3.transform(se3.inverse(task.clip.T_wc), p_w), task.clip.K)
    height, width = task.clip.size
    u, v = (uv + 0.5).floor().unbind(-1)
    seen = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    pixel = torch.where(seen, v * width + u, 0.0).long()
    told = torch.zeros(len(pixel), height * width, dtype=p_w.dtype).scatter_add(1, pixel, seen * weight)
    return torch.where(task.clip.depth[..., 0] > 0, 0.0, told.view(-1, height, width))


def through_glass(task: Task) -> tuple[dict, planning.SafePath, Tensor, Tensor]:
    """The plan when the middle of the table has no depth: its summary, the plan, the pixels that should have seen what
    is in its way, and those that are really of glass (L, H, W)."""
    hole, task = glass(task.clip), replace(task, start=ACROSS[0], goal=ACROSS[1], radius=0.12)
    blind = torch.where(hole[..., None] | dropouts(hole)[..., None], 0.0, task.clip.depth)
    fooled = replace(task, clip=replace(task.clip, depth=blind), unknown="free")
    with torch.no_grad():
        whole, found = task.plan(task.clip.depth), fooled.plan(blind)
        careful = replace(fooled, unknown="blocked").plan(blind)
    told = suspects(fooled, found)
    without = blind[..., 0] == 0
    summary = {
        "cost, the table whole": float(whole.cost),
        "cost, its middle of glass": float(found.cost),
        "cost, of glass, unknown blocked": float(careful.cost),
        "way through glass, m": found.unknown,
        "pixels without depth": int(without.sum()),
        "of these of glass": float(hole[without].double().mean()),
        "of those that are told": float((told * hole).sum() / told.sum()),
        "glass that is told": float((told[hole] > 0).double().mean()),
    }
    return summary, found, told, hole


def dropouts(like: Tensor) -> Tensor:  # like (L, H, W)
    """(L, H, W) bool: patches of 8 pixels, one in ten, where the sensor measures nothing, elsewhere in each frame."""
    generator = torch.Generator().manual_seed(1)
    lost = torch.rand(len(like), 1, like.shape[1] // 8 + 1, like.shape[2] // 8 + 1, generator=generator) < 0.1
    return torch.nn.functional.interpolate(lost.double(), scale_factor=8)[:, 0, : like.shape[1], : like.shape[2]] > 0


def main(out: Path = Path("out"), size: tuple[int, int] = (96, 128), frames: int = 24, perturbations: int = 50) -> dict:
    """Write plan_in_room.png and .json.

    Args:
        out: folder for both.
        size: image height and width, of the living room.
        frames: of each room.
        perturbations: of depth, by which usefulness is told, on images of half the size and half as many.
    """
    torch.set_num_threads(1)
    task = Task(living_room(frames, size), (-1.6, 0.4), (1.6, 0.3), radius=0.15)
    found, gradient, times = differentiate(task)
    numbers = {"cells": known(task), "living room": summary(found, gradient) | times}
    numbers["living room"]["off central differences at 1 um"] = against_differences(task, gradient)
    numbers["table of glass"], through, told, hole = through_glass(task)
    small = replace(task, clip=living_room(frames // 2, (size[0] // 2, size[1] // 2)))
    for association in ("hard", "soft"):
        numbers[f"useful, {association}"] = usefulness(replace(small, association=association), perturbations)
    figure = Figure(figsize=(13, 11), dpi=120, layout="constrained")
    axes = figure.subplots(3, 3)
    draw_row(axes[0], "living room", found, task, gradient)
    draw_row(axes[1], "its table of glass", through, task, told, hole)
    recorded = kitchen(frames)
    if recorded is not None:
        task = Task(recorded, (-1.1, 1.0), (-1.0, 2.6), radius=0.1)
        found, gradient, times = differentiate(task)
        numbers["kitchen"] = summary(found, gradient) | times
        draw_row(axes[2], "kitchen", found, task, gradient)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "plan_in_room.png")
    (out / "plan_in_room.json").write_text(json.dumps(numbers, indent=2) + "\n")
    print(json.dumps(numbers, indent=2))
    return numbers


def summary(found: planning.SafePath, gradient: Tensor) -> dict:
    """What a plan is like and on how many pixels and frames it depends."""
    return {
        "length, m": found.length,
        "clearance, m": found.clearance,
        "cost": float(found.cost.detach()),
        "share of pixels with a gradient": float((gradient != 0).double().mean()),
        "share of the gradient in four frames": float(np.sort(shares(gradient))[-4:].sum()),
    }


def draw_row(
    axes: np.ndarray, name: str, found: planning.SafePath, task: Task, gradient: Tensor, hole: Tensor | None = None
) -> None:
    """The plan from above, the share of each frame, and the frame that matters most with its gradient."""
    plan, bars, image = axes
    draw_plan(plan, name, found)
    part = shares(gradient)
    first = int(part.argmax())
    bars.bar(range(len(part)), 100 * part, color=["#b2182b" if i == first else "#4d7ea8" for i in range(len(part))])
    bars.set(xlabel="frame", ylabel="share [%]", title="frames on which the plan depends")
    size = gradient[first].abs().reshape(task.clip.size)
    unit = "|d cost / d depth| [1/m]" if hole is None else "way that should have been seen [m]"
    draw_pixels(image, task.clip.color[first], size, unit, None if hole is None else hole[first])
    image.set_title(f"pixels of frame {first}")


def draw_plan(axes: Axes, name: str, found: planning.SafePath) -> None:
    grid = found.distances.grid
    low = (grid.origin - 0.5 * grid.cell).tolist()
    high = [a + grid.cell * n for a, n in zip(low, grid.state.shape, strict=True)]
    shade = np.where(grid.state == FREE, 1.0, np.where(grid.state == OCCUPIED, 0.25, 0.75))
    axes.imshow(shade.T, origin="lower", extent=(low[0], high[0], low[1], high[1]), cmap="gray", vmin=0, vmax=1)
    x, y = found.points.T.tolist()
    axes.plot(x, y, color="#b2182b", lw=2)
    axes.plot(x[0], y[0], "o", color="#1a9850", ms=8)
    axes.plot(x[-1], y[-1], "*", color="#b2182b", ms=11)
    axes.set(
        title=f"{name}: {found.length:.2f} m, cost {float(found.cost.detach()):.2f}", xlabel="x [m]", ylabel="y [m]"
    )


def draw_pixels(axes: Axes, color: Tensor, size: Tensor, unit: str, hole: Tensor | None) -> None:
    """The gradient's size (H, W) over the gray image; the outline of a hole."""
    axes.imshow(0.5 + 0.5 * color.mean(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    top = max(float(size.max()), 1e-12)
    shown = np.ma.masked_less(size.numpy(), 1e-3 * top)
    image = axes.imshow(shown, cmap="inferno_r", norm=LogNorm(1e-3 * top, top))
    axes.figure.colorbar(image, ax=axes, label=unit, shrink=0.8)
    if hole is not None and bool(hole.any()):
        axes.contour(hole.numpy(), levels=[0.5], colors="#1a9850", linewidths=1.2)
    axes.set(xticks=[], yticks=[])


if __name__ == "__main__":
    tyro.cli(main)
