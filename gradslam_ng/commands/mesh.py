"""`gradslam-ng mesh map.ply|volume.npz`: marching cubes on either kind of map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape

from gradslam_ng.commands.errors import UsageError
from gradslam_ng.meshing import marching_cubes, surfels_to_tsdf
from gradslam_ng.structures import SurfelMap, VoxelGrid

MapFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MAP")]


def mesh(map_: MapFile, /, out: Path | None = None, voxel_size: float = 0.01) -> None:
    """Make a mesh of either kind of map.

    Args:
        map_: map.ply, surfels, or volume.npz, a volume.
        out: Where it goes, a .ply or .glb; default: mesh.ply beside the map.
        voxel_size: Meters; of the mesh of surfels. A volume has its own.
    """
    if not map_.is_file():
        raise FileNotFoundError(f"no such file: {map_}")
    out = map_.with_name("mesh.ply") if out is None else out
    if out.suffix.lower() not in (".ply", ".glb"):
        raise ValueError(f"out: expected a name that ends in .ply or .glb, got {out.name!r}")
    volume = VoxelGrid.load(map_) if map_.suffix == ".npz" else surfels_to_tsdf(SurfelMap.load(map_), voxel_size)
    if out.exists() and out.samefile(map_):
        raise UsageError(f"out: expected another file than the map itself, got {out}")
    found = marching_cubes(volume)
    out.parent.mkdir(parents=True, exist_ok=True)
    found.save(out)
    faces, vertices = len(found.faces), len(found.vertices)
    Console().print(f"{escape(str(out))}: {faces} triangles, {vertices} vertices", soft_wrap=True)
