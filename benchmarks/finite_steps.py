"""Does a gradient predict what a finite step does? `python -m benchmarks.finite_steps [--only SCENE/SYSTEM]`.

An optimizer moves depth by millimeters, and at a millimeter it changes which pixel meets which surfel. For each scene
and system depth is disturbed at random (white noise, and noise that is smooth over the image; 0.1, 1, 5 and 10 mm);
what a loss then changes by is compared with what its gradient foretold: their correlation over the disturbances.
`--plan` measures the cost of a plan on the map alone: the cheapest way past the surfaces at the camera's height.

Clips are three frames of 80x60, in float64: rendered rooms, and pieces of recordings, looked for below --data. Each
scene and system is measured once and kept in the result file; what is there already is not measured again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from torch import Tensor

import gradslam_ng as gs
from benchmarks.report import save, stored
from gradslam_ng import planning
from gradslam_ng.datasets.synthetic import Synthetic
from gradslam_ng.geometry import camera, images, se3

DATA = gs.datasets.data_folder()
SIZE = (60, 80)
STEPS = (1e-4, 1e-3, 5e-3, 1e-2)  # meters, standard deviation of a disturbance
COUNT = 50  # disturbances of each kind
BATCH = 5  # at once
FRAMES, EVERY = 3, 3  # of a clip
SYSTEMS = ("ICPSLAM", "PointFusion", "KinectFusion")  # ICPOdometry's poses are ICPSLAM's
ASSOCIATIONS = ("hard", "soft")
ROOMS = {  # name of the room, noise
    "living room": ("living_room", "none"),
    "living room, Kinect noise": ("living_room", "kinect"),
    "corner": ("corner", "none"),
    "twins": ("twins", "kinect"),
}
REAL = {  # folder, first frame, shrunk by, first row and column
    "ICL": ("icl/office_room_traj3_frei_png", 10, 8, (0, 0)),
    "ICL crop": ("icl/office_room_traj3_frei_png", 60, 4, (30, 40)),
    "TUM": ("tum/rgbd_dataset_freiburg3_structure_notexture_far", 10, 8, (0, 0)),
    "TUM late": ("tum/rgbd_dataset_freiburg3_structure_notexture_far", 180, 8, (0, 0)),
    "TUM crop": ("tum/rgbd_dataset_freiburg3_structure_notexture_far", 100, 4, (40, 40)),
    "redkitchen": ("sevenscenes_tum/redkitchen", 10, 8, (0, 0)),
    "redkitchen late": ("sevenscenes_tum/redkitchen", 200, 8, (0, 0)),
    "redkitchen crop": ("sevenscenes_tum/redkitchen", 100, 4, (30, 40)),
}
SCENES = (*ROOMS, *REAL)
VIEW = (0.02, -0.015, 0.03, 0.02, 0.03, -0.02)  # tangent: where the second camera is moved to for a new view
UP, SLAB = (0.0, -1.0, 0.0), (-0.15, 0.15)  # of the first camera's frame, meters: what is in the way of a plan
RADIUS, SOFTNESS = 0.05, 0.1  # meters, of what is planned for
OFF = (0.03, -0.02, 0.025)  # meters, of the poses that a loss wants from those that are found


def clip(name: str, data: Path = DATA) -> gs.RGBDFrames:
    """Frames (L,) of a scene in float64, the first at the origin."""
    if name in ROOMS:
        room, noise = ROOMS[name]
        sequence = Synthetic(room, frames=60, size=SIZE, noise=noise)[20 : 20 + FRAMES * EVERY : EVERY]
        frames = gs.RGBDFrames.stack([sequence[i] for i in range(FRAMES)])
    else:
        folder, first, factor, (row, column) = REAL[name]
        sequence = gs.datasets.load(data / folder)[first : first + FRAMES * EVERY : EVERY]
        frames = gs.RGBDFrames.stack([sequence[i] for i in range(FRAMES)])
        color, depth = images.downsample_color(frames.color, factor), images.downsample_depth(frames.depth, factor)
        K = camera.scale_intrinsics(frames.K, 1 / factor)
        K = K - torch.tensor([[0.0, 0, column], [0, 0, row], [0, 0, 0]])
        rows, columns = slice(row, row + SIZE[0]), slice(column, column + SIZE[1])
        frames = gs.RGBDFrames(color[:, rows, columns], depth[:, rows, columns], K, frames.T_wc)
    frames = frames.to(dtype=torch.float64)
    return gs.RGBDFrames(frames.color, frames.depth, frames.K, se3.inverse(frames.T_wc[:1]) @ frames.T_wc)


def disturbances(depth: Tensor, kind: str, count: int, seed: int = 11) -> Tensor:
    """Noise (count, L, H, W, 1) of unit variance where there is depth (L, H, W, 1): white, or smooth over the image."""
    generator = torch.Generator().manual_seed(seed)
    length, height, width, _ = depth.shape
    if kind == "white":
        noise = torch.randn(count, *depth.shape, generator=generator, dtype=depth.dtype)
    else:
        v = torch.linspace(0, math.pi, height, dtype=depth.dtype)[:, None]
        u = torch.linspace(0, math.pi, width, dtype=depth.dtype)
        noise = torch.zeros(count, *depth.shape, dtype=depth.dtype)
        for a in range(3):
            for b in range(3):
                shape = (count, length, 1, 1, 1)
                amplitude = torch.randn(shape, generator=generator, dtype=depth.dtype)
                phases = 3 * torch.rand(2, *shape, generator=generator, dtype=depth.dtype)
                wave = torch.cos(a * v[..., None] + phases[0]) * torch.cos(b * u[:, None] + phases[1])
                noise = noise + amplitude * wave
        noise = noise / noise.flatten(1).std(dim=1)[:, None, None, None, None]
    return noise * (depth > 0)


def make_system(name: str, association: str) -> Any:
    """A system with that association."""
    settings = "soft" if association == "soft" else "default"
    if name == "KinectFusion":
        return gs.KinectFusion(voxel_size=0.02, truncation=0.08, settings=settings)
    return getattr(gs, name)(settings=settings)


class Losses:
    """What is asked of a system on one clip: losses (B,) of B copies of it with other depth."""

    def __init__(self, frames: gs.RGBDFrames, make: Callable[[], Any], association: str = "hard") -> None:
        self.frames, self.make, self.association = frames, make, association
        self.view = (se3.exp(torch.tensor([VIEW], dtype=torch.float64)) @ frames.T_wc[1:2])[0]
        self.K = frames.K[0]
        with torch.no_grad():
            map_, self.T_wc = make()(frames)
            self.reference, self.plane = None, frames.depth[0][frames.depth[0] > 0].median()
            self.points = camera.unproject(frames.depth[0], frames.K[0])[frames.depth[0, ..., 0] > 0][::3]
            self.points = self.points + 0.01 * torch.randn(
                self.points.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
            )
            if not self.mapless(map_):
                self.reference = self.image(map_, 1)

    def mapless(self, map_: Any) -> bool:
        return isinstance(map_, gs.SurfelMap) and not int(map_.count.max())

    def image(self, map_: Any, batch: int) -> Any:
        T_wc, K = self.view.expand(batch, 4, 4), self.K.expand(batch, 3, 3)
        if isinstance(map_, gs.VoxelGrid):
            return gs.raycast(map_, T_wc, K, SIZE)
        return gs.render(map_, T_wc, K, SIZE, visibility=self.association)

    def __call__(self, depth: Tensor) -> dict[str, Tensor]:
        frames, batch = self.frames, len(depth)
        color, K, T_wc = (x.expand(batch, *x.shape) for x in (frames.color, frames.K, frames.T_wc))
        map_, found = self.make()(gs.RGBDFrames(color, depth, K, T_wc))
        wanted = self.T_wc.expand_as(found)[:, 1:]
        off = torch.tensor(OFF, dtype=torch.float64)
        turn = se3.exp(torch.tensor([0, 0, 0, 0.02, -0.015, 0.03], dtype=torch.float64))[:3, :3]
        moved = (found[:, 1:, :3, 3] - wanted[..., :3, 3] - off).square().flatten(1).sum(-1)
        turned = (found[:, 1:, :3, :3] - wanted[..., :3, :3] @ turn).square().flatten(1).sum(-1)
        losses = {"pose": moved + turned}
        return losses if self.mapless(map_) else losses | self.of_map(map_, batch)

    def of_map(self, map_: Any, batch: int) -> dict[str, Tensor]:
        """Losses on a map and on images of it, by confidence or weight, since what is hardly known comes and goes."""
        if isinstance(map_, gs.SurfelMap):
            x, y, z = map_.points.unbind(-1)
            square = (z + 0.3 * torch.sin(3 * x) - 0.2 * y - self.plane) ** 2
            w = map_.confidences * map_.mask
            losses = {"map": (w * square).sum(-1) / w.sum(-1)}
        else:
            sdf, _, weight = map_.query(self.points.expand(batch, *self.points.shape))
            losses = {"map": mean((sdf - 0.02) ** 2, weight)}
        seen, reference = self.image(map_, batch), self.reference
        seen_at = seen.alpha if isinstance(map_, gs.SurfelMap) else seen.weight
        weight = seen_at * (reference.depth > 0)
        losses["depth"] = mean((seen.depth - reference.depth - 0.05) ** 2, weight)
        losses["color"] = mean((seen.color - 0.3) ** 2, weight.expand_as(seen.color))
        return losses


class PlanLosses(Losses):
    """The cost of the cheapest way between two places past the surfaces of the map, those of the undisturbed one."""

    def __init__(self, frames: gs.RGBDFrames, make: Callable[[], Any], association: str = "hard") -> None:
        super().__init__(frames, make, association)
        with torch.no_grad():
            found = self.distances(make()(frames)[0])
        clear = (found.distance > 2 * RADIUS).nonzero()
        wide = (clear[:, None, :] - clear[None]).square().sum(-1) if len(clear) < 5000 else None
        first, last = divmod(int(wide.argmax()), len(clear)) if wide is not None else (0, len(clear) - 1)
        self.ends = found.grid.center(clear[first]), found.grid.center(clear[last])

    def distances(self, map_: Any) -> planning.ESDF:
        """Of the cells of the plane at the camera's height to the nearest surface; what was not seen is free."""
        grid = planning.Occupancy.of(map_, up=UP, heights=SLAB, floor=0.0)
        return planning.esdf(grid.flatten(), unknown="free")

    def plan(self, map_: Any) -> Tensor:
        found = self.distances(map_)
        cost = planning.clearance_cost(found.distance.clamp(min=RADIUS), radius=RADIUS, softness=SOFTNESS)
        size = torch.tensor(cost.shape)
        start, goal = (found.grid.index(p).clamp(min=torch.zeros_like(size), max=size - 1) for p in self.ends)
        return planning.shortest_path(cost, goal, cell=found.grid.cell).cost_to_go[tuple(start.tolist())]

    def __call__(self, depth: Tensor) -> dict[str, Tensor]:
        frames, batch = self.frames, len(depth)
        color, K, T_wc = (x.expand(batch, *x.shape) for x in (frames.color, frames.K, frames.T_wc))
        map_, _ = self.make()(gs.RGBDFrames(color, depth, K, T_wc))
        return {"plan": torch.stack([self.plan(map_[b]) for b in range(batch)])}


