"""A building of two floors that a camera is carried through, for `benchmarks.building`; frames as they are needed."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.noise import kinect
from gradslam_ng.datasets.synthetic.paths import upright
from gradslam_ng.datasets.synthetic.placement import Furniture, place
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.datasets.synthetic.solids import Box
from gradslam_ng.geometry import camera
from gradslam_ng.io.open3d_import import import_open3d
from gradslam_ng.structures import Trajectory

WIDTH, HEIGHT, STOREY = 2.6, 2.5, 3.0  # meters, of corridors, and from floor to floor
DOORS = 6.0  # meters between partitions with a door
COARSE = 100.0  # meters, of a box's triangles: two for each face
COLORS = ((0.86, 0.78, 0.63), (0.66, 0.30, 0.24), (0.24, 0.40, 0.50), (0.72, 0.74, 0.64), (0.80, 0.72, 0.82))


class Building(RGBDSequence):
    """What a camera sees that is carried through two floors, `meters` in all, in so many frames.

    Args:
        frames: of the walk.
        meters: of the walk.
        laps: around each floor.
        size: of the images, height and width.
        seed: of wallpapers, furniture and noise.
    """

    def __init__(self, *, frames: int, meters: float, laps: int, size: tuple[int, int], seed: int = 0) -> None:
        self.laps, self.side = laps, (meters - STOREY) / (8 * laps)  # of the square around which each floor is walked
        self.random, self.seed = random.Random(seed), seed
        self.solids = [solid for floor in range(2) for solid in self.floor(floor)]
        T_wc = self.walk(frames)
        times = torch.arange(frames, dtype=torch.float64) / 30
        super().__init__(
            name="building", layout="synthetic", K=default_intrinsics(size), size=size, timestamps=times,
            ground_truth=Trajectory(times, T_wc), T_wc=T_wc,
        )  # fmt: skip
        self.scene = self.mesh()
        self.sight = camera.unproject(torch.ones(*size, 1), self.K).reshape(-1, 3)

    def paper(self) -> texture.Material:
        """A wallpaper with detail at every scale, unlike any other."""
        seed = self.random.randrange(10**6)
        return texture.blend(*self.random.sample(COLORS, 3), wavelength=0.6, octaves=5, seed=seed)

    def floor(self, number: int) -> Furniture:
        """Walls, floor and ceiling in pieces, partitions with doors, and what stands between them."""
        solids: Furniture = []
        for leg in range(4):
            turn = 0.5 * math.pi * leg
            pieces = max(1, round(self.side / DOORS))
            length = self.side / pieces
            for piece in range(pieces):
                solids += self.piece(number, turn, piece * length - self.side / 2, length, piece > 0)
            solids += self.corner(number, turn, is_shaft=leg == 0)
        return solids

    def box(
        self, number: int, turn: float, along: tuple[float, float], across: tuple[float, float], up: tuple[float, float]
    ) -> Furniture:
        """A box between two values along a leg, across it from the middle of the corridor outwards, and above the
        floor."""
        (a0, a1), (b0, b1), (z0, z1) = along, across, up
        x, y = (a0 + a1) / 2, -self.side / 2 - (b0 + b1) / 2
        cos, sin = math.cos(turn), math.sin(turn)
        at = (cos * x - sin * y, sin * x + cos * y, STOREY * number + (z0 + z1) / 2)
        return [place(Box(((a1 - a0) / 2, (b1 - b0) / 2, (z1 - z0) / 2)), at, self.paper(), yaw=turn)]

    def piece(self, number: int, turn: float, start: float, length: float, has_door: bool) -> Furniture:
        """A room of the corridor."""
        half, end = WIDTH / 2, start + length
        start, end = max(start, half - self.side / 2), min(end, self.side / 2 - half)
        solids = self.box(number, turn, (start, end), (half, half + 0.1), (0, HEIGHT))
        solids += self.box(number, turn, (start, end), (-half - 0.1, -half), (0, HEIGHT))
        solids += self.box(number, turn, (start, end), (-half, half), (-0.1, 0))
        solids += self.box(number, turn, (start, end), (-half, half), (HEIGHT, HEIGHT + 0.1))
        if has_door:
            for across in ((-half, -0.5), (0.5, half)):
                solids += self.box(number, turn, (start, start + 0.1), across, (0, HEIGHT))
        for _ in range(max(1, round(length / 1.5))):
            at, outward = self.random.uniform(start + 0.3, end - 0.3), self.random.choice((-1, 1))
            deep, tall, wide = (self.random.uniform(*x) for x in ((0.15, 0.4), (0.4, 2.0), (0.2, 0.5)))
            across = (half - deep, half) if outward > 0 else (-half, deep - half)
            solids += self.box(number, turn, (at - wide, at + wide), across, (0, tall))
        return solids

    def corner(self, number: int, turn: float, is_shaft: bool) -> Furniture:
        """The corner at the end of a leg; a shaft has no ceiling below nor a floor above."""
        half, begin, end = WIDTH / 2, self.side / 2 - WIDTH / 2, self.side / 2 + WIDTH / 2
        top = STOREY if is_shaft and number == 0 else HEIGHT
        solids = self.box(number, turn, (begin, end), (half, half + 0.1), (0, top))
        solids += self.box(number, turn, (end, end + 0.1), (-half, half), (0, top))
        if not (is_shaft and number == 1):
            solids += self.box(number, turn, (begin, end), (-half, half), (-0.1, 0))
        if not (is_shaft and number == 0):
            solids += self.box(number, turn, (begin, end), (-half, half), (HEIGHT, HEIGHT + 0.1))
        return solids

    def walk(self, frames: int) -> Tensor:
        """(L, 4, 4) float64: around the first floor, up in the shaft, and around the second one."""
        around = 4 * self.side * self.laps
        total = 2 * around + STOREY
        T = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
        for i in range(frames):
            s = total * i / max(frames - 1, 1)
            lifted = min(max(s - around, 0.0), STOREY)
            x, y, yaw = self.at(s - lifted)
            yaw += math.radians(25) * math.sin(2 * math.pi * s / 5.0)
            sight = torch.tensor([[math.cos(yaw), math.sin(yaw), -0.15]], dtype=torch.float64)
            T[i, :3, :3] = torch.from_numpy(upright((sight / sight.norm()).numpy()))[0]
            T[i, :3, 3] = torch.tensor([x, y, 1.4 + lifted + 0.02 * math.sin(9 * s)], dtype=torch.float64)
        return T

    def at(self, s: float) -> tuple[float, float, float]:
        """Where the camera is after so many meters around a floor, and where it looks, radians; it begins in the shaft,
        and turns within a meter of a corner."""
        leg, s = divmod(s, self.side)
        near, turn = 1.0, 0.5 * math.pi * (leg + 1)
        x, y = s - self.side / 2, -self.side / 2
        yaw = turn + 0.25 * math.pi * (max(0.0, 1 - (self.side - s) / near) - max(0.0, 1 - s / near))
        cos, sin = math.cos(turn), math.sin(turn)
        return cos * x - sin * y, sin * x + cos * y, yaw

    def mesh(self) -> Any:
        """All boxes as triangles, a geometry each, for Open3D to meet rays with: what `synthetic.render` does solid by
        solid takes ten times as long here."""
        open3d = import_open3d()
        scene = open3d.t.geometry.RaycastingScene(nthreads=1)
        for solid in self.solids:
            p_s, faces = solid.shape.mesh(COARSE)
            p_w = p_s @ solid.T_ws[:3, :3].mT + solid.T_ws[:3, 3]
            scene.add_triangles(p_w.float().numpy(), faces.numpy().astype(np.uint32))
        scene.cast_rays(np.ones((1, 6), np.float32))  # makes its tree, which threads that read must not do at once
        return scene

    @torch.no_grad()
    def read(self, index: int) -> tuple[Tensor, Tensor]:
        T_wc = self.ground_truth.T_wc[index]
        R_wc, o_w = T_wc[:3, :3].float(), T_wc[:3, 3].float()
        d_w = self.sight @ R_wc.mT  # one meter along the optical axis: what a ray meets after so many is depth
        hits = self.scene.cast_rays(torch.cat([o_w.expand_as(d_w), d_w], -1).numpy())
        depth, normal, solid = (
            torch.from_numpy(hits[name].numpy()) for name in ("t_hit", "primitive_normals", "geometry_ids")
        )
        met = depth.isfinite()
        depth, n_w = torch.where(met, depth, 0.0), normalize(normal, dim=-1)
        footprint = 0.5 * depth / self.K[0, 0] / -(n_w * normalize(d_w, dim=-1)).sum(-1).clamp(max=-0.1)
        color, solid = torch.zeros_like(d_w), torch.where(met, solid.long(), -1)
        for number in solid[met].unique().tolist():
            mine, one = solid == number, self.solids[number]
            p_s = one.to_local(T_wc[:3, 3] + depth[mine, None].double() * d_w[mine]).float()
            color[mine] = one.material(p_s, one.rotate_to_local(n_w[mine]), footprint[mine])
        height, width = self.size
        images = (x.reshape(height, width, -1) for x in (color.clamp(0, 1), depth, n_w @ R_wc))
        return kinect(*images, self.K, 10**6 * self.seed + index)
