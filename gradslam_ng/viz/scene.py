"""What a viewer shows of a run: points of the map, the camera's path with what became of each frame, loops, a mesh."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradslam_ng.geometry import se3
from gradslam_ng.geometry.upright import estimate_upright
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.structures import SurfelMap, VoxelGrid
from gradslam_ng.structures.voxel_blocks import BLOCK_RESOLUTION, VOXELS_PER_BLOCK, unpack, voxel_offsets

MOST_POINTS = 200_000  # shown of a map
VOXEL_STEP = 3  # every third voxel of a block is looked at: odd, so that rows of eight are not cut alike
GAP = 0.5  # meters between a map and a submap that is not connected with it, which stands beside
TRACKED, UNCERTAIN, LOST = 0, 1, 2  # what became of a frame
NAMES = {TRACKED: "tracked", UNCERTAIN: "uncertain", LOST: "lost"}
COLORS = {TRACKED: (33, 102, 172), UNCERTAIN: (245, 158, 11), LOST: (178, 24, 43)}
LOOP_COLOR = (122, 40, 138)


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of a map, relative to the origin of the scene."""

    points: Tensor  # (N, 3) float32, meters
    colors: Tensor  # (N, 3) uint8
    normals: Tensor  # (N, 3) float32, unit; zero where not known
    created: Tensor  # (N,) int64, the frame that each was first seen in
    submaps: Tensor  # (N,) int64, which of them each belongs to

    def __len__(self) -> int:
        return len(self.points)

    def transform(self, T: Tensor) -> Cloud:  # T (4, 4)
        """The same points moved."""
        motion = T.to(self.points)
        points, normals = se3.transform(motion, self.points), se3.rotate(motion, self.normals)
        return replace(self, points=points, normals=normals)

    @staticmethod
    def join(clouds: list[Cloud]) -> Cloud:
        """All points of several."""
        if not clouds:
            return Cloud(
                torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.uint8), torch.zeros(0, 3),
                torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64),
            )  # fmt: skip
        names = ("points", "colors", "normals", "created", "submaps")
        return Cloud(*(torch.cat([vars(cloud)[name] for cloud in clouds]) for name in names))


@dataclass(frozen=True, eq=False)
class Triangles:
    """A mesh, relative to the origin of the scene."""

    vertices: Tensor  # (V, 3) float32, meters
    faces: Tensor  # (F, 3) int64
    colors: Tensor  # (V, 3) uint8


@dataclass(frozen=True, eq=False)
class BinaryMesh:
    """A binary glTF file, whose axes are x right, y up, z backward."""

    data: bytes
    corners: Tensor  # (2, 3) float32, meters, of the box around it, in the axes of a camera
    triangles: int