def mean(values: Tensor, weight: Tensor) -> Tensor:  # (B, ...)
    """Weighted mean (B,)."""
    return (weight * values).flatten(1).sum(-1) / weight.flatten(1).sum(-1)


def measure(losses: Losses, count: int) -> dict[str, Any]:
    """Correlations by loss, kind of disturbance and step, and the seconds that the losses and their gradients take."""
    depth = losses.frames.depth
    varied = depth[None].clone().requires_grad_()
    losses(varied)  # to warm up
    began = time.process_time()
    base = losses(varied)
    torch.autograd.grad(torch.stack(list(base.values())).sum(), varied, retain_graph=True)
    seconds = time.process_time() - began
    if bool((losses.frames.color == losses.frames.color[0, 0, 0]).all()):
        base.pop("color", None)  # it does not depend on depth
    gradients = {name: torch.autograd.grad(value.sum(), varied, retain_graph=True)[0] for name, value in base.items()}
    found: dict[str, Any] = {"seconds": seconds, "correlation": {name: {} for name in base}}
    for kind in ("white", "smooth"):
        noise = disturbances(depth, kind, count)
        for step in STEPS:
            with torch.no_grad():
                moved = [losses(depth + step * part) for part in noise.split(BATCH)]
            for name in base:
                true = torch.cat([part[name] for part in moved]) - base[name].detach()
                foretold = (gradients[name] * noise).flatten(1).sum(-1)
                rho = float(torch.corrcoef(torch.stack([true, foretold]))[0, 1])
                found["correlation"][name].setdefault(kind, {})[f"{1e3 * step:g}"] = rho
    return found


