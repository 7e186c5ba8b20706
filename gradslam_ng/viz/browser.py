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

from gradslam_ng.io.optional_import import import_optional
from gradslam_ng.viz.browser_drawing import Drawing
from gradslam_ng.viz.browser_viewpoints import Viewpoints
from gradslam_ng.viz.scene import COLORS, LOOP_COLOR, NAMES, Cloud, Scene, spacing

SUBMAPS = [(31, 119, 180), (255, 127, 14), (44, 160, 44), (148, 103, 189), (140, 86, 75), (227, 119, 194)]
FIRST_SIZE, LARGEST_POINT = 12, 50  # millimeters
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
        self.host, self.images = host, images
        field = 2 * math.atan(0.5 * size[0] / float(K[1, 1])) if K is not None else math.radians(45)
        self.scene = Scene(Cloud.join([]))
        self.newest: np.ndarray | None = None  # image of the last frame, where it need not be read
        self.lock = threading.RLock()
        self.drawing = Drawing(self.server, field=field, aspect=size[1] / size[0])
        self.fitting_size = FIRST_SIZE  # of points, as long as nobody chose another
        self._add_controls()
        self.viewpoints = Viewpoints(self.server, lock=self.lock, on_move=self._open_up)

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
            if (mesh := scene.mesh or scene.glb) is not None and not self.has_mesh.visible:
                self.drawing.draw_mesh(mesh)
                self.has_mesh.visible, self.has_mesh.value = True, not len(scene.cloud)
            if self.viewpoints.fit(scene):
                self._fit_points()
            self._draw()

    def _offer_controls(self) -> None:
        """Those of what there is: a mesh alone has neither points nor a path."""
        for control in (self.time, self.follows, self.legend):
            control.visible = len(self.scene.T_wc) > 0
        for control in (self.point_size, self.paint, self.opens, self.has_points):
            control.visible = len(self.scene.cloud) > 0

    def close(self) -> None:
        """The page is served no longer."""
        self.viewpoints.close()
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

    def _fit_points(self) -> None:
        """Points as large as it takes to close surfaces, as long as nobody chose another size."""
        if len(self.scene.cloud) and self.point_size.value == self.fitting_size:
            size = math.ceil(1000 * spacing(self.scene.cloud.points))
            self.point_size.value = self.fitting_size = min(max(size, 1), LARGEST_POINT)

    def _open_up(self) -> None:
        """The viewer is elsewhere: other points face him."""
        if self.opens.value:
            self._draw_map()

    def _draw(self) -> None:
        with self.lock, self.server.atomic():
            self._draw_map()
            if len(self.scene.T_wc):
                frame, scene = self.frame, self.scene
                self.drawing.draw_path(*scene.path(frame + 1))
                self.drawing.draw_loops(scene.T_wc, [pair for pair in scene.loops if max(pair) <= frame])
                self.drawing.draw_camera(scene.T_wc[frame], int(scene.outcomes[frame]), self._image(frame))

    def _draw_map(self) -> None:
        with self.lock:
            cloud, eye = self.scene.cloud, self.viewpoints.eye
            keep = cloud.created <= self.frame if not self.follows.value else torch.ones(len(cloud), dtype=torch.bool)
            if self.opens.value and eye is not None:
                towards = torch.from_numpy(eye).float() - cloud.points
                keep &= ((cloud.normals * towards).sum(-1) > 0) | (cloud.normals == 0).all(-1)
            colors = cloud.colors
            if self.paint.value == "by submap":
                light = 0.35 + 0.65 * cloud.colors.float().mean(-1, keepdim=True) / 255  # what is there can be seen
                colors = (light * torch.tensor(SUBMAPS)[cloud.submaps % len(SUBMAPS)]).byte()
            size = self.point_size.value / 1000
            self.drawing.draw_points(cloud.points[keep], colors[keep], size, visible=self.has_points.value)
            self.drawing.set_visible("mesh", self.has_mesh.value)

    def _image(self, number: int) -> np.ndarray | None:
        """What the camera saw in a frame."""
        is_newest = self.newest is not None and number == len(self.scene.T_wc) - 1
        return self.newest if is_newest else self.images(float(self.scene.seconds[number]))


def announce(page: BrowserView, console: Console) -> None:
    """Say where the page is, and open it where there is a display to do so on."""
    console.print(f"look at {escape(page.url)} in a browser; Ctrl-C ends", soft_wrap=True)
    if sys.platform != "linux" or os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        webbrowser.open(page.url)
