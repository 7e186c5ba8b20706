"""Where to look next: a camera explores a room by the views that tell it the most.

After each view the volume is fused, what the camera saw through is carved free, and the next view (position, yaw,
pitch) is the one of most information, `planning.next_best_view`: the cross-entropy method over all views, then its
gradient. A point of the room's surface is reconstructed once the volume's zero is within 4 cm of it; how many of those
that the room shows at all are, by the number of views, stands beside views at random and beside a walk around the room
that looks ahead.

    python -m demos.next_view --out out
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import max_pool3d

import gradslam_ng as gs
from demos.common.rooms import random_room
from gradslam_ng import planning
from gradslam_ng.datasets.synthetic.paths import camera_path
from gradslam_ng.datasets.synthetic.render import render
from gradslam_ng.datasets.synthetic.rooms import Room, living_room
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.geometry import camera, se3
from gradslam_ng.planning.occupancy import OCCUPIED

SIZE, FEW = (96, 128), (9, 12)  # pixels of the camera, and rays of a view that is thought of
K = default_intrinsics(SIZE).float()
VOXEL, TRUNCATION, CELL = 0.02, 0.06, 0.05  # meters
HEIGHTS, BEYOND = (-0.15, 2.75), 0.2  # meters, up, and beyond the walls, of the cells
EYE, MAX_DEPTH = 1.2, 4.0  # meters above the floor, and that the camera measures
CLOSE = 0.04  # meters, that the volume's surface is off at most
BORDER, DEEP = 0.5, 0.02  # opacity of unknown cells beside free ones, where there should be a surface, and of others
PRIOR = 0.05  # weight of knowing nothing: a twentieth of that of having looked once
APART = 0.3  # meters, of a camera from what stands in the room
PITCH = (-0.7, 0.4)  # radians
SHARES = (0.8, 0.9, 0.95)  # of the surface
POINTS = 20000  # on it


def pose(view: Tensor) -> Tensor:
    """T_wc (..., 4, 4) of x, y, yaw and pitch (..., 4): at the height of the eye, yaw 0 along x, pitch up."""
    x, y, yaw, pitch = view.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    forward = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), pitch.sin()], -1)
    right = torch.stack([yaw.sin(), -yaw.cos(), zero], -1)
    at = torch.stack([x, y, EYE * one], -1)
    top = torch.stack([right, torch.linalg.cross(forward, right), forward, at], -1)
    return torch.cat([top, torch.stack([zero, zero, zero, one], -1)[..., None, :]], -2)


class Explorer:
    """What a camera has made of the room so far, and what is left."""

    def __init__(self, room: Room, points: Tensor) -> None:
        self.room, self.points = room, points
        self.volume = gs.VoxelGrid.empty(1, VOXEL, TRUNCATION)
        self.frames: list[gs.RGBDFrames] = []
        self.grid = all_unknown(room)
        self.looks = torch.zeros(self.grid.state.shape)  # how many frames have looked at each cell
        self.told = 0  # frames of which grid and looks know

    def look(self, frame: gs.RGBDFrames) -> None:
        """Fuse a frame."""
        with torch.no_grad():
            self.volume = gs.integrate(self.volume, frame)
        self.frames.append(frame)

    def reconstructed(self) -> Tensor:
        """(P,) bool, of the points."""
        sdf, _, weight = self.volume.query(self.points[None])
        return ((weight > 0) & (sdf.abs() < CLOSE))[0]

    def uncertainty(self) -> planning.Uncertainty:
        """By how often each cell has been looked at. The volume's weights would say as much of a cell of which only the
        neighbor has been measured."""
        for frame in self.frames[self.told :]:
            self.grid, looked = tell(self.grid, frame)
            self.looks += looked
        self.told = len(self.frames)
        free = self.grid.free
        beside = max_pool3d(free[None].float(), 3, 1, 1)[0] > 0
        unknown = torch.where(beside, BORDER, DEEP)
        opacity = torch.where(self.grid.occupied, 1.0, torch.where(free, 0.0, unknown))
        return planning.Uncertainty(opacity, self.looks * ~free, self.grid, DEEP)

    def best(self, generator: torch.Generator, samples: int = 150, refinements: int = 20) -> planning.NextView:
        low, high = limits(self.room)
        return planning.next_best_view(
            self.uncertainty(), few_rays(), FEW, pose=pose, mean=0.5 * (low + high), std=0.5 * (high - low),
            limits=(low, high), samples=samples, elites=samples // 10, refinements=refinements, max_depth=MAX_DEPTH,
            prior=PRIOR, generator=generator,
        )  # fmt: skip


def walls(room: Room) -> tuple[Tensor, Tensor]:
    """The least and the largest x and y (2,) within them, meters."""
    at = torch.stack([solid.T_ws[:2, 3] for solid in room.solids if solid.name == "wall"]).float()
    return at.amin(0), at.amax(0)


def limits(room: Room) -> tuple[Tensor, Tensor]:
    """The least and the largest x, y, yaw and pitch (4,)."""
    low, high = walls(room)
    return (
        torch.cat([low + APART, torch.tensor([-math.pi, PITCH[0]])]),
        torch.cat([high - APART, torch.tensor([math.pi, PITCH[1]])]),
    )


def all_unknown(room: Room) -> planning.Occupancy:
    low, high = (bound + side * BEYOND for side, bound in zip((-1, 1), walls(room), strict=True))
    first, last = torch.cat([low, torch.tensor(HEIGHTS[:1])]), torch.cat([high, torch.tensor(HEIGHTS[1:])])
    unknown = torch.ones(((last - first) / CELL).ceil().int().tolist(), dtype=torch.bool)
    return planning.Occupancy.from_cells(~unknown, unknown, origin=first + 0.5 * CELL, cell=CELL)


def tell(grid: planning.Occupancy, frame: gs.RGBDFrames) -> tuple[planning.Occupancy, Tensor]:
    """The grid with what a frame says of it, and which cells (X, Y, Z) it has looked at: that lie in its view and not
    behind what it saw. Where it has no reading, there is nothing as far as the camera measures."""
    reach = replace(frame, depth=torch.where(frame.depth > 0, frame.depth, MAX_DEPTH))
    grid = grid.carve(gs.RGBDFrames.stack([reach]))
    state, depth = grid.state.clone(), frame.depth.view(SIZE)
    hits = se3.transform(frame.T_wc, camera.unproject(frame.depth, K).view(-1, 3)[depth.flatten() > 0])
    state[tuple(grid.cells_of(hits.double()).unbind(-1))] = OCCUPIED
    p = se3.transform(se3.inverse(frame.T_wc), grid.centers().float())
    uv, z = camera.project(p, K)
    u, v = (uv + 0.5).floor().unbind(-1)
    inside = (z > 0) & (u >= 0) & (u < SIZE[1]) & (v >= 0) & (v < SIZE[0])
    seen = reach.depth.flatten()[torch.where(inside, v * SIZE[1] + u, 0.0).long()]
    return replace(grid, state=state), inside & (z < seen + CELL) & (z < MAX_DEPTH)


def few_rays() -> Tensor:
    """The intrinsics (3, 3) of an image of `FEW` pixels of the same view."""
    s = FEW[0] / SIZE[0]
    few = K * torch.tensor([[s], [s], [1.0]])
    few[:2, 2] += 0.5 * (s - 1)
    return few


def photograph(room: Room, view: Tensor) -> gs.RGBDFrames:
    """What the camera sees from x, y, yaw and pitch (4,)."""
    T_wc = pose(view.double())
    seen = render(room, T_wc, K.double(), SIZE)
    depth = torch.where(seen.depth < MAX_DEPTH, seen.depth, 0.0)
    return gs.RGBDFrames(seen.color.float(), depth.float(), K, T_wc.float())


def at_random(room: Room, count: int, generator: torch.Generator) -> Tensor:
    """Views (count, 4), evenly over position, yaw and pitch, where the camera does not touch anything."""
    low, high = limits(room)
    views = low + (high - low) * torch.rand(20 * count, 4, generator=generator)
    apart = room.clearance(pose(views.double())[:, :3, 3])
    return views[apart > APART][:count]


def ahead(room: Room, count: int) -> Tensor:
    """Views (count, 4) along one walk around the room, evenly apart, that look where it goes."""
    at = camera_path("orbit", room, 40 * count, 0)[1][:, :2, 3].float()
    along = torch.cat([torch.zeros(1), (at[1:] - at[:-1]).norm(dim=-1).cumsum(0)]).numpy()
    even = np.linspace(0, along[-1], count + 1)
    x, y = (torch.from_numpy(np.interp(even, along, at[:, k].numpy())).float() for k in range(2))
    yaw = torch.atan2(y[1:] - y[:-1], x[1:] - x[:-1])
    return torch.stack([x[:-1], y[:-1], yaw, torch.full_like(yaw, -0.15)], -1)


def surface(room: Room, count: int, generator: torch.Generator) -> Tensor:
    """Points (count, 3) all over the room's surface, evenly by area."""
    vertices, faces = room.surface
    corners = vertices.float()[faces]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    chosen = corners[torch.multinomial(area, count, replacement=True, generator=generator)]
    share = -torch.rand(count, 3, 1, generator=generator).clamp(min=1e-6).log()  # even over a triangle
    return (share * chosen).sum(1) / share.sum(1)


