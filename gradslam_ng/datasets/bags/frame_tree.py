"""Where the coordinate frames of a robot are to each other: the static part of ROS's tf."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.geometry import se3


class FrameTree:
    """Transforms between named frames, of which any two that are connected can be asked for."""

    def __init__(self) -> None:
        self._neighbors: dict[str, dict[str, Tensor]] = {}

    def add(self, a: str, b: str, T_ab: Tensor) -> None:
        """T_ab (4, 4) maps points of frame b into frame a; what is known already stays."""
        a, b = a.strip("/"), b.strip("/")
        if not bool(T_ab.isfinite().all()) or b in self._neighbors.get(a, {}):
            return
        self._neighbors.setdefault(a, {})[b] = T_ab
        self._neighbors.setdefault(b, {})[a] = se3.inverse(T_ab)

    def find(self, a: str, b: str) -> Tensor | None:
        """T_ab (4, 4) float64 over the fewest frames between; None where they are not connected."""
        a, b = a.strip("/"), b.strip("/")
        found = {a: torch.eye(4, dtype=torch.float64)}
        waiting = deque([a])
        while waiting and b not in found:
            frame = waiting.popleft()
            for other, T in self._neighbors.get(frame, {}).items():
                if other not in found:
                    found[other] = found[frame] @ T
                    waiting.append(other)
        return found.get(b)


def rigid(translation: Any, rotation: Any) -> Tensor:
    """T (4, 4) float64 of a Vector3 and a Quaternion of ROS; NaN where the quaternion is zero."""
    t = torch.tensor([translation.x, translation.y, translation.z], dtype=torch.float64)
    q = torch.tensor([rotation.x, rotation.y, rotation.z, rotation.w], dtype=torch.float64)
    return se3.from_quaternion(t, q / q.norm())


def rigid_column_major(rotation: Any, translation: Any) -> Tensor:
    """T (4, 4) float64 of RealSense's nine numbers of a rotation, column by column, and three of a translation."""
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = torch.tensor([float(value) for value in rotation], dtype=torch.float64).reshape(3, 3).T
    T[:3, 3] = torch.tensor([float(value) for value in translation], dtype=torch.float64)
    return T
