"""A scene as numbers for a page that draws it: quantized points, lines, and where it is looked at from."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradslam_ng.viz.scene import COLORS, LOOP_COLOR, Scene, as_array, spacing
from gradslam_ng.viz.snapshot import FIELD, choose_view

SIZES = (560, 1060), (300, 345)  # of the pictures that the first view is chosen for: on a screen, on a phone
CAMERA = torch.tensor([[0.0, 0, 0], [-1, -0.75, 1.5], [1, -0.75, 1.5], [1, 0.75, 1.5], [-1, 0.75, 1.5]]) * 0.08
EDGES = torch.tensor([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])


def describe_scene(scene: Scene) -> dict[str, Any]:
    """What `report.html` draws, in axes whose y is up: JSON of numbers and of arrays as base64.

    Points are 16 bits a coordinate within `low` and `size`, normals 8 bits, each padded to four numbers.
    """
    R = axes_with_y_up(scene)
    points, normals = scene.cloud.points @ R.T, scene.cloud.normals @ R.T
    low = points.amin(0) if len(points) else torch.zeros(3)
    size = (points.amax(0) - low).clamp(min=1e-6) if len(points) else torch.ones(3)
    quantized = ((points - low) / size * 65535).round().numpy().astype(np.uint16)
    segments, colors = lines_of(scene)
    return {
        "count": len(points),
        "points": _encode(_padded(quantized)),
        "colors": _encode(_padded(as_array(scene.cloud.colors))),
        "normals": _encode(_padded((normals * 127).round().numpy().astype(np.int8))),
        "low": low.tolist(),
        "size": size.tolist(),
        "spacing": spacing(points),
        "lines": _encode(as_array((segments.flatten(0, 1) @ R.T).float())),
        "line_colors": _encode(_padded(as_array(colors.flatten(0, 1)))),
        "line_count": 2 * len(segments),
        "views": [describe_view(scene, R, size) for size in SIZES],
    }


def axes_with_y_up(scene: Scene) -> Tensor:
    """The rotation (3, 3) float32 from the scene's axes to right-handed ones whose y is up."""
    up = normalize(scene.up, dim=0)
    across = torch.nn.functional.one_hot(up.abs().argmin(), 3).to(up)
    x = normalize(across - (across @ up) * up, dim=0)
    return torch.stack([x, up, torch.linalg.cross(x, up)])


def describe_view(scene: Scene, R: Tensor, size: tuple[int, int]) -> dict[str, Any]:  # R (3, 3)
    """From where a snapshot of that size (H, W) is taken: angles about what is looked at, and the distance to it."""
    points, normals = scene.extent
    T_wc = scene.cameras.float()
    T_wv, _ = choose_view(points, normals, T_wc, size)
    seen = points if len(points) else T_wc[:, :3, 3]
    distance = float(((seen.mean(0) - T_wv[:3, 3]) @ T_wv[:3, 2]).clamp(min=0.3))
    backward = R @ -T_wv[:3, 2]
    return {
        "target": (R @ (T_wv[:3, 3] + distance * T_wv[:3, 2])).tolist(),
        "yaw": math.atan2(float(backward[0]), float(backward[2])),
        "pitch": math.asin(max(-1.0, min(1.0, float(backward[1])))),
        "distance": distance,
        "field": 2 * math.atan(math.tan(FIELD / 2) * size[0] / size[1]),
        "aspect": size[1] / size[0],  # less wide, more has to be seen above and below
    }


def lines_of(scene: Scene) -> tuple[Tensor, Tensor]:
    """The path in the color of the worse of two frames, loops, and the last camera: segments (S, 2, 3) and their colors
    (S, 2, 3) uint8."""
    centers = scene.T_wc[:, :3, 3].float()
    if not len(centers):
        return torch.zeros(0, 2, 3), torch.zeros(0, 2, 3, dtype=torch.uint8)
    palette = torch.tensor([COLORS[i] for i in sorted(COLORS)], dtype=torch.uint8)
    path, worse = scene.path()
    pairs = torch.tensor(scene.loops, dtype=torch.int64).reshape(-1, 2)
    corners = CAMERA @ scene.T_wc[-1, :3, :3].float().T + centers[-1]
    segments = torch.cat([path, centers[pairs], corners[EDGES]])
    loops = torch.tensor(LOOP_COLOR, dtype=torch.uint8).expand(len(pairs), 3)
    camera = palette[scene.outcomes[-1]].expand(len(EDGES), 3)
    return segments, torch.cat([palette[worse], loops, camera])[:, None].expand(-1, 2, 3)


def _padded(values: np.ndarray) -> np.ndarray:
    """(N, 3) with a column more, for alignment."""
    return np.pad(values, ((0, 0), (0, 1)))


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()).decode()
