"""`gradslam-ng view DIR|MAP`: what a run left, or a map or mesh, in the browser or in a window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.markup import escape

from gradslam_ng.commands.arguments import OPTIONAL, OptionalPath
from gradslam_ng.commands.console import count_loops
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.recording import image_reader, load_recording
from gradslam_ng.commands.run_folder import load_estimate
from gradslam_ng.structures import Trajectory
from gradslam_ng.structures.origin import read_origin, relative_to_origin
from gradslam_ng.viz import browser, viewer
from gradslam_ng.viz.rerun_file import write_rerun
from gradslam_ng.viz.scene import Scene
from gradslam_ng.viz.scene_files import TRAJECTORY, read_metrics, read_scene

Shown = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR|MAP")]
TrajectoryFile = Annotated[
    Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[TRAJECTORY]", help_behavior_hint=OPTIONAL)
]


def view(
    path: Shown,
    trajectory: TrajectoryFile = None,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    window: bool = False,
    screenshot: OptionalPath = None,
    rerun: Annotated[Path | None, tyro.conf.arg(metavar="FILE.rrd", help_behavior_hint=OPTIONAL)] = None,
) -> None:
    """Look at what a run left, or at a map or mesh, and at the cameras that made it: a page in the browser.

    Args:
        path: Folder of a run, or a file: map.ply, mesh.ply, mesh.glb, volume.npz, plain points.
        trajectory: The camera's path in the TUM format; that of a folder is found there.
        host: Where the page is served; 0.0.0.0 lets other machines see it.
        port: The next free one is taken where it is in use.
        window: Open3D's viewer in a window, in place of the page.
        screenshot: Write the first picture of that window to this PNG and close.
        rerun: Write map, path and the camera's images to this file, which the viewer of Rerun opens, and show nothing.
    """
    if window or screenshot is not None:
        map_, path_file = (path, trajectory) if not path.is_dir() else window_files(path, trajectory)
        viewer.view(map_, None if path_file is None else load_estimate(path_file), screenshot)
        return
    scene = read_scene(path)
    if trajectory is not None:
        scene = with_trajectory(scene, path, load_estimate(trajectory))
    K, size, images = camera_of(path)
    if rerun is not None:
        write_rerun(rerun, scene, K, size, images)
        Console().print(f"{escape(str(rerun))}: {describe(scene)}", soft_wrap=True)
        return
    page = browser.BrowserView(path.resolve().name, host=host, port=port, K=K, size=size, images=images)
    page.show(scene, describe(scene))
    browser.announce(page, Console())
    try:
        page.wait()
    finally:
        page.close()


def describe(scene: Scene) -> str:
    """A line about a scene."""
    parts = [f"{len(scene.cloud)} points"] if len(scene.cloud) else []
    parts += [f"{len(scene.mesh.faces)} triangles"] if scene.mesh is not None else []
    parts += [f"{scene.glb.triangles} triangles"] if scene.glb is not None else []
    parts += [f"{len(scene.T_wc)} frames"] if len(scene.T_wc) else []
    parts += [count_loops(len(scene.loops))] if scene.loops else []
    return ", ".join(parts)


def window_files(folder: Path, trajectory: Path | None) -> tuple[Path, Path | None]:
    """The map, or mesh, and the trajectory that a run left in its folder.

    Raises:
        UsageError: neither map nor mesh.
    """
    found = [folder / name for name in ("mesh.ply", "map.ply") if (folder / name).is_file()]
    if not found:
        raise UsageError(f"{folder}: expected a map.ply or mesh.ply there, found none")
    own = folder / TRAJECTORY
    return found[0], trajectory or (own if own.is_file() else None)


def with_trajectory(scene: Scene, path: Path, trajectory: Trajectory) -> Scene:
    """The scene of a map's file with the cameras of a trajectory."""
    known = trajectory[trajectory.known]
    origin = read_origin(path) if path.suffix.lower() == ".ply" else None
    T_wc = relative_to_origin(known.T_wc, origin, torch.float64)
    return replace(scene, T_wc=T_wc, outcomes=torch.zeros(len(known), dtype=torch.int64), seconds=known.timestamps)


def camera_of(path: Path) -> tuple[torch.Tensor | None, tuple[int, int], Callable[[float], np.ndarray | None]]:
    """Intrinsics (3, 3), image size and images of the run in a folder; nothing, where they are not known or there."""
    nothing = None, (3, 4), lambda seconds: None
    if not path.is_dir():
        return nothing
    metrics = read_metrics(path)
    if "camera" not in metrics:
        return nothing
    camera = metrics["camera"]
    K = torch.tensor([[camera["fx"], 0, camera["cx"]], [0, camera["fy"], camera["cy"]], [0, 0, 1]])
    size = camera["height"], camera["width"]
    try:
        sequence = load_recording(path)
    except (OSError, ValueError):  # it was moved, or lies elsewhere
        return K, size, nothing[2]
    return K, size, image_reader(sequence)
