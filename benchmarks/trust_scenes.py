"""Recordings and rendered rooms, disturbed in what ways a camera is: the sequences of `benchmarks.trust`.

Rendered ones are 320x240 with Kinect noise, each rendered once, into a cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import gradslam_ng as gs
from benchmarks.house import Carried, InHouse, house, paper, poses
from benchmarks.robustness import Bench
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.datasets.synthetic import Corrupted, Dropout, GainDrift, LensCover, Synthetic, texture
from gradslam_ng.datasets.synthetic.placement import place, shell
from gradslam_ng.datasets.synthetic.render import RenderedView, render
from gradslam_ng.datasets.synthetic.scene import Room
from gradslam_ng.datasets.synthetic.solids import Box
from gradslam_ng.structures import Trajectory

SIZE = (240, 320)
HURRIED_FRAMES = 120  # of the living room at a hand's speed
DROP = 10  # every so many-th frame of a hurried camera is missing
HOUSE_STEP = 6  # frames, of those rendered in the house
MIRROR_WALL = -1.75  # meters, y
MIRROR = (-4.6, -3.2), (0.6, 2.0)  # meters, x and z
DISTURBED = {"ICL kt3": ((3, 24),)}  # every so many-th frame, frames
RECORDINGS = {  # folder, frames, steps, whether the truth is exact
    "ICL kt3": ("icl/office_room_traj3_frei_png", 99, (3, 10, 20), True),
    "TUM fr3": ("tum/rgbd_dataset_freiburg3_structure_notexture_far", 250, (15, 30), False),
    "redkitchen": ("sevenscenes_tum/redkitchen", 300, (10, 15, 20, 30), False),
    "office walk": ("hololens/office_walk", 150, (1, 2, 3), False),
}


class Scene(NamedTuple):
    """A sequence to be tracked."""

    group: str  # of the row that it counts in
    name: str
    sequence: Callable[[], RGBDSequence]
    exact: bool  # truth
    factor: int | None = None  # by which images are shrunk; None: as `run` does


class Picked(RGBDSequence):
    """Frames of a sequence in another order, at even times; a frame may come more than once."""

    def __init__(self, sequence: RGBDSequence, order: list[int], seconds: float = 1 / 30) -> None:
        timestamps = seconds * torch.arange(len(order), dtype=torch.float64)
        T_wc = None if sequence.T_wc is None else sequence.T_wc[torch.tensor(order)]
        truth = None if T_wc is None else Trajectory(timestamps, T_wc)
        K, size = sequence.K, sequence.size
        super().__init__(
            name=sequence.name, layout=sequence.layout, K=K, size=size, timestamps=timestamps, ground_truth=truth,
            T_wc=T_wc,
        )  # fmt: skip
        self.sequence, self.order = sequence, order

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        frame = self.sequence[self.order[index]]
        return frame.color, frame.depth


class Hurried(Picked):
    """Every `speed`-th frame, blurred by what lies between, and one in `DROP` left out; `speed` is a multiple of 3."""

    def __init__(self, sequence: RGBDSequence, speed: int) -> None:
        self.reach = speed // 3  # frames to either side that an exposure lasts
        middle = range(self.reach, len(sequence) - self.reach, speed)
        super().__init__(sequence, [i for k, i in enumerate(middle) if k % DROP != DROP - 1], seconds=speed / 30)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        i = self.order[index]
        around = [self.sequence[k].color for k in range(i - self.reach, i + self.reach + 1)]
        return torch.stack(around).mean(0), self.sequence[i].depth


class WithMirror(InHouse):
    """With a mirror on a wall: there the camera sees, and measures, the room behind it."""

    def view(self, index: int) -> RenderedView:
        view, T_wc = super().view(index), self.ground_truth.T_wc[index]
        reflection = torch.diag(torch.tensor([1.0, -1, 1, 1], dtype=torch.float64))
        reflection[1, 3] = 2 * MIRROR_WALL
        reflected = render(self.room, reflection @ T_wc, self.K, self.size, antialias=False)
        v, u = torch.meshgrid(torch.arange(self.size[0]), torch.arange(self.size[1]), indexing="ij")
        pixels = torch.stack([u, v, torch.ones_like(u)], -1).double()
        sight = pixels @ torch.linalg.inv(self.K.double()).mT @ T_wc[:3, :3].mT
        depth = (MIRROR_WALL - T_wc[1, 3]) / sight[..., 1]
        x, z = (T_wc[k, 3] + depth * sight[..., k] for k in (0, 2))
        (left, right), (low, high) = MIRROR
        inside = (depth > 0) & (x > left) & (x < right) & (z > low) & (z < high) & (depth < view.depth[..., 0])
        images = zip(astuple(reflected), astuple(view), strict=True)
        return RenderedView(*(torch.where(inside.reshape(*inside.shape, *[1] * (a.ndim - 2)), a, b) for a, b in images))


class WithVisitor(InHouse):
    """Somebody walks to and fro in front of the camera and hides up to half of the view."""

    def view(self, index: int) -> RenderedView:
        side, T_wc = 0.9 * math.sin(index / 9), self.ground_truth.T_wc[index]
        at = T_wc[:3, 3] + 1.1 * T_wc[:3, 2] + side * T_wc[:3, 0]
        visitor = place(Box((0.25, 0.15, 0.85)), (float(at[0]), float(at[1]), 0.85), paper(1, 900), yaw=index / 20)
        scene = replace(self.room, solids=[*self.room.solids, visitor])
        return render(scene, T_wc, self.K, self.size, antialias=False)


def tiled() -> Room:
    """A room whose walls are tiled: every 20 cm like the last."""
    walls = dict.fromkeys(("-x", "+x", "-y", "+y", "floor", "ceiling"), texture.tiles((0.7, 0.68, 0.64), 0.2, seed=3))
    return Room("tiled", shell((-5.7, -1.8, 0.0), (-1.9, 1.8, 2.5), walls), (), shaded=False)


def gray(index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """All of one color."""
    return torch.full_like(color, 0.5), depth


def noisy(index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Depth three times as noisy as a Kinect's, color of a dark room."""
    generator = torch.Generator().manual_seed(index)
    more = 0.0036 + 0.0057 * (depth - 0.4).clamp(min=0) ** 2
    grain = 0.06 * torch.randn(color.shape, generator=generator)
    depth = torch.where(depth > 0, depth + more * torch.randn(depth.shape, generator=generator), depth)
    return (color + grain).clamp(0, 1), depth.clamp(min=0)


