"""Surface views: vertex and normal maps of what a camera sees, of a live frame or rendered from a map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.safe import expand_mask


class Camera(NamedTuple):
    """Pinhole cameras and the size of their images."""

    K: Tensor  # (B, 3, 3)
    size: tuple[int, int]  # (H, W)


@dataclass(frozen=True, eq=False)
class SurfaceView:
    """Vertex and normal maps of one view per batch element, in the frame of their camera.

    A pixel's weight is between 0, where nothing is seen, and 1.
    """

    vertices: Tensor  # (B, H, W, 3), meters, zero where nothing is seen
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

    def without_readings(self) -> SurfaceView:
        """A view of the same size in which nothing is seen."""
        nothing = self.map(torch.zeros_like)
        return replace(nothing, K=self.K, intensity=torch.zeros_like(self.weights), T_wm=None)

    def map(self, function: Callable[[Tensor], Tensor]) -> SurfaceView:
        """`function` applied to every tensor there is."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values = {name: None if value is None else function(value) for name, value in values.items()}
        return SurfaceView(**values)

    def where(self, chosen: Tensor, other: SurfaceView) -> SurfaceView:  # chosen (B,) bool
        """This surface for the batch elements for which chosen holds, `other` elsewhere."""

        def pick(mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
            if mine is None or theirs is None:
                return None
            return torch.where(expand_mask(chosen, mine), mine, theirs)

        names = [field.name for field in fields(self)]
        values: dict[str, Any] = {name: pick(getattr(self, name), getattr(other, name)) for name in names}
        return SurfaceView(**values)
