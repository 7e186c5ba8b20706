"""`gradslam-ng view map.ply [trajectory.txt]`: an interactive 3D viewer (Open3D)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from gradslam_ng import viz
from gradslam_ng.structures import Trajectory

MapFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MAP")]
TrajectoryFile = Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="TRAJECTORY")]


def view(map_: MapFile, trajectory: TrajectoryFile = None, /, screenshot: Path | None = None) -> None:
    """Look at a map, and at the cameras that made it, in Open3D's viewer.

    Args:
        map_: A PLY file: a map, a mesh or plain points.
        trajectory: The camera's path in the TUM format.
        screenshot: Write the first picture to this PNG and close.
    """
    viz.view(map_, None if trajectory is None else Trajectory.load(trajectory), screenshot)
