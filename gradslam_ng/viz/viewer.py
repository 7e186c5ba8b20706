"""Interactive 3D viewer of a map and a trajectory (Open3D)."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradslam_ng.geometry import se3
from gradslam_ng.io.open3d_import import import_open3d
from gradslam_ng.io.ply import read_ply
from gradslam_ng.structures import Trajectory
from gradslam_ng.structures.origin import read_origin, relative_to_origin
from gradslam_ng.viz.snapshot import choose_view

FRUSTA = 20  # cameras drawn at most
SIZE = (720, 1280)  # of the window


def view(
    path: str | os.PathLike, trajectory: Trajectory | None = None, screenshot: str | os.PathLike | None = None
) -> None:
    """Open a window on a PLY file: the surfels of a map, a mesh, or plain points, and the cameras of a trajectory.

    Surfels are discs that are seen from their front only, so that a room opens towards the viewer. With
    `screenshot` the first picture is written there, without waiting for anybody.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a PLY file, or one without points.
        ImportError: Open3D is missing or lacks a system library; the message says what to install.
        OSError: there is no display to open a window on.
    """
    vertices, faces = read_ply(path)
    if not vertices.keys() >= {"x", "y", "z"} or not len(vertices["x"]):
        raise ValueError(f"{path}: expected vertices with columns x, y and z, found none")
    o3d = import_open3d()
    if screenshot is None and sys.platform == "linux" and not os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        raise OSError("there is no display to open a window on; ask for a screenshot instead")
    poses = torch.eye(4, dtype=torch.float64)[None]
    if trajectory is not None and trajectory.known.any():
        poses = trajectory.T_wc[trajectory.known]
    origin = read_origin(path)
    if origin is not None:  # graphics are float32
        vertices |= {name: vertices[name] - origin[i] for i, name in enumerate("xyz")}
        poses = relative_to_origin(poses, origin, torch.float64)
    scene = _geometry(o3d, vertices, faces)

    window = o3d.visualization.Visualizer()
    height, width = SIZE
    with _foreign_lines_off():
        is_open = window.create_window(Path(path).name, width, height, visible=screenshot is None)
    if not is_open:
        raise OSError("Open3D could not open a window; where there is no display, run under xvfb-run")
    window.add_geometry(scene)
    if trajectory is not None and trajectory.known.any():
        window.add_geometry(_cameras(o3d, poses))
    options = window.get_render_option()
    options.light_on = faces is not None and "red" not in vertices
    options.point_size = 2.0
    options.line_width = 2.0
    _look(o3d, window, vertices, poses)
    if screenshot is None:
        window.run()
    else:
        window.poll_events()
        window.update_renderer()
        window.capture_screen_image(os.fspath(screenshot), do_render=True)
    window.destroy_window()


@contextlib.contextmanager
def _foreign_lines_off() -> Iterator[None]:
    """Inside, nothing goes to the error stream: the libraries below Open3D write there what they did not find."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _columns(vertices: dict[str, Tensor], names: str) -> Tensor | None:
    """Columns side by side (V, 3) float64, None if the file lacks one."""
    wanted = names.split()
    return torch.stack([vertices[n].double() for n in wanted], -1) if vertices.keys() >= set(wanted) else None


def _geometry(o3d, vertices: dict[str, Tensor], faces: Tensor | None):
    """What the file holds as an Open3D mesh or point cloud."""
    points, normals = _columns(vertices, "x y z"), _columns(vertices, "nx ny nz")
    colors = _columns(vertices, "red green blue")
    colors = torch.full_like(points, 0.7) if colors is None else colors / 255
    if faces is None and normals is not None and "radius" in vertices:
        points, normals, colors, faces = _discs(points, normals, colors, vertices["radius"].double())
    vector = o3d.utility.Vector3dVector
    if faces is None or not len(faces):
        geometry = o3d.geometry.PointCloud(vector(points.numpy()))
        geometry.colors = vector(colors.numpy())
    else:
        geometry = o3d.geometry.TriangleMesh(vector(points.numpy()), o3d.utility.Vector3iVector(faces.int().numpy()))
        geometry.vertex_colors = vector(colors.numpy())
        if normals is None:
            geometry.compute_vertex_normals()
    if normals is not None:
        setattr(geometry, "normals" if faces is None else "vertex_normals", vector(normals.numpy()))
    return geometry


def _discs(points: Tensor, normals: Tensor, colors: Tensor, radii: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Surfels (N) as squares of the discs' area in two triangles each, their front where the normal points.

    Returns points, normals, colors (4N, 3) and faces (2N, 3).
    """
    least = torch.nn.functional.one_hot(normals.abs().argmin(-1), 3).to(normals)  # the axis most across the normal
    a = normalize(torch.linalg.cross(normals, least), dim=-1)
    b = torch.linalg.cross(normals, a)
    half = radii[:, None] * math.sqrt(math.pi) / 2
    corners = torch.stack([points + half * (sa * a + sb * b) for sa, sb in ((-1, -1), (1, -1), (1, 1), (-1, 1))], 1)
    first = 4 * torch.arange(len(points))[:, None]
    faces = torch.stack([first + torch.tensor([0, 1, 2]), first + torch.tensor([0, 2, 3])], 1)
    return corners.flatten(0, 1), normals.repeat_interleave(4, 0), colors.repeat_interleave(4, 0), faces.flatten(0, 1)


def _cameras(o3d, T_wc: Tensor):
    """The path (L poses) from yellow at its start to blue at its end, and the cameras along it, as lines."""
    start, end = torch.tensor([0.94, 0.75, 0.15]).double(), torch.tensor([0.15, 0.2, 0.65]).double()
    age = torch.linspace(0, 1, len(T_wc), dtype=torch.float64)[:, None]
    colors = (1 - age) * start + age * end
    path = torch.stack([torch.arange(len(T_wc) - 1), torch.arange(1, len(T_wc))], -1)

    shown = torch.linspace(0, len(T_wc) - 1, min(FRUSTA, len(T_wc))).round().long()
    frustum = torch.tensor([[0, 0, 0], [-1, -0.75, 1.5], [1, -0.75, 1.5], [1, 0.75, 1.5], [-1, 0.75, 1.5]]) * 0.04
    corners = se3.transform(T_wc[shown], frustum.double().expand(len(shown), 5, 3))
    edges = torch.tensor([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])
    edges = (len(T_wc) + 5 * torch.arange(len(shown)))[:, None, None] + edges

    lines = o3d.geometry.LineSet()
    lines.points = o3d.utility.Vector3dVector(torch.cat([T_wc[:, :3, 3], corners.flatten(0, 1)]).numpy())
    lines.lines = o3d.utility.Vector2iVector(torch.cat([path, edges.flatten(0, 1)]).int().numpy())
    shades = torch.cat([colors[:-1], colors[shown].repeat_interleave(8, 0)])
    lines.colors = o3d.utility.Vector3dVector(shades.numpy())
    return lines


def _look(o3d, window, vertices: dict[str, Tensor], T_wc: Tensor) -> None:
    """Start from the view of the snapshot."""
    points, normals = _columns(vertices, "x y z"), _columns(vertices, "nx ny nz")
    normals = torch.zeros_like(points) if normals is None else normals
    T_wv, K = choose_view(points, normals, T_wc, SIZE)
    camera = o3d.camera.PinholeCameraParameters()
    height, width = SIZE
    camera.intrinsic = o3d.camera.PinholeCameraIntrinsic(width, height, K.numpy())
    camera.extrinsic = se3.inverse(T_wv).numpy()
    window.get_view_control().convert_from_pinhole_camera_parameters(camera, allow_arbitrary=True)
