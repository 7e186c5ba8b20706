"""What is drawn on the page in the browser: points, the path, loops, the camera with its image, a mesh."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.structures.mesh import srgb_to_linear
from gradslam_ng.viz.scene import COLORS, LOOP_COLOR, BinaryMesh, Triangles, as_array

IMAGE_WIDTH = 240  # pixels, of the camera's image, at most


class Drawing:
    """Draws on a server of viser; what is there already is changed, not drawn anew.

    Args:
        server: of viser.
        field: of view of the camera, up and down, radians.
        aspect: of its image, width by height.
    """

    def __init__(self, server: Any, *, field: float, aspect: float) -> None:
        self.server, self.field, self.aspect = server, field, aspect
        self.shown: dict[str, Any] = {}  # what is drawn, by name

    def draw_points(self, points: Tensor, colors: Tensor, size: float, visible: bool) -> None:
        """Of the map: points (N, 3), colors (N, 3) uint8; size in meters."""
        if not len(points):  # the page refuses none
            self.hide("map")
            return
        arrays = {"points": as_array(points), "colors": as_array(colors)}
        if "map" not in self.shown:
            look = {"point_shape": "circle", "point_shading": "flat", "precision": "float32"}
            self.shown["map"] = self.server.scene.add_point_cloud("/map", **arrays, point_size=size, **look)
        self._change("map", **arrays, point_size=size, visible=visible)

    def draw_path(self, segments: Tensor, worse: Tensor) -> None:
        """From frame to frame, in the color of the worse of the two: segments (S, 2, 3), worse (S,)."""
        if not len(segments):
            self.hide("path")
            return
        colors = torch.tensor([COLORS[i] for i in sorted(COLORS)], dtype=torch.uint8)[worse]
        self._lines("path", segments, colors[:, None].expand(-1, 2, 3), 3.0)

    def draw_loops(self, T_wc: Tensor, pairs: list[tuple[int, int]]) -> None:
        """Straight edges between the cameras that saw the same place: T_wc (L, 4, 4), pairs of frames."""
        if not pairs:
            self.hide("loops")
            return
        ends = T_wc[torch.tensor(pairs), :3, 3].float()
        self._lines("loops", ends, torch.tensor(LOOP_COLOR, dtype=torch.uint8).expand(len(pairs), 2, 3), 2.0)

    def draw_camera(self, T_wc: Tensor, outcome: int, image: np.ndarray | None) -> None:
        """A pyramid at T_wc (4, 4), with the camera's image (H, W, 3) uint8, in the color of what became of it."""
        _, q_xyzw = se3.to_quaternion(T_wc)
        if "camera" not in self.shown:
            look = {"scale": 0.2, "thickness": 2.0, "thickness_units": "screen", "format": "jpeg"}
            self.shown["camera"] = self.server.scene.add_camera_frustum("/camera", self.field, self.aspect, **look)
        if image is not None:
            step = -(-image.shape[1] // IMAGE_WIDTH)
            image = np.ascontiguousarray(image[::step, ::step])
        place = {"wxyz": q_xyzw.roll(1).numpy(), "position": T_wc[:3, 3].numpy()}
        self._change("camera", **place, color=COLORS[outcome], image=image)

    def draw_mesh(self, mesh: Triangles | BinaryMesh) -> None:
        """A mesh, once."""
        import trimesh  # which viser is built on

        if isinstance(mesh, BinaryMesh):
            turned = {"wxyz": (0.0, 1.0, 0.0, 0.0)}  # by half a turn about x, from glTF's axes
            self.shown["mesh"] = self.server.scene.add_glb("/mesh", mesh.data, **turned)
            return
        vertices, faces, colors = map(as_array, (mesh.vertices, mesh.faces, mesh.colors))
        shape = trimesh.Trimesh(vertices, faces, vertex_colors=as_linear(colors), process=False)
        self.shown["mesh"] = self.server.scene.add_mesh_trimesh("/mesh", shape)

    def hide(self, name: str) -> None:
        """Show what has this name no longer, if it was."""
        self.set_visible(name, False)

    def set_visible(self, name: str, visible: bool) -> None:
        """Whether what has this name is seen, if it is there."""
        if name in self.shown:
            self._change(name, visible=visible)

    def _lines(self, name: str, segments: Tensor, colors: Tensor, width: float) -> None:
        arrays = {"points": as_array(segments), "colors": as_linear(as_array(colors))}
        if name not in self.shown:
            thickness = {"thickness": width, "thickness_units": "screen"}
            self.shown[name] = self.server.scene.add_line_segments(f"/{name}", **arrays, **thickness)
        self._change(name, **arrays, visible=True)

    def _change(self, name: str, **values: Any) -> None:
        """Other values of what is drawn, all at once."""
        with self.server.atomic():
            for key, value in values.items():
                setattr(self.shown[name], key, value)


def as_linear(colors: np.ndarray) -> np.ndarray:
    """Colors (..., 3) uint8 as the page expects them of lines and meshes, though not of points."""
    return (255 * srgb_to_linear(colors / 255)).round().astype(np.uint8)
