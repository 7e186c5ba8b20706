"""A page in the browser that shows a map, the camera and its path, while a run goes on or after it (viser).

Points of the map, the path colored by whether each frame was tracked, loops as edges, a mesh where there is one, and
the camera with its image; sliders for the size of points and for time.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import rich
import torch
from rich.console import Console
from rich.markup import escape
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.io.optional_import import import_optional
from gradslam_ng.structures.mesh import srgb_to_linear
from gradslam_ng.viz.scene import COLORS, LOOP_COLOR, NAMES, Cloud, Scene, as_array, spacing
from gradslam_ng.viz.snapshot import choose_view

SUBMAPS = [(31, 119, 180), (255, 127, 14), (44, 160, 44), (148, 103, 189), (140, 86, 75), (227, 119, 194)]
IMAGE_WIDTH = 240  # pixels, of the camera's image, at most
SIZE = (720, 1280)  # of the window that a view is chosen for before there is one
FIRST_SIZE, LARGEST_POINT = 12, 50  # millimeters
GROWTH = 1.25  # times as large a scene is looked at from elsewhere
PHONE = 0.75  # width by height, of a page whose lower part is covered by controls
PHONE_FREE, SCREEN_FREE = (0.6, 1.0), (1.0, 0.75)  # of height and width that controls leave
TURNED = 0.2  # seconds from a move of the viewer to the choice of the points that face him
Images = Callable[[float], np.ndarray | None]  # seconds of a frame -> (H, W, 3) uint8, None where there is none


def load_viser() -> Any:
    """The library, an optional one.

    Raises:
        ImportError: it is missing; the message says what to install.
    """
    return import_optional("viser", user="the page in the browser", extra="view")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, viser does not print what it does."""
    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


