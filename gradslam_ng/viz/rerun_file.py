"""A scene as a recording of Rerun (https://rerun.io): map, path, and the camera with its images over time."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.io.atomic import whole_file
from gradslam_ng.io.optional_import import import_optional
from gradslam_ng.viz.scene import COLORS, LOOP_COLOR, Scene, as_array

MOST_IMAGES = 300  # evenly spread over the frames
RADIUS = 0.006  # meters, of points
TIMELINE = "frame"


def load_rerun() -> Any:
    """The library, an optional one.

    Raises:
        ImportError: it is missing; the message says what to install.
    """
    return import_optional("rerun", user="a .rrd file", extra="rerun", package="rerun-sdk")


def write_rerun(
    path: Path, scene: Scene, K: Tensor | None, size: tuple[int, int], images: Callable[[float], np.ndarray | None]
) -> None:
    """Write a scene to a .rrd file, which `rerun FILE` opens.

    Args:
        path: of the file.
        scene: what there is to see.
        K: (3, 3) intrinsics, pixels; None where they are not known.
        size: image height and width.
        images: what the camera saw: seconds -> (H, W, 3) uint8, None where there is none.

    Raises:
        ImportError: rerun-sdk is missing.
        OSError: the file cannot be written.
    """
    rerun = load_rerun()
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_bytes(b"")  # what the library says of a place where it cannot write names neither place nor reason
        with rerun.RecordingStream("gradslam_ng") as stream:
            stream.save(part)
            _log_scene(rerun, stream, scene, K, size, images)


def _log_scene(
    rerun: Any,
    stream: Any,
    scene: Scene,
    K: Tensor | None,
    size: tuple[int, int],
    images: Callable[[float], np.ndarray | None],
) -> None:
    _log_map(rerun, stream, scene)
    _log_path(rerun, stream, scene)
    if K is not None:
        (fx, _, cx), (_, fy, cy), _ = K.tolist()
        lens = {"focal_length": (fx, fy), "principal_point": (cx, cy), "width": size[1], "height": size[0]}
        camera = rerun.Pinhole(**lens, camera_xyz=rerun.ViewCoordinates.RDF, image_plane_distance=0.2)
        stream.log("world/camera", camera, static=True)
    _log_frames(rerun, stream, scene, size, images)


def _log_map(rerun: Any, stream: Any, scene: Scene) -> None:
    """Points and triangles; they do not change over time."""
    axis, axes = int(scene.up.abs().argmax()), rerun.ViewCoordinates
    ways = {
        0: (axes.RIGHT_HAND_X_UP, axes.RIGHT_HAND_X_DOWN),
        1: (axes.RIGHT_HAND_Y_UP, axes.RIGHT_HAND_Y_DOWN),
        2: (axes.RIGHT_HAND_Z_UP, axes.RIGHT_HAND_Z_DOWN),
    }
    upward = ways[axis][int(scene.up[axis] < 0)]
    stream.log("world", upward, static=True)
    if len(scene.cloud):
        points, colors = as_array(scene.cloud.points), as_array(scene.cloud.colors)
        stream.log("world/map", rerun.Points3D(points, colors=colors, radii=RADIUS), static=True)
    if scene.mesh is not None:
        arrays = (as_array(each) for each in (scene.mesh.vertices, scene.mesh.faces, scene.mesh.colors))
        vertices, faces, colors = arrays
        mesh = rerun.Mesh3D(vertex_positions=vertices, triangle_indices=faces, vertex_colors=colors)
        stream.log("world/mesh", mesh, static=True)


def _log_path(rerun: Any, stream: Any, scene: Scene) -> None:
    """The path in the colors of what became of each frame, and loops."""
    centers = as_array(scene.T_wc[:, :3, 3].float())
    if len(centers) > 1:
        segments, worse = scene.path()
        colors = [COLORS[each] for each in worse.tolist()]
        stream.log("world/path", rerun.LineStrips3D(as_array(segments), colors=colors), static=True)
    if scene.loops:
        edges = centers[np.array(scene.loops)]
        stream.log("world/loops", rerun.LineStrips3D(edges, colors=[LOOP_COLOR] * len(edges)), static=True)


def _log_frames(
    rerun: Any, stream: Any, scene: Scene, size: tuple[int, int], images: Callable[[float], np.ndarray | None]
) -> None:
    """The camera at each frame, and its image at some."""
    every = max(1, math.ceil(len(scene.T_wc) / MOST_IMAGES))
    for number, (T_wc, seconds) in enumerate(zip(scene.T_wc, scene.seconds.tolist(), strict=True)):
        stream.set_time(TIMELINE, sequence=number)
        t, q_xyzw = se3.to_quaternion(T_wc)
        rotation = rerun.Quaternion(xyzw=q_xyzw.numpy())
        stream.log("world/camera", rerun.Transform3D(translation=t.numpy(), quaternion=rotation))
        image = images(seconds) if number % every == 0 else None
        if image is not None:
            stream.log(
                "world/camera/image", rerun.EncodedImage(contents=_as_jpeg(image, size), media_type="image/jpeg")
            )


def _as_jpeg(image: np.ndarray, size: tuple[int, int]) -> bytes:
    """An image of the camera's size, whatever that of the one kept."""
    picture, data = Image.fromarray(image), BytesIO()
    picture.resize((size[1], size[0])).save(data, "JPEG", quality=80)
    return data.getvalue()
