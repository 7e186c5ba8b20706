"""Scenes from files: the folder that a run leaves, a map, a mesh, plain points, a volume."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.io.atomic import write_whole
from gradslam_ng.io.optional_import import import_optional
from gradslam_ng.io.ply import read_ply
from gradslam_ng.io.similar_names import meant_path
from gradslam_ng.io.text import read_json, read_text
from gradslam_ng.meshing import tsdf_to_surfels
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.structures import SurfelMap, Trajectory, VoxelGrid
from gradslam_ng.structures.origin import read_origin, relative_to_origin
from gradslam_ng.viz.scene import (
    MOST_POINTS,
    TRACKED,
    BinaryMesh,
    Cloud,
    Scene,
    Triangles,
    outcomes_of,
    place_aside,
    sample,
)

METRICS, FRAMES, TRAJECTORY = "metrics.json", "frames.csv", "trajectory.txt"
STATUSES = {status.name.lower(): int(status) for status in TrackingStatus}
OURS = b'"generator":"gradslam_ng"'  # of a .glb file
SAME_TIME = 1e-4  # seconds, between the times of a frame in two files
LOWEST, HIGHEST = (38, 50, 110), (250, 215, 120)  # colors of points that have none
GLB_AXES = (1.0, -1.0, -1.0)  # of x right, y up, z backward in those of a camera: x right, y down, z forward


@dataclass(frozen=True, eq=False)
class Frames:
    """What became of the frames of a run, in order: its `frames.csv`."""

    seconds: Tensor  # (L,) float64
    statuses: Tensor  # (L,) int64, a `TrackingStatus` each

    def save(self, path: Path) -> None:
        """One line a frame: its number, its time stamp, its status."""
        rows = zip(self.seconds.tolist(), self.statuses.tolist(), strict=True)
        lines = [f"{i},{t!r},{TrackingStatus(status).name.lower()}" for i, (t, status) in enumerate(rows)]
        write_whole(path, "\n".join(["frame,seconds,status", *lines]) + "\n")

    @staticmethod
    def load(path: Path) -> Frames:
        """What `save` wrote.

        Raises:
            FileNotFoundError, ValueError: no such file, or another kind of file; names it.
        """
        expected = "lines 'frame,seconds,status'"
        rows = [line.split(",") for line in read_text(path, expected).splitlines()[1:] if line.strip()]
        try:
            seconds = [float(second) for _, second, _ in rows]
            statuses = [STATUSES[status] for _, _, status in rows]
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}: expected {expected}, got {error}") from None
        return Frames(torch.tensor(seconds, dtype=torch.float64), torch.tensor(statuses, dtype=torch.int64))


def read_scene(path: Path, most: int = MOST_POINTS) -> Scene:
    """The scene in the folder of a run, or in a .ply, .glb or .npz file.

    Raises:
        FileNotFoundError: no such file, or a folder without results of a run.
        ValueError: a file of another kind, which the message names.
    """
    if path.is_dir():
        return read_run(path, most)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}{meant_path(path)}")
    readers: dict[str, Callable[[], Scene]] = {
        ".ply": lambda: _read_ply(path, None, most),
        ".glb": lambda: Scene(Cloud.join([]), glb=read_glb(path)),
        ".npz": lambda: _read_volume(path, most),
    }
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: expected the folder of a run, or a .ply, .glb or .npz file")
    return readers[path.suffix.lower()]()


def read_metrics(folder: Path) -> dict[str, Any]:
    """The `metrics.json` of a run.

    Raises:
        FileNotFoundError: the folder holds no results of a run.
        ValueError: not such a file.
    """
    if not (folder / METRICS).is_file():
        raise FileNotFoundError(f"{folder}: expected the folder of a run, which has {METRICS}; there is none")
    metrics = read_json(folder / METRICS, "the metrics of a run")
    if not isinstance(metrics, dict):
        raise ValueError(f"{folder / METRICS}: expected the metrics of a run, got {type(metrics).__name__}")
    return metrics


def read_run(folder: Path, most: int = MOST_POINTS) -> Scene:
    """What a run left in its folder, its submaps beside the map.

    Raises:
        FileNotFoundError, ValueError: see `read_scene`.
    """
    metrics = read_metrics(folder)
    origin = torch.tensor(metrics.get("map", {}).get("origin", [0.0] * 3), dtype=torch.float64)
    T_wc, frames = read_path(folder, origin)
    loops = tuple((int(i), int(j)) for i, j in metrics.get("loop_frames", []) if 0 <= max(i, j) < len(T_wc))
    scene = Scene(Cloud.join([]), T_wc, outcomes_of(frames.statuses), frames.seconds, loops)
    if (folder / "map.ply").is_file():
        scene = replace(scene, cloud=_read_ply(folder / "map.ply", origin, most).cloud)
    if (folder / "mesh.ply").is_file():
        scene = replace(scene, mesh=_read_ply(folder / "mesh.ply", origin, most).mesh)
    return _with_submaps(scene, folder, len(metrics.get("submaps", [])), most)


def _with_submaps(scene: Scene, folder: Path, count: int, most: int) -> Scene:
    """A scene with the submaps, of so many with the map, that are not connected with it, their cameras in them."""
    up, clouds, T_wc, outcomes = scene.up, [scene.cloud], scene.T_wc.clone(), scene.outcomes.clone()
    worlds = torch.zeros_like(outcomes)
    for number in range(1, count):
        path = folder / f"map_{number}.ply"
        if not path.is_file():
            continue
        other = sample(SurfelMap.load(path), most, number)
        which, poses = _cameras_of_submap(path, folder / f"trajectory_{number}.txt", scene.seconds)
        motion = place_aside(clouds, other, poses, up)
        clouds.append(other.transform(motion))
        T_wc[which], outcomes[which], worlds[which] = motion @ poses, TRACKED, number
    return replace(scene, cloud=Cloud.join(clouds), T_wc=T_wc, outcomes=outcomes, worlds=worlds)


def _cameras_of_submap(map_: Path, trajectory: Path, seconds: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the frames at these seconds (L,) have a pose in a submap, and these (M, 4, 4) float64 in its axes."""
    if not trajectory.is_file() or not len(seconds):
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4, 4, dtype=torch.float64)
    own = Trajectory.load(trajectory)
    apart, which = (own.timestamps[:, None] - seconds).abs().min(1)
    there = apart < SAME_TIME
    return which[there], relative_to_origin(own.T_wc[there], read_origin(map_), torch.float64)


