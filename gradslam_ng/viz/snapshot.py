"""Snapshots of a map, rendered without a display."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradslam_ng.geometry import camera, se3
from gradslam_ng.geometry.upright import upright
from gradslam_ng.io.atomic import whole_file
from gradslam_ng.rendering import render
from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.structures.origin import relative_to_origin

PITCH, YAW = math.radians(38), math.radians(20)  # looking down on the scene, and past the cameras' shoulder
FIELD = math.radians(42)  # of view, across
REACH = 4  # pixels, the greatest radius of a surfel; each pixel looks at (2 REACH + 1)^2 of them
COLORS = "plasma_r"


def snapshot(
    path: str | os.PathLike, map_: SurfelMap, trajectory: Trajectory, size: tuple[int, int] = (900, 1200)
) -> None:
    """Write a picture of the first map of a batch and of the camera's way through it, on white.

    Seen from behind and above the cameras. Surfels that face away are left out, so that walls and ceilings between us
    and the room, which were seen from inside, open up like those of a doll's house.

    Raises:
        ValueError: no known camera pose, from which the view is chosen.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, and the user's backend left alone
    from matplotlib.figure import Figure

    with torch.no_grad():
        one = map_[0].to("cpu")
        origin = None if one.origin is None else one.origin[0]
        T_wc = relative_to_origin(trajectory.T_wc[trajectory.known], origin, one.points.dtype)
        one = replace(one, origin=None)
        T_wv, K = choose_view(one.points[0], one.normals[0], T_wc, size)
        image = draw(one, T_wv, K, size)
        uv, _ = camera.project(se3.transform(se3.inverse(T_wv), T_wc[:, :3, 3]), K)

    height, width = size
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image.numpy(), interpolation="none")
    _draw_path(axes, uv.numpy())
    _draw_camera(axes, T_wc[-1], T_wv, K)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_axis_off()
    with whole_file(path) as part:
        figure.savefig(part, format="png")


def choose_view(points: Tensor, normals: Tensor, T_wc: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A view from behind and above the cameras that takes in the scene and them.

    points, normals (N, 3) world, meters, N may be 0; T_wc (L, 4, 4); size (H, W). Returns T_wv (4, 4) and K (3, 3).
    """
    if not len(T_wc):
        raise ValueError("trajectory: expected at least one known pose to look from, got none")
    height, width = size
    K = points.new_tensor([[0.0, 0, (width - 1) / 2], [0, 0, (height - 1) / 2], [0, 0, 1]])
    K[0, 0] = K[1, 1] = width / 2 / math.tan(FIELD / 2)

    up = upright(normals, normalize(-T_wc[:, :3, 1].mean(0), dim=0))
    in_front = T_wc[:, :3, 2].mean(0)
    in_front = in_front - (in_front @ up) * up
    if in_front.norm() < 0.2:  # the camera looked all around, or straight down: any side will do
        in_front = T_wc[0, :3, 0] - (T_wc[0, :3, 0] @ up) * up
    in_front = normalize(in_front, dim=0)
    in_front = math.cos(YAW) * in_front + math.sin(YAW) * torch.linalg.cross(up, in_front)
    z = math.cos(PITCH) * in_front - math.sin(PITCH) * up
    x = normalize(torch.linalg.cross(z, up), dim=0)
    R_wv = torch.stack([x, torch.linalg.cross(z, x), z], dim=-1)

    seen = T_wc[:, :3, 3] @ R_wv
    if len(points):  # but for the outermost hundredth on every side
        some = points[:: max(1, len(points) // 20_000)] @ R_wv
        low, high = some.quantile(some.new_tensor([0.01, 0.99]), dim=0)
        seen = torch.cat([seen, some.clamp(low, high)])
    middle = (seen.amin(0) + seen.amax(0)) / 2
    across, down, deep = (seen - middle).unbind(-1)
    wide, tall = 0.46 * width / K[0, 0], 0.46 * height / K[1, 1]  # tangents of the half angles to be filled
    back = torch.maximum(across.abs() / wide, down.abs() / tall) - deep
    T_wv = torch.eye(4, dtype=points.dtype)
    T_wv[:3, :3] = R_wv
    T_wv[:3, 3] = R_wv @ middle - back.max().clamp(min=0.5) * z
    return T_wv, K


def draw(map_: SurfelMap, T_wv: Tensor, K: Tensor, size: tuple[int, int]) -> Tensor:
    """The surfels of a batch of one that face the view, lightly shaded, on white. Returns (H, W, 3) in [0, 1]."""
    towards = T_wv[:3, 3] - map_.points
    facing = map_.compact((map_.normals * towards).sum(-1) > 0)
    if not int(facing.count):
        return torch.ones(*size, 3)
    seen = render(facing, T_wv[None], K[None], size, max_radius=REACH)
    light = normalize(torch.tensor([-0.4, -0.8, -1.0]), dim=0).to(seen.normal)
    shade = 0.75 + 0.3 * (seen.normal * light).sum(-1, keepdim=True).clamp(min=0)
    return ((seen.color * shade).clamp(0, 1) * seen.alpha + (1 - seen.alpha))[0].float()


def _draw_path(axes, uv: np.ndarray) -> None:
    """The way of the camera, uv (L, 2) pixels, colored from its start to its end."""
    from matplotlib.collections import LineCollection

    segments = np.stack([uv[:-1], uv[1:]], axis=1)
    axes.plot(*uv.T, color="white", lw=5, alpha=0.8, solid_capstyle="round")
    order = np.arange(len(segments))
    axes.add_collection(LineCollection(segments, array=order, cmap=COLORS, lw=2.5, capstyle="round"))


def _draw_camera(axes, T_wc: Tensor, T_wv: Tensor, K: Tensor) -> None:
    """The camera at one pose as a small pyramid."""
    corners = T_wc.new_tensor([[0, 0, 0], [-1, -0.75, 1.5], [1, -0.75, 1.5], [1, 0.75, 1.5], [-1, 0.75, 1.5]]) * 0.08
    uv, _ = camera.project(se3.transform(se3.inverse(T_wv) @ T_wc, corners), K)
    order = [0, 1, 2, 0, 3, 4, 0, 1, 4, 3, 2]
    axes.plot(*uv[order].numpy().T, color="white", lw=4, alpha=0.8, solid_joinstyle="round")
    axes.plot(*uv[order].numpy().T, color="#0d0887", lw=1.8, solid_joinstyle="round")