def main(data: Path = DATA, only: str = "", count: int = COUNT, plan: bool = False) -> None:
    """Measure what is not there yet, and print it.

    Args:
        data: Folder of the recordings; default: what GRADSLAM_NG_DATA names.
        only: Part of "scene/system association", such as "TUM/PointFusion soft".
        count: Disturbances of each kind.
        plan: The cost of a plan instead of the other losses.
    """
    torch.set_num_threads(1)
    console = Console()
    for scene in SCENES:
        if scene in REAL and not (data / REAL[scene][0]).is_dir():
            console.print(f"{scene}: left out, no folder {data / REAL[scene][0]}")
            continue
        for name in SYSTEMS:
            for association in ASSOCIATIONS:
                key = f"{scene}/{name} {association}"
                key = f"{key}, plan" if plan else key
                if only not in key or key in measured():
                    continue
                ask = (PlanLosses if plan else Losses)(
                    clip(scene, data), partial(make_system, name, association), association
                )
                row = measure(ask, count)
                save("finite_steps", {"rows": measured() | {key: row | {"count": count}}}, images="80x60")
                for loss, kinds in row["correlation"].items():
                    values = "  ".join(
                        f"{kind} " + " ".join(f"{r:.2f}" for r in at.values()) for kind, at in kinds.items()
                    )
                    console.print(f"{key:45s} {loss:6s} {values}  ({row['seconds']:.2f} s)")


def measured() -> dict[str, Any]:
    """What has been measured."""
    return stored("finite_steps").get("rows", {})


if __name__ == "__main__":
    tyro.cli(main)