def read_path(folder: Path, origin: Tensor) -> tuple[Tensor, Frames]:
    """The poses (L, 4, 4) float64 of all frames of a run, relative to an origin (3,), and what became of each.

    A frame without a pose has that of the one before; those before the first that has one, its. There are none where no
    frame has one. Of runs of earlier versions only tracked frames are known.
    """
    tracked = Trajectory.load(folder / TRAJECTORY)
    own = Frames(tracked.timestamps, torch.zeros(len(tracked), dtype=torch.int64))
    poses = relative_to_origin(tracked.T_wc, origin, torch.float64)
    if not (folder / FRAMES).is_file():
        return poses, own
    frames = Frames.load(folder / FRAMES)
    ok = TrackingStatus.is_tracked(frames.statuses)
    if not bool(ok.any()):  # earlier versions wrote poses of which none was found
        return poses[:0], Frames(frames.seconds[:0], frames.statuses[:0])
    if int(ok.sum()) != len(tracked):  # files of two runs
        return poses, own
    row = (ok.cumsum(0) - 1).clamp(min=0)
    return poses[row], frames


def _read_ply(path: Path, origin: Tensor | None, most: int) -> Scene:
    """Surfels, plain points or a mesh, relative to an origin (3,); None for the file's own."""
    vertices, faces = read_ply(path)
    if not vertices.keys() >= {"x", "y", "z"} or not len(vertices["x"]):
        if faces is not None or "radius" in vertices:  # an empty map, or the mesh of one
            return Scene(Cloud.join([]))
        raise ValueError(f"{path}: expected vertices with columns x, y and z, found none")
    own = read_origin(path) if origin is None else origin

    def stacked(names: str, otherwise: float) -> Tensor:
        words = names.split()
        if not vertices.keys() >= set(words):
            return torch.full((len(vertices["x"]), 3), otherwise, dtype=torch.float64)
        return torch.stack([vertices[name].double() for name in words], -1)

    points = stacked("x y z", 0.0) if own is None else stacked("x y z", 0.0) - own
    has_colors = vertices.keys() >= {"red", "green", "blue"} or (faces is not None and len(faces) > 0)  # a mesh is lit
    colors = stacked("red green blue", 180.0).clamp(0, 255).byte() if has_colors else _by_height(points)
    hidden = _cameras_beside(path, own)
    if faces is not None and len(faces):
        return Scene(Cloud.join([]), mesh=Triangles(points.float(), faces.long(), colors), hidden=hidden)
    some = slice(0, None, max(1, -(-len(points) // most)))
    created = vertices.get("created", torch.zeros(len(points))).long()[some]
    normals = stacked("nx ny nz", 0.0)[some].float()
    return Scene(Cloud(points[some].float(), colors[some], normals, created, torch.zeros_like(created)), hidden=hidden)


def _read_volume(path: Path, most: int) -> Scene:
    """The surface of a volume."""
    surfels = tsdf_to_surfels(VoxelGrid.load(path))
    origin = None if surfels.origin is None else surfels.origin[0]
    return Scene(sample(surfels, most), hidden=_cameras_beside(path, origin))


def _by_height(points: Tensor) -> Tensor:
    """Colors (N, 3) uint8 of points that have none, dark below and light above, where y is down."""
    height = -points[:, 1:2]
    share = (height - height.amin()) / (height.amax() - height.amin()).clamp(min=1e-9)
    low, high = (torch.tensor(color, dtype=points.dtype) for color in (LOWEST, HIGHEST))
    return (low + share * (high - low)).round().byte()


def _cameras_beside(path: Path, origin: Tensor | None) -> Tensor | None:
    """The poses (M, 4, 4) of the cameras of a run, relative to the origin (3,) of its map or mesh, at whose side they
    were written; None for other files, whose axes nothing tells."""
    number = re.fullmatch(r"map(_\d+)|.*", path.stem)
    assert number is not None
    trajectory = path.parent / (f"trajectory{number[1]}.txt" if number[1] else TRAJECTORY)
    if not trajectory.is_file() or not (path.parent / METRICS).is_file():
        return None
    own = Trajectory.load(trajectory)
    return relative_to_origin(own.T_wc[own.known], origin, torch.float64) if bool(own.known.any()) else None


def read_glb(path: Path) -> BinaryMesh:
    """A binary glTF file.

    Raises:
        ImportError: trimesh, which reads it, is missing.
        ValueError: not such a file, or nothing is in it.
    """
    trimesh = import_optional("trimesh", user="reading .glb", extra="view")
    try:
        found = trimesh.load_scene(path)
    except Exception as error:  # of many kinds
        raise ValueError(f"{path}: not a binary glTF file: {error!r}"[:300]) from None
    triangles = sum(len(part.faces) for part in found.geometry.values() if isinstance(part, trimesh.Trimesh))
    if not triangles:
        raise ValueError(f"{path}: expected a mesh, found no triangles")
    data = path.read_bytes()
    if OURS in data:  # its faces are wound as seen from within: walls in front of a room are left out, as of the map
        data = data.replace(b'"doubleSided":true', b'"doubleSided":null')  # of the same length
    return BinaryMesh(data, torch.from_numpy(found.bounds * GLB_AXES).float(), triangles)
