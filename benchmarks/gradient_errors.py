"""How right the gradients of whole systems are, scene by scene: `python -m benchmarks.gradient_errors`.

Poses, covariance, error, map and rendered images of two frames, by depth, color, K, the first pose, depth noise and
settings: gradients against central differences in float64, along random directions. In the scenes but the corner some
directions of motion are open, or nearly so. No choice is held: a difference at which one changes shows as one that
depends on the size of its step, and is left out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng import optim
from gradslam_ng.geometry import camera, depth_noise, se3
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.structures import VoxelGrid

D = torch.float64
SIZE, FRAMES, STEP = (24, 32), 2, 1e-7
K = torch.tensor([[35.2, 0, 15.5], [0, 35.2, 11.5], [0, 0, 1]], dtype=D)
SETTINGS = {"damping": 1e-6, "temperature": 0.1, "kernel_width": 4.685, "registration_sigma": 0.5}
Scene = Callable[[Tensor], Tensor]  # points (..., 3) -> no more than how far the surface is (...), meters
Values = dict[str, Tensor]


def plane(p: Tensor, *normal: float, distance: float) -> Tensor:
    return distance - (p * torch.tensor(normal, dtype=D)).sum(-1)


def wall(p: Tensor) -> Tensor:
    return plane(p, 0.1, -0.15, 1.0, distance=1.5)


def corner(p: Tensor) -> Tensor:
    sides = plane(p, 0.85, 0.1, 0.6, distance=1.25), plane(p, -0.75, 0.15, 0.7, distance=1.3)
    return torch.minimum(torch.minimum(*sides), plane(p, 0.05, 0.9, 0.5, distance=1.1))


def sphere(p: Tensor) -> Tensor:
    """On a plane."""
    ball = (p - torch.tensor([0.1, 0.05, 1.35], dtype=D)).norm(dim=-1) - 0.38
    return torch.minimum(plane(p, 0.0, -0.25, 1.0, distance=1.7), ball)


def wavy_wall(p: Tensor) -> Tensor:
    x, y, z = p.unbind(-1)
    return 1.6 + 0.12 * torch.sin(2.3 * x + 0.3) * torch.cos(2.9 * y - 0.4) + 0.15 * x * x + 0.1 * x * y - z


SCENES = {"corner": corner, "wavy wall": wavy_wall, "sphere on a plane": sphere, "wall": wall}
SYSTEMS = {
    "ICPOdometry": gs.ICPOdometry,
    "PointFusion": gs.PointFusion,
    "KinectFusion": lambda *args, **kwargs: gs.KinectFusion(*args, voxel_size=0.03, truncation=0.12, **kwargs),
}


def views(scene: Scene) -> tuple[Values, Tensor]:
    """Color and depth (1, L, H, W, ...) of a camera that moves 1 cm a frame, and its poses (L, 4, 4)."""
    twist = torch.tensor([0.007, -0.005, 0.006, 0.006, -0.004, 0.005], dtype=D)
    start = se3.exp(torch.tensor([0.013, -0.021, 0.017, 0.031, -0.023, 0.041], dtype=D))
    T_wc = start @ se3.exp(torch.arange(FRAMES, dtype=D)[:, None] * twist)
    rays = camera.unproject(torch.ones(FRAMES, *SIZE, 1, dtype=D), K)
    depth = torch.ones(FRAMES, *SIZE, 1, dtype=D)
    for _ in range(150):
        p = se3.transform(T_wc, (rays * depth).flatten(1, 2)).unflatten(1, SIZE)
        depth = depth + 0.5 * scene(p)[..., None]
    color = 0.5 + 0.3 * torch.sin(p @ torch.tensor([[9.0, 4, 5], [3, 8, 6], [5, 7, 3]], dtype=D))
    noise = torch.randn(depth.shape, generator=torch.Generator().manual_seed(0), dtype=D)
    return {"depth": (depth + 1e-3 * noise)[None], "color": color[None]}, T_wc


def run(make: Callable, T_wc: Tensor, x: Values) -> Values:
    """All outputs, of inputs by name."""
    rule = optim.SoftLevenbergMarquardt(damping=x["damping"], temperature=x["temperature"], error_noise=1e-3)
    more = {name: x[name] for name in ("kernel_width", "registration_sigma")}
    slam = make(
        ProjectiveICP(rule, **more), noise=lambda s, c: x["noise"] + depth_noise.axial_sigma(s.vertices[..., 2])
    )
    first = se3.exp(x["pose"]) @ T_wc[:1]
    frames = gs.RGBDFrames(
        x["color"], x["depth"], x["K"], torch.cat([first, torch.full_like(T_wc[1:], math.nan)])[None]
    )
    poses, state = [], None
    for i in range(FRAMES):
        state = slam.step(state, frames[:, i])
        if i == 0:  # no search begins where the pixels of two frames coincide: brightness has its kinks between pixels
            off = torch.tensor([1e-3, -7e-4, 8e-4, 9e-4, -1.1e-3, 6e-4], dtype=D)
            state = replace(state, motion=(se3.inverse(T_wc[0]) @ T_wc[1] @ se3.exp(off))[None])
        poses.append(state.T_wc[:, :3])
    tracking = state.tracking
    found = {"poses": torch.stack(poses[1:]), "covariance": tracking.covariance, "error": tracking.error}
    map_, view = state.map, (state.T_wc, x["K"][None], SIZE)
    if isinstance(map_, VoxelGrid):
        shown = gs.raycast(map_, *view)
        found |= {name: getattr(map_, name)[map_.slots] for name in ("sdf", "weight", "color", "color_weight")}
        return found | {f"raycast {name}": getattr(shown, name) for name in ("color", "depth")}
    if make is gs.ICPOdometry:
        return found
    shown = gs.render(map_, *view)
    found |= {name: getattr(map_, name)[map_.mask] for name in ("points", "normals", "colors", "radii", "confidences")}
    return found | {f"rendered {name}": getattr(shown, name) for name in ("color", "depth")}


def directions(inputs: Values) -> list[tuple[str, Tensor]]:
    """Which input is moved, and where to."""
    generator, found = torch.Generator().manual_seed(5), []
    for name in ("depth", "depth", "color", "pose"):
        found.append((name, torch.randn(inputs[name].shape, generator=generator, dtype=D)))
    for i, j in ((0, 0), (1, 2)):
        entry = torch.zeros(3, 3, dtype=D)
        entry[i, j] = 10.0
        found.append(("K", entry))
    # poses hardly depend on settings: by smaller steps of these the difference would be one of rounding
    found += [(name, torch.tensor(1e3 * value, dtype=D)) for name, value in SETTINGS.items()]
    return [*found, ("noise", torch.tensor(1.0, dtype=D))]


def scalars(outputs: Values) -> tuple[Values, dict[str, torch.Size]]:
    """A random sum over each output, and its shape: where that changes nothing can be compared."""
    sums = {}
    for name, value in outputs.items():
        weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name)), dtype=D)
        sums[name] = (weight * value).sum() / math.sqrt(max(1, value.numel()))
    return sums, {name: value.shape for name, value in outputs.items()}


def errors(make: Callable, scene: Scene) -> dict[tuple[str, str], float]:
    """Median relative error by (output, input), of those with a derivative that could be measured."""
    images, T_wc = views(scene)
    inputs = images | {"K": K, "pose": torch.zeros(1, 6, dtype=D), "noise": torch.zeros((), dtype=D)}
    inputs |= {name: torch.tensor(value, dtype=D) for name, value in SETTINGS.items()}
    leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    sums, shapes = scalars(run(make, T_wc, leaves))
    gradients = {
        name: torch.autograd.grad(value, list(leaves.values()), retain_graph=True, materialize_grads=True)
        for name, value in sums.items()
    }
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for moved, direction in directions(inputs):
        ends = {
            h: scalars(run(make, T_wc, inputs | {moved: inputs[moved] + h * direction}))
            for h in (STEP, -STEP, STEP / 4, -STEP / 4)
        }
        for name in sums:
            if any(sizes[name] != shapes[name] for _, sizes in ends.values()):
                continue
            wide, narrow = (((ends[h][0][name] - ends[-h][0][name]) / (2 * h)).item() for h in (STEP, STEP / 4))
            exact = (gradients[name][list(inputs).index(moved)] * direction).sum().item()
            found.setdefault((name, moved), []).append((exact, wide, narrow))
    return {pair: error for pair, rows in found.items() if (error := relative(rows)) is not None}


def relative(rows: list[tuple[float, float, float]]) -> float | None:
    """The median error of derivatives, against differences that do not depend on their step; None without any."""
    scale = math.sqrt(statistics.mean(narrow**2 for _, _, narrow in rows))
    trusted = [row for row in rows if abs(row[1] - row[2]) <= 2e-3 * max(scale, abs(row[2]))]
    if scale < 1e-6 or not trusted:
        return None
    return statistics.median(abs(a - b) / max(abs(a), abs(b), 1e-2 * scale) for a, _, b in trusted)


def main() -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    table, rows = Table("scene", "system", "pairs", "off by more than 1e-3", "median error", "worst pairs"), {}
    for scene, surface in SCENES.items():
        for system, make in SYSTEMS.items():
            found = errors(make, surface)
            off = {pair: error for pair, error in found.items() if error > 1e-3}
            median = statistics.median(found.values())
            rows[f"{scene}, {system}"] = {"pairs": len(found), "off": len(off), "median": median}
            worst = ", ".join(f"{a} by {b} {e:.0e}" for (a, b), e in sorted(off.items(), key=lambda x: -x[1])[:4])
            table.add_row(scene, system, str(len(found)), str(len(off)), f"{median:.0e}", worst)
            print(scene, system, len(found), len(off), f"{median:.1e}", worst, flush=True)
    Console().print(table)
    save("gradient_errors", {"rows": rows}, images=f"{SIZE[1]}x{SIZE[0]}")


if __name__ == "__main__":
    tyro.cli(main)