class BrowserView:
    """A page that is served until `close`.

    Args:
        title: of the page.
        host, port: where it is served; the next free port where that one is taken.
        K, size: the camera's intrinsics (3, 3) and image size (H, W); None for one that is not known.
        images: what the camera saw.

    Raises:
        ImportError: viser is missing.
        OSError: it cannot be served there.
    """

    def __init__(
        self,
        title: str,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        K: Tensor | None = None,
        size: tuple[int, int] = (3, 4),
        images: Images = lambda seconds: None,
    ) -> None:
        with quiet():
            self.server = load_viser().ViserServer(
                host, port, label=title.encode("utf-8", "replace").decode(), verbose=False
            )
        self.host, self.size, self.images = host, size, images
        self.field = 2 * math.atan(0.5 * size[0] / float(K[1, 1])) if K is not None else math.radians(45)
        self.scene = Scene(Cloud.join([]))
        self.newest: np.ndarray | None = None  # image of the last frame, where it need not be read
        self.shown: dict[str, Any] = {}  # what is drawn, by name
        self.lock = threading.RLock()
        self.eye: np.ndarray | None = None  # where the viewer is
        self.choosing: threading.Timer | None = None  # as long as points are to be chosen for where he goes
        self.extent = 0.0  # of the scene that the view was chosen for, meters
        self.fitting_size = FIRST_SIZE  # of points, as long as nobody chose another
        self.placed: dict[int, np.ndarray] = {}  # where each viewer was put
        self._add_controls()
        self.server.on_client_connect(self._welcome)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.host}:{self.server.get_port()}"

    def _repr_html_(self) -> str:
        """How a notebook draws it."""
        return f"<iframe src='{self.url}' width='100%' height='500' style='border:0'></iframe>"

    def _add_controls(self) -> None:
        gui = self.server.gui
        gui.configure_theme(show_logo=False, show_share_button=False)
        self.note = gui.add_markdown("")
        self.time = gui.add_slider("time", 0, 1, 1, 0, hint="the camera, its path and the map up to this frame")
        self.follows = gui.add_checkbox("newest frame", True)
        self.point_size = gui.add_slider("point size", 1, LARGEST_POINT, 1, FIRST_SIZE, hint="millimeters")
        self.paint = gui.add_dropdown("colors", ("as seen", "by submap"))
        self.opens = gui.add_checkbox("open towards me", True, hint="only points that face the viewer")
        self.has_points = gui.add_checkbox("points", True)
        self.has_mesh = gui.add_checkbox("mesh", False, visible=False)
        names = (f"<span style='color:rgb{COLORS[key]}'>&#9632; {name}</span> " for key, name in NAMES.items())
        loops = f"<span style='color:rgb{LOOP_COLOR}'>&#9632; loop</span>"
        self.legend = gui.add_html(f"<p style='padding:0 1em'>{''.join(names)}{loops}</p>")
        for control in (self.paint, self.opens, self.has_points, self.has_mesh, self.point_size):
            control.on_update(lambda _: self._draw_map())
        self.time.on_update(self._move_in_time)
        self.follows.on_update(lambda _: self._draw())

    def show(self, scene: Scene, note: str = "", newest: np.ndarray | None = None) -> None:
        """Draw a scene in place of the one before; note: a line about it; newest: the image (H, W, 3) uint8 of its last
        frame, where it is at hand."""
        with self.lock:
            self.scene, self.newest = scene, newest
            self.note.content = note
            self.time.max = max(1, len(scene.T_wc) - 1)
            if self.follows.value:
                self.time.value = max(0, len(scene.T_wc) - 1)
            self._offer_controls()
            if (scene.mesh or scene.glb) is not None and "mesh" not in self.shown:
                self._add_mesh()
            if len(scene.extent[0]):
                self._place_viewers()
            self._draw()

    def _offer_controls(self) -> None:
        """Those of what there is: a mesh alone has neither points nor a path."""
        for control in (self.time, self.follows, self.legend):
            control.visible = len(self.scene.T_wc) > 0
        for control in (self.point_size, self.paint, self.opens, self.has_points):
            control.visible = len(self.scene.cloud) > 0

    def close(self) -> None:
        """The page is served no longer."""
        with self.lock:
            if self.choosing is not None:
                self.choosing.cancel()
        with quiet():
            self.server.flush()
            self.server.stop()

    def wait(self) -> None:
        """Until Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            self.server.sleep_forever()

    @property
    def frame(self) -> int:
        """The number of the frame that is shown."""
        last = len(self.scene.T_wc) - 1
        return last if self.follows.value else min(int(self.time.value), last)

    def _move_in_time(self, event: Any) -> None:
        if event.client is None:  # set by ourselves
            return
        self.follows.value = int(self.time.value) >= len(self.scene.T_wc) - 1
        self._draw()

    def _draw(self) -> None:
        with self.lock, self.server.atomic():
            self._draw_map()
            if len(self.scene.T_wc):
                self._draw_path()
                self._draw_loops()
                self._draw_camera()

    def _draw_map(self) -> None:
        with self.lock:
            cloud, size = self.scene.cloud, self.point_size.value / 1000
            keep = cloud.created <= self.frame if not self.follows.value else torch.ones(len(cloud), dtype=torch.bool)
            if self.opens.value and self.eye is not None:
                towards = torch.from_numpy(self.eye).float() - cloud.points
                keep &= ((cloud.normals * towards).sum(-1) > 0) | (cloud.normals == 0).all(-1)
            colors = cloud.colors
            if self.paint.value == "by submap":
                light = 0.35 + 0.65 * cloud.colors.float().mean(-1, keepdim=True) / 255  # what is there can be seen
                colors = (light * torch.tensor(SUBMAPS)[cloud.submaps % len(SUBMAPS)]).byte()
            if bool(keep.any()):  # the page refuses an empty one
                self._points(as_array(cloud.points[keep]), as_array(colors[keep]), size)
            else:
                self._hide("map")
            if "mesh" in self.shown:
                self._change("mesh", visible=self.has_mesh.value)

    def _points(self, points: np.ndarray, colors: np.ndarray, size: float) -> None:
        arrays = {"points": points, "colors": colors}
        if "map" not in self.shown:
            look = {"point_shape": "circle", "point_shading": "flat", "precision": "float32"}
            self.shown["map"] = self.server.scene.add_point_cloud("/map", **arrays, point_size=size, **look)
        self._change("map", **arrays, point_size=size, visible=self.has_points.value)

    def _change(self, name: str, **values: Any) -> None:
        """Other values of what is drawn, all at once."""
        with self.server.atomic():
            for key, value in values.items():
                setattr(self.shown[name], key, value)

    def _draw_path(self) -> None:
        """From frame to frame, in the color of the worse of the two."""
        count = self.frame + 1
        centers, outcomes = self.scene.T_wc[:count, :3, 3].float(), self.scene.outcomes[:count]
        if count < 2:
            self._hide("path")
            return
        segments = torch.stack([centers[:-1], centers[1:]], 1)
        worse = torch.maximum(outcomes[:-1], outcomes[1:])
        colors = torch.tensor([COLORS[i] for i in sorted(COLORS)], dtype=torch.uint8)[worse]
        self._lines("path", segments, colors[:, None].expand(-1, 2, 3), 3.0)

    def _draw_loops(self) -> None:
        """Straight edges between the cameras that saw the same place."""
        loops = [pair for pair in self.scene.loops if max(pair) <= self.frame]
        if loops:
            ends = self.scene.T_wc[torch.tensor(loops), :3, 3].float()
            self._lines("loops", ends, torch.tensor(LOOP_COLOR, dtype=torch.uint8).expand(len(loops), 2, 3), 2.0)
        else:
            self._hide("loops")

    def _hide(self, name: str) -> None:
        if name in self.shown:
            self._change(name, visible=False)

    def _lines(self, name: str, segments: Tensor, colors: Tensor, width: float) -> None:
        arrays = {"points": as_array(segments), "colors": as_linear(as_array(colors))}
        if name not in self.shown:
            thickness = {"thickness": width, "thickness_units": "screen"}
            self.shown[name] = self.server.scene.add_line_segments(f"/{name}", **arrays, **thickness)
        self._change(name, **arrays, visible=True)

    def _draw_camera(self) -> None:
        """A pyramid with the camera's image."""
        T_wc = self.scene.T_wc[self.frame]
        _, q_xyzw = se3.to_quaternion(T_wc)
        if "camera" not in self.shown:
            look = {"scale": 0.2, "thickness": 2.0, "thickness_units": "screen", "format": "jpeg"}
            aspect = self.size[1] / self.size[0]
            self.shown["camera"] = self.server.scene.add_camera_frustum("/camera", self.field, aspect, **look)
        color = COLORS[int(self.scene.outcomes[self.frame])]
        place = {"wxyz": q_xyzw.roll(1).numpy(), "position": T_wc[:3, 3].numpy()}
        self._change("camera", **place, color=color, image=self._image(self.frame))

    def _image(self, number: int) -> np.ndarray | None:
        is_newest = self.newest is not None and number == len(self.scene.T_wc) - 1
        image = self.newest if is_newest else self.images(float(self.scene.seconds[number]))
        if image is None:
            return None
        step = -(-image.shape[1] // IMAGE_WIDTH)
        return np.ascontiguousarray(image[::step, ::step])

    def _add_mesh(self) -> None:
        import trimesh  # which viser is built on

        self.has_mesh.visible = True
        if not len(self.scene.cloud):
            self.has_mesh.value = True
        if self.scene.glb is not None:
            turned = {"wxyz": (0.0, 1.0, 0.0, 0.0)}  # by half a turn about x, from glTF's axes
            self.shown["mesh"] = self.server.scene.add_glb("/mesh", self.scene.glb.data, **turned)
        elif (mesh := self.scene.mesh) is not None:
            vertices, faces, colors = map(as_array, (mesh.vertices, mesh.faces, mesh.colors))
            shape = trimesh.Trimesh(vertices, faces, vertex_colors=as_linear(colors), process=False)
            self.shown["mesh"] = self.server.scene.add_mesh_trimesh("/mesh", shape)

    def _place_viewers(self) -> None:
        """Give the view of the scene to those who come, and to those who are there and left theirs as it was."""
        points, scene = self.scene.extent[0], self.server.scene
        extent = float((points.amax(0) - points.amin(0)).norm())
        if extent < GROWTH * self.extent:
            return
        if not self.extent:
            scene.set_up_direction(as_array(self.scene.up))
        self.extent = extent
        if len(self.scene.cloud) and self.point_size.value == self.fitting_size:
            size = math.ceil(1000 * spacing(self.scene.cloud.points))
            self.point_size.value = self.fitting_size = min(max(size, 1), LARGEST_POINT)
        self.eye = self._place(self.server.initial_camera, SIZE)
        for client in self.server.get_clients().values():
            before = self.placed.get(client.client_id)
            if before is not None and np.linalg.norm(client.camera.position - before) < 0.01 * extent:
                self._place_client(client)

    def _place_client(self, client: Any) -> None:
        camera = client.camera
        self.eye = self.placed[client.client_id] = self._place(camera, (camera.image_height, camera.image_width))

    def _place(self, camera: Any, size: tuple[int, int]) -> np.ndarray:
        """Set a camera of the page to where it takes in the scene. Returns where that is."""
        height, width = size
        free = PHONE_FREE if width < PHONE * height else SCREEN_FREE
        T_wc = self.scene.T_wc.float() if len(self.scene.T_wc) else torch.eye(4)[None]
        points, normals = self.scene.extent
        T_wv, K = choose_view(points, normals, T_wc, (round(free[0] * height), round(free[1] * width)))
        distance = (T_wv[:3, 3] - points.mean(0)).norm()
        covered = (1 - torch.tensor(free)) * torch.tensor(size) / K[1, 1]
        eye = T_wv[:3, 3] + 0.5 * distance * (covered[0] * T_wv[:3, 1] + covered[1] * T_wv[:3, 0])
        camera.position, camera.look_at = as_array(eye), as_array(eye + distance * T_wv[:3, 2])
        camera.fov = 2 * math.atan(0.5 * height / float(K[1, 1]))
        return as_array(eye)

    def _welcome(self, client: Any) -> None:
        """Somebody opened the page: what fits a screen may not fit his."""
        with self.lock:
            if self.extent:
                self._place_client(client)
        client.camera.on_update(self._turn)

    def _turn(self, camera: Any) -> None:
        """The viewer moves: other points face him, chosen in a moment for where he is by then."""
        with self.lock:
            if self.choosing is None:
                self.choosing = threading.Timer(TURNED, self._face, [camera])
                self.choosing.daemon = True
                self.choosing.start()

    def _face(self, camera: Any) -> None:
        with self.lock:
            self.choosing = None
            eye = np.asarray(camera.position)
            if self.eye is None or np.linalg.norm(eye - self.eye) > 0.05:
                self.eye = eye
                if self.opens.value:
                    self._draw_map()


def as_linear(colors: np.ndarray) -> np.ndarray:
    """Colors (..., 3) uint8 as the page expects them of lines and meshes, though not of points."""
    return (255 * srgb_to_linear(colors / 255)).round().astype(np.uint8)


def announce(page: BrowserView, console: Console) -> None:
    """Say where the page is, and open it where there is a display to do so on."""
    console.print(f"look at {escape(page.url)} in a browser; Ctrl-C ends", soft_wrap=True)
    if sys.platform != "linux" or os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        webbrowser.open(page.url)
