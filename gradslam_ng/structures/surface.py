"""What a camera sees of a surface: a live frame, or a map rendered from somewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor


class Camera(NamedTuple):
    """Pinhole cameras and the size of their images."""

    K: Tensor  # (B, 3, 3)
    size: tuple[int, int]  # (H, W)


@dataclass(frozen=True, eq=False)
class SurfaceView:
    """Vertex and normal maps of one view per batch element, in the frame of their camera.

    weights say how far each pixel is to be trusted: 0 where nothing is seen.
    """

    vertices: Tensor  # (B, H, W, 3), metres, zero where nothing is seen
    normals: Tensor  # (B, H, W, 3), unit, towards the camera, zero where undefined
    weights: Tensor  # (B, H, W)
    K: Tensor  # (B, 3, 3)
    intensity: Tensor | None = None  # (B, H, W), in [0, 1]; None where brightness plays no part
    T_wm: Tensor | None = None  # (B, 4, 4), pose of the camera; None where it is not known, as of a live frame

    @property
    def size(self) -> tuple[int, int]:
        return self.vertices.shape[-3], self.vertices.shape[-2]

    @property
    def camera(self) -> Camera:
        return Camera(self.K, self.size)

    def with_pose(self, T_wm: Tensor) -> SurfaceView:
        """The same view of a camera at T_wm (B, 4, 4)."""
        return replace(self, T_wm=T_wm)

    def map(self, function: Callable[[Tensor], Tensor]) -> SurfaceView:
        """`function` applied to every tensor there is."""
        values = (getattr(self, field.name) for field in fields(self))
        return SurfaceView(*(None if value is None else function(value) for value in values))

    def where(self, chosen: Tensor, other: SurfaceView) -> SurfaceView:
        """This surface for the batch elements for which chosen (B,) holds, `other` elsewhere."""

        def pick(mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
            if mine is None or theirs is None:
                return None
            return torch.where(chosen.reshape(-1, *(1,) * (mine.ndim - 1)), mine, theirs)

        return SurfaceView(*(pick(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)))