def holes(index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """No depth in half of the image, in patches that move."""
    height, width = depth.shape[:2]
    generator = torch.Generator().manual_seed(index // 3)
    patches = torch.rand(1, 1, 5, 7, generator=generator)
    mask = torch.nn.functional.interpolate(patches, (height, width))[0, 0, :, :, None] < 0.5
    return color, torch.where(mask, 0.0, depth)


def hand(index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Something near covers a part of the image, and moves to and fro; up to two thirds."""
    width = depth.shape[1]
    edge = int(width * (0.35 + 0.32 * float(torch.sin(torch.tensor(index / 3.0)))))
    color, depth = color.clone(), depth.clone()
    stripes = 0.4 + 0.3 * torch.sin(torch.arange(edge) - float(edge))[None, :, None]
    color[:, :edge], depth[:, :edge] = stripes, 0.55
    return color, depth


def frozen(length: int) -> list[int]:
    """A camera whose image freezes for three frames again and again, while it moves on."""
    return [i - i % 8 if i % 8 < 4 else i for i in range(length)]


def dropped(length: int, share: float = 0.3) -> list[int]:
    """Frames left out at random, and three in a row now and then."""
    some = torch.rand(length, generator=torch.Generator().manual_seed(3)) > share
    return [i for i in range(length) if bool(some[i]) and i % 12 < 9]


DISTURBANCES: dict[str, Callable[[RGBDSequence], RGBDSequence]] = {
    "no texture": lambda s: Corrupted(s, gray),
    "noise": lambda s: Corrupted(s, noisy),
    "depth holes": lambda s: Corrupted(s, holes, Dropout(0.5)),
    "exposure": lambda s: Corrupted(s, GainDrift(0.25, 8)),
    "something near": lambda s: Corrupted(s, hand),
    "covered": lambda s: Corrupted(s, LensCover(6, 4), LensCover(16, 4, (0.1, 0.2))),
    "identical frames": lambda s: Picked(s, frozen(len(s))),
    "dropped frames": lambda s: Picked(s, dropped(len(s))),
}


def recordings(data: Path) -> Iterator[Scene]:
    """Those there are, thinned to every so many-th frame, and disturbed."""
    for name, (folder, frames, steps, exact) in RECORDINGS.items():
        if not (data / folder).is_dir():
            print(f"{name}: left out, no folder {data / folder}")
            continue
        whole = gs.datasets.load(data / folder)
        for step in steps:
            yield Scene(f"{name}, thinned", f"{name}, every {step}", partial(part, whole, frames, step), exact)
        for step, count in DISTURBED.get(name, ()):
            for disturbance in DISTURBANCES:
                make = partial(disturb, disturbance, partial(part, whole, count * step, step))
                yield Scene(disturbance, f"{name}, {disturbance}", make, exact, 4)


def part(whole: RGBDSequence, frames: int, step: int) -> RGBDSequence:
    """Every so many-th of the first frames."""
    return whole[:frames:step]


def disturb(name: str, make: Callable[[], RGBDSequence]) -> RGBDSequence:
    """A sequence with the disturbance of that name."""
    return DISTURBANCES[name](make())


def hurry(make: Callable[[], RGBDSequence], speed: int) -> RGBDSequence:
    """A sequence at so many times its speed."""
    return Hurried(make(), speed)


def rendered(cache: Path) -> Iterator[Scene]:
    """Rooms and the house."""
    bench = Bench(gs.PointFusion, Path(), cache, False)

    def room(name: str, frames: int, step: int = 1) -> RGBDSequence:
        scene = partial(Synthetic, name, frames=frames, size=SIZE, noise="kinect")
        return bench.rendered(f"{name}_{frames}", scene)[::step]

    def in_house(name: str, step: int) -> RGBDSequence:
        return bench.rendered(f"house_{name.replace(' ', '_')}_{step}", lambda: IN_HOUSE[name]()[::step])

    living = partial(room, "living_room", 90)
    for step in (3, 10):
        yield Scene("rendered rooms", f"living room, every {step}", partial(living, step), True, 2)
    for disturbance in DISTURBANCES:
        yield Scene(
            disturbance, f"living room, {disturbance}", partial(disturb, disturbance, partial(living, 3)), True, 2
        )
    for speed in (3, 6):
        hurried = partial(hurry, partial(room, "living_room", HURRIED_FRAMES), speed)
        yield Scene("motion blur", f"living room, {speed} times as fast", hurried, True)
    for name in ("wall", "corner"):
        bare = partial(room, name, 40, 2)
        yield Scene("rendered rooms", name, bare, True, 2)
        yield Scene("no texture", f"{name}, no texture", partial(disturb, "no texture", bare), True, 2)
    for name in IN_HOUSE:
        group = "rendered rooms" if name == "as it is" else name
        yield Scene(group, f"house, {name}, every {HOUSE_STEP}", partial(in_house, name, HOUSE_STEP), True, 2)


def around(count: int) -> Tensor:
    """Poses (L, 4, 4) of a camera that looks around in a room of the house, in front of where the mirror is."""
    s = [k / 30 for k in range(count)]
    path = [Carried(-3.8 + 0.5 * math.sin(t), 0.4 * math.cos(0.7 * t), 40 * math.sin(0.8 * t) - 100) for t in s]
    return poses(path)


IN_HOUSE: dict[str, Callable[[], RGBDSequence]] = {
    "as it is": lambda: InHouse(house(), around(90), seconds=1 / 30, size=SIZE),
    "mirror": lambda: WithMirror(house(), around(90), seconds=1 / 30, size=SIZE),
    "something moving": lambda: WithVisitor(house(), around(90), seconds=1 / 30, size=SIZE),
    "repeated texture": lambda: InHouse(tiled(), around(90), seconds=1 / 30, size=SIZE),
}
