"""`gradslam-ng mesh MAP`: marching cubes on either kind of map, and what makes the mesh smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from torch import Tensor

from gradslam_ng.commands.arguments import OptionalInt, OptionalPath
from gradslam_ng.commands.console import working
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.run_folder import load_estimate, map_file
from gradslam_ng.geometry.upright import estimate_upright
from gradslam_ng.meshing import bake_texture, decimate, marching_cubes, remove_small_components, surfels_to_tsdf
from gradslam_ng.structures import SurfelMap, VoxelGrid
from gradslam_ng.structures.mesh import Mesh
from gradslam_ng.viz.scene_files import TRAJECTORY

FORMATS = (".ply", ".glb", ".obj", ".stl")
TEXTURED = (".glb", ".obj")
MapFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR|MAP")]


def mesh(
    map_: MapFile,
    /,
    out: OptionalPath = None,
    voxel_size: float = 0.01,
    min_component: int = 0,
    decimate: OptionalInt = None,
    texture: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Make a mesh of either kind of map.

    Args:
        map_: map.ply, surfels, or volume.npz, a volume; or the folder of a run that holds one.
        out: A .ply, .obj, .stl, or .glb (upright if the trajectory lies beside the map); default: mesh.ply beside it.
        voxel_size: Meters; of the mesh of surfels. A volume has its own.
        min_component: Connected parts of fewer triangles are left out.
        decimate: Triangles that are left at most.
        texture: Colors in an image, of a .glb or .obj, which keeps what larger triangles would blur.
    """
    map_ = map_file(map_)
    out = map_.with_name("mesh.ply") if out is None else out
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"out: expected a name that ends in {', '.join(FORMATS)}, got {out.name!r}")
    if min_component < 0:
        raise UsageError(f"min_component: expected a number of triangles, got {min_component}")
    if decimate is not None and decimate < 1:
        raise UsageError(f"decimate: expected a positive number of triangles, got {decimate}")
    if texture and out.suffix.lower() not in TEXTURED:
        raise UsageError(f"texture: expected an --out that ends in {' or '.join(TEXTURED)}, got {out.name!r}")
    with working("surface") as tell:
        surfels = None if map_.suffix.lower() == ".npz" else SurfelMap.load(map_)
        volume = VoxelGrid.load(map_) if surfels is None else surfels_to_tsdf(surfels, voxel_size)
        if out.exists() and out.samefile(map_):
            raise UsageError(f"out: expected another file than the map itself, got {out}")
        whole = marching_cubes(volume)
        tell(f"{len(whole.faces)} triangles")
        smaller = _make_smaller(whole, min_component, decimate)
        if texture and len(smaller.faces):
            tell("texture")
            smaller = _with_texture(smaller, whole, surfels, volume.voxel_size / 2)
        out.parent.mkdir(parents=True, exist_ok=True)
        smaller.save(out, _up(map_, whole))
    faces, vertices, before = len(smaller.faces), len(smaller.vertices), len(whole.faces)
    of = f" of {before}" if faces < before else ""
    Console().print(f"{escape(str(out))}: {faces}{of} triangles, {vertices} vertices", soft_wrap=True)


def _make_smaller(mesh: Mesh, min_component: int, faces: int | None) -> Mesh:
    mesh = remove_small_components(mesh, min_component)
    return mesh if faces is None else decimate(mesh, faces)


def _with_texture(mesh: Mesh, whole: Mesh, surfels: SurfelMap | None, texel: float) -> Mesh:
    """Colored by surfels where there are any, else by the corners of all triangles before they became fewer."""
    if surfels is None:
        return bake_texture(mesh, whole.vertices, whole.colors, texel)
    return bake_texture(mesh, surfels.points[surfels.mask], surfels.colors[surfels.mask], texel)


def _up(map_: Path, mesh: Mesh) -> Tensor | None:
    """The upward direction (3,) of the world, None where no trajectory tells it."""
    poses = map_.with_name(TRAJECTORY)
    trajectory = load_estimate(poses) if poses.is_file() else None
    if trajectory is None or not bool(trajectory.known.any()):
        return None
    return estimate_upright(mesh.normals, trajectory.T_wc)
