"""Where those who look at the page in the browser stand: where the whole scene is seen, until they move."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.viz.scene import Scene, as_array
from gradslam_ng.viz.snapshot import choose_view

SIZE = (720, 1280)  # of the window that a view is chosen for before there is one
GROWTH = 0.05  # of its extent that a scene may grow to one side before it is looked at from elsewhere
UNMOVED = 0.01  # of the scene's extent that a viewer may be from where he was put
PHONE = 0.75  # width by height, of a page whose lower part is covered by controls
PHONE_FREE, SCREEN_FREE = (0.6, 1.0), (1.0, 0.75)  # of height and width that controls leave
SMALL_MOVE = 0.05  # meters, which turns no surface away from a viewer
TURNED = 0.2  # seconds from a move of the viewer to the choice of the points that face him


class Placed(NamedTuple):
    """Where a viewer was put, and for a window of what size."""

    eye: np.ndarray  # (3,), meters
    size: tuple[int, int]  # (H, W), pixels


class Viewpoints:
    """Puts viewers where they see the whole scene, again when it grows or their window is another, and leaves those
    alone who have moved.

    Args:
        server: of viser.
        lock: held while anything is changed.
        on_move: called with the lock when `eye`, where the last viewer stands, is another.
    """

    def __init__(self, server: Any, *, lock: threading.RLock, on_move: Callable[[], None]) -> None:
        self.server, self.lock, self.on_move = server, lock, on_move
        self.scene: Scene | None = None
        self.box: Tensor | None = None  # (2, 3) how far the scene of the view reaches, either way
        self.extent = 0.0  # of that, meters
        self.eye: np.ndarray | None = None  # of the viewer who moved last
        self.start: np.ndarray | None = None  # where viewers are put before the size of their window is known
        self.placed: dict[int, Placed] = {}  # by the viewer's number
        self.moved: Any = None  # camera of the viewer who did last
        self.choosing: threading.Timer | None = None  # as long as points are to be chosen for where he goes
        server.on_client_connect(self._welcome)

    def fit(self, scene: Scene) -> bool:
        """Give the view of a scene to those who come, and, where it has grown, to those who have not moved. Returns
        whether it has grown."""
        self.scene = scene
        if not len(scene.extent[0]):
            return False
        points = torch.cat([scene.extent[0], scene.T_wc[:, :3, 3].float()])
        box = torch.stack([-points.amin(0), points.amax(0)])
        if self.box is not None and float((box - self.box).max()) < GROWTH * self.extent:
            return False
        if self.box is None:
            self.server.scene.set_up_direction(as_array(scene.up))
        clients = self.server.get_clients().values()  # some came before there was anything to see
        unmoved = [client for client in clients if client.client_id not in self.placed or self._is_unmoved(client)]
        self.box, self.extent = box, float(box.sum(0).norm())
        self.eye = self.start = self._place(self.server.initial_camera, SIZE)
        for client in unmoved:
            self._place_client(client)
        return True

    def close(self) -> None:
        """Nothing is chosen any longer."""
        with self.lock:
            if self.choosing is not None:
                self.choosing.cancel()

    def turn(self, camera: Any) -> None:
        """A viewer moves, or the size of his window changes: what that means is found in a moment, for where he is by
        then."""
        with self.lock:
            self.moved = camera
            if self.choosing is None:
                self.choosing = threading.Timer(TURNED, self._settle)
                self.choosing.daemon = True
                self.choosing.start()

    def _settle(self) -> None:
        with self.lock, self._noticing_moves():
            self.choosing = None
            self.eye = np.asarray(self.moved.position)
            for client in self.server.get_clients().values():
                if self._is_unmoved(client) and not self._is_placed(client):
                    self._place_client(client)

    def _welcome(self, client: Any) -> None:
        """Somebody opened the page: what fits a screen may not fit his."""
        client.camera.on_update(self.turn)
        with self.lock, self._noticing_moves():
            if self.start is not None:
                self._place_client(client)

    @contextlib.contextmanager
    def _noticing_moves(self) -> Iterator[None]:
        """After it, `on_move` is called if the viewer is elsewhere than before."""
        before = self.eye
        yield
        if before is not None and np.linalg.norm(self.eye - before) < SMALL_MOVE:
            self.eye = before  # several small ones make a large one
        elif self.eye is not None:
            self.on_move()

    def _is_unmoved(self, client: Any) -> bool:
        """Whether a viewer is where he was put, or where the page itself puts those who come, now and then later."""
        placed = self.placed.get(client.client_id)
        return placed is not None and (self._is_at(client, placed.eye) or self._is_at(client, self.start))

    def _is_placed(self, client: Any) -> bool:
        """Whether a viewer is where he was put, by the size of his window."""
        placed = self.placed[client.client_id]
        return placed.size == size_of(client.camera) and self._is_at(client, placed.eye)

    def _is_at(self, client: Any, eye: np.ndarray | None) -> bool:
        return eye is not None and bool(np.linalg.norm(client.camera.position - eye) < UNMOVED * self.extent)

    def _place_client(self, client: Any) -> None:
        size = size_of(client.camera)
        self.eye = self._place(client.camera, size)
        self.placed[client.client_id] = Placed(self.eye, size)

    def _place(self, camera: Any, size: tuple[int, int]) -> np.ndarray:
        """Set a camera of the page to where it takes in the scene. Returns where that is."""
        assert self.scene is not None
        height, width = size
        free = PHONE_FREE if width < PHONE * height else SCREEN_FREE
        points, normals = self.scene.extent
        T_wv, K = choose_view(
            points, normals, self.scene.cameras.float(), (round(free[0] * height), round(free[1] * width))
        )
        distance = (T_wv[:3, 3] - points.mean(0)).norm()
        covered = (1 - torch.tensor(free)) * torch.tensor(size) / K[1, 1]
        eye = T_wv[:3, 3] + 0.5 * distance * (covered[0] * T_wv[:3, 1] + covered[1] * T_wv[:3, 0])
        camera.position, camera.look_at = as_array(eye), as_array(eye + distance * T_wv[:3, 2])
        camera.fov = 2 * math.atan(0.5 * height / float(K[1, 1]))
        return as_array(eye)


def size_of(camera: Any) -> tuple[int, int]:
    """Of the window of a viewer (H, W), pixels."""
    return camera.image_height, camera.image_width