def explore(explorer: Explorer, views: int, choose: Callable[[int], gs.RGBDFrames]) -> list[float]:
    """Share of the points reconstructed after each of so many frames."""
    shares = []
    for k in range(views):
        explorer.look(choose(k))
        shares.append(float(explorer.reconstructed().double().mean()))
    return shares


def enough(shares: list[float], share: float) -> int | None:
    """Views until a share of the points is reconstructed, None if it never is."""
    return next((k + 1 for k, now in enumerate(shares) if now >= share), None)


def search(explorer: Explorer, seed: int) -> dict:
    """Square meters that the view found is worth, and seconds, by the way of searching."""
    ways = {"100 samples": (100, 0), "100 samples, then gradient": (100, 20), "1,000 samples": (1000, 0)}
    rows = {}
    explorer.uncertainty()  # so that no way's time has that of the frames
    for name, (samples, refinements) in ways.items():
        began = time.process_time()
        found = explorer.best(torch.Generator().manual_seed(seed), samples, refinements)
        rows[name] = {"worth, m^2": float(found.information), "seconds": time.process_time() - began}
    return rows


def main(
    out: Path = Path("out"),
    views: int = 40,
    pool: int = 100,
    runs: int = 2,
    samples: int = 150,
    seed: int = 0,
    room_seed: int | None = None,
) -> dict:
    """Write next_view.png and .json.

    Args:
        out: folder for both.
        views: of each exploration.
        pool: random views, of which those at random are drawn, and which together say what the room shows.
        runs: explorations by next best views, and at random, each.
        samples: views that are thought of at a time, in each of six iterations.
        seed: of all.
        room_seed: of a random room, instead of the living room.
    """
    torch.set_num_threads(1)
    room = living_room() if room_seed is None else random_room(room_seed)
    generator = torch.Generator().manual_seed(seed)
    frames = [photograph(room, view) for view in at_random(room, pool, generator)]
    points = surface(room, POINTS, generator)
    everything = Explorer(room, points)
    explore(everything, pool, lambda k: frames[k])
    points = points[everything.reconstructed()]
    curves: dict[str, list[list[float]]] = {"next best": [], "at random": [], "looking ahead": []}
    for run in range(runs):
        order = [0, *(1 + torch.randperm(pool - 1, generator=generator)).tolist()]
        curves["at random"].append(explore(Explorer(room, points), pool, lambda k, order=order: frames[order[k]]))
        draws, explorer = torch.Generator().manual_seed(seed + run), Explorer(room, points)

        def best(k: int, explorer: Explorer = explorer, draws: torch.Generator = draws) -> gs.RGBDFrames:
            return frames[0] if k == 0 else photograph(room, explorer.best(draws, samples).parameters)

        curves["next best"].append(explore(explorer, views, best))
        print(f"run {run}: next best {curves['next best'][-1]}, at random {curves['at random'][-1]}", flush=True)
    walk = ahead(room, views)
    curves["looking ahead"].append(explore(Explorer(room, points), views, lambda k: photograph(room, walk[k])))
    half = Explorer(room, points)
    explore(half, views // 4, lambda k: explorer.frames[k])
    numbers: dict = {
        name: {f"views to {share:.0%}": [enough(one, share) for one in shares] for share in SHARES}
        | {f"share after {k}": [one[k - 1] for one in shares] for k in (views // 4, views // 2, views)}
        for name, shares in curves.items()
    }
    numbers["search"] = search(half, seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "next_view.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "next_view.png", curves, half)
    print(json.dumps(numbers, indent=2))
    return numbers


def draw(path: Path, curves: dict[str, list[list[float]]], explorer: Explorer) -> None:
    """Shares by the number of views, and what is known after a quarter of them, with the views."""
    figure = Figure(figsize=(12, 5), dpi=90, layout="constrained")
    left, right = figure.subplots(1, 2)
    for color, (name, shares) in zip(("tab:blue", "tab:orange", "tab:green"), curves.items(), strict=True):
        for k, one in enumerate(shares):
            left.plot(range(1, len(one) + 1), one, color=color, lw=1, label=None if k else name)
    left.axhline(SHARES[-1], color="black", lw=0.7, ls=":")
    left.set(xlabel="views", ylabel="share of the surface reconstructed", ylim=(0, 1))
    left.legend()
    grid = explorer.uncertainty().grid
    level = int(((EYE - grid.origin[2]) / CELL).round())
    low, high = (
        grid.center(torch.tensor(at))[:2] for at in ([-0.5, -0.5, 0.0], [*(n - 0.5 for n in grid.state.shape)])
    )
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    right.imshow(
        grid.state[..., level].T, origin="lower", extent=extent, cmap=ListedColormap(["0.75", "white", "black"])
    )
    poses = torch.stack([frame.T_wc for frame in explorer.frames])
    right.quiver(*poses[:, :2, 3].T, *poses[:, :2, 2].T, color="tab:blue", scale=12, width=0.006)
    for k, at in enumerate(poses[:, :2, 3].tolist()):
        right.annotate(str(k + 1), at, fontsize=9)
    right.set(title=f"free, unknown (gray) at eye height after {len(poses)} next best views", xlabel="m")
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