@dataclass(frozen=True, eq=False)
class Scene:
    """What there is to see at one moment of a run, or after it."""

    cloud: Cloud
    T_wc: Tensor = field(default_factory=lambda: torch.zeros(0, 4, 4, dtype=torch.float64))  # (L, 4, 4)
    outcomes: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))  # (L,), TRACKED, ...
    seconds: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))  # (L,), of the frames
    loops: tuple[tuple[int, int], ...] = ()  # pairs of frames
    worlds: Tensor | None = None  # (L,) int64: between those of two frames no motion is known; None: all in one
    mesh: Triangles | None = None
    glb: BinaryMesh | None = None
    hidden: Tensor | None = None  # (M, 4, 4) float64, of cameras that saw it and are not shown

    @property
    def extent(self) -> tuple[Tensor, Tensor]:
        """Points (N, 3) and normals (N, 3) of what there is to see: of the map, else of the mesh's triangles."""
        if len(self.cloud):
            return self.cloud.points, self.cloud.normals
        if self.mesh is not None and len(self.mesh.faces):
            a, b, c = self.mesh.vertices[self.mesh.faces].unbind(1)
            return (a + b + c) / 3, normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        found = torch.zeros(0, 3) if self.glb is None else torch.cartesian_prod(*self.glb.corners.unbind(-1))
        return found, torch.zeros_like(found)

    @property
    def cameras(self) -> Tensor:
        """Poses (M, 4, 4) float64 that tell what is up and where it is seen from; the world's where none is known."""
        if len(self.T_wc):
            return self.T_wc
        return torch.eye(4, dtype=torch.float64)[None] if self.hidden is None else self.hidden

    def path(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """From frame to frame, of the first so many, where both are in one world: segments (S, 2, 3) float32, and what
        became of the worse of the two (S,)."""
        centers, outcomes = self.T_wc[:count, :3, 3].float(), self.outcomes[:count]
        segments, worse = torch.stack([centers[:-1], centers[1:]], 1), torch.maximum(outcomes[:-1], outcomes[1:])
        if self.worlds is None:
            return segments, worse
        worlds = self.worlds[:count]
        known = worlds[:-1] == worlds[1:]
        return segments[known], worse[known]

    @property
    def up(self) -> Tensor:
        """The upward direction (3,) of what the cameras saw, whatever the axes of the world; -y where there is none."""
        if not len(self.T_wc) and self.hidden is None:
            return torch.tensor([0.0, -1.0, 0.0])
        return estimate_upright(self.extent[1], self.cameras).float()


def outcomes_of(statuses: Tensor) -> Tensor:  # (L,) int64, a `TrackingStatus` each
    """TRACKED, UNCERTAIN or LOST (L,) int64."""
    found = torch.where(TrackingStatus.is_uncertain(statuses), UNCERTAIN, LOST)
    return torch.where(statuses == TrackingStatus.TRACKED, TRACKED, found)


@torch.no_grad()
def sample(map_: SurfelMap | VoxelGrid, most: int = MOST_POINTS, submap: int = 0) -> Cloud:
    """At most so many points of the first map of a batch, on the CPU: surfels, or voxels that the surface goes through;
    every second, fourth, eighth, ... of them."""
    return _sample_volume(map_, most, submap) if isinstance(map_, VoxelGrid) else _sample_surfels(map_, most, submap)


def _step(count: int, most: int) -> int:
    """A power of two, so that the points of a map that grows stay the same for long."""
    return 1 << max(0, math.ceil(math.log2(max(count, 1) / most)))


def _sample_surfels(map_: SurfelMap, most: int, submap: int) -> Cloud:
    count = int(map_.count[0])
    some = slice(0, count, _step(count, most))
    points = map_.points[0, some].cpu().float()
    return Cloud(
        points.clone(),  # the map is updated in place
        (map_.colors[0, some].clamp(0, 1) * 255).round().byte().cpu(),
        map_.normals[0, some].cpu().float().clone(),
        map_.created[0, some].cpu().clone(),
        torch.full((len(points),), submap),
    )


def _sample_volume(volume: VoxelGrid, most: int, submap: int) -> Cloud:
    some = slice(0, VOXELS_PER_BLOCK, VOXEL_STEP)
    batch_index, block = unpack(volume.keys)
    block, slots = block[batch_index == 0], volume.slots[batch_index == 0]
    near = (volume.sdf[slots, some].abs() < 0.6 * volume.voxel_size) & (volume.color_weight[slots, some] > 0)
    which, voxel = near.nonzero(as_tuple=True)
    which, voxel = (index[:: _step(len(which), most)] for index in (which, voxel))
    place = block[which] * BLOCK_RESOLUTION + voxel_offsets(block.device)[some][voxel]
    colors = volume.color[slots[which], :, voxel * VOXEL_STEP]
    none = torch.zeros(len(which), dtype=torch.int64)
    return Cloud(
        (place * volume.voxel_size).float().cpu(),
        (colors.clamp(0, 1) * 255).round().byte().cpu(),
        torch.zeros(len(which), 3),
        none,
        none + submap,
    )


def place_aside(clouds: list[Cloud], other: Cloud, T_wc: Tensor, up: Tensor) -> Tensor:  # T_wc (L, 4, 4), up (3,)
    """The motion (4, 4) float64 that sets another cloud, and its cameras at T_wc, beside all before."""
    motion = torch.eye(4, dtype=torch.float64)
    known = [cloud.points for cloud in clouds if len(cloud)]
    own = torch.cat([other.points, T_wc[:, :3, 3].float()])
    if not known or not len(own):
        return motion
    axis = int(up.abs().argmin())  # across, not above
    right = max(float(points[:, axis].max()) for points in known)
    motion[axis, 3] = right + GAP - float(own[:, axis].min())
    return motion


def as_array(value: Tensor) -> np.ndarray:
    """A tensor for those who draw."""
    return np.ascontiguousarray(value.detach().cpu().numpy())


def spacing(points: Tensor) -> float:  # (N, 3)
    """How large points must be drawn to close nearly all surfaces, meters: the distance from one to those around it,
    where it is large. Maps are denser where the camera was near; the median would leave every other surface open."""
    if len(points) < 2:
        return 0.01
    some = points[torch.linspace(0, len(points) - 1, min(200, len(points))).long()]
    nearest = torch.cdist(some, points).topk(min(4, len(points)), largest=False).values[:, -1]
    return 1.6 * float(nearest.quantile(0.9))
