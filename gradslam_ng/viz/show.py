"""A map on a page in the browser, from Python or in a notebook."""

from __future__ import annotations

import torch

from gradslam_ng.structures import SurfelMap, Trajectory, VoxelGrid
from gradslam_ng.structures.origin import relative_to_origin
from gradslam_ng.viz.browser import BrowserView
from gradslam_ng.viz.scene import Scene, sample


@torch.no_grad()
def show(
    map_: SurfelMap | VoxelGrid, trajectory: Trajectory | None = None, *, host: str = "127.0.0.1", port: int = 8080
) -> BrowserView:
    """Show the first map of a batch, and the cameras that made it. Returns the page, which is served until its `close`;
    a notebook draws it.

    Raises:
        ImportError: viser is missing, the extra `view`.
        OSError: the page cannot be served there.
    """
    scene = Scene(sample(map_))
    if trajectory is not None:
        known = trajectory[trajectory.known]
        T_wc = relative_to_origin(known.T_wc, None if map_.origin is None else map_.origin[0].cpu(), torch.float64)
        scene = Scene(scene.cloud, T_wc, torch.zeros(len(known), dtype=torch.int64), known.timestamps)
    page = BrowserView("map", host=host, port=port)
    page.show(scene, f"{len(scene.cloud)} points")
    return page
