"""The scale of stored depth: units in a meter, and who tells them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from gradslam_ng.datasets.camera import Camera
from gradslam_ng.datasets.images import depth_in_meters

DEFAULT = "the default"  # who tells a scale that nobody tells


@dataclass(frozen=True)
class DepthScale:
    """Units in a meter of depth stored as integers or as floats, which are in meters unless a scale is told."""

    integers: float
    floats: float
    source: str  # who tells it
    no_depth: int = 0  # the integer, besides 0, that marks a pixel without depth

    @classmethod
    def of(
        cls,
        given: float | None,
        camera: Camera,
        *,
        default: float,
        default_source: str = DEFAULT,
        no_depth: int = 0,
    ) -> DepthScale:
        """As given by the user, else by the camera's file, else the default, by whom that is told.

        Raises:
            ValueError: not a number of units in a meter, or below 1.
        """
        told = camera.depth_scale if given is None else given
        scale = check_scale(default if told is None else told)
        source = "as given" if given is not None else default_source if told is None else camera.scale_source
        return cls(scale, 1.0 if told is None else scale, source, no_depth)

    def of_type(self, dtype: np.dtype) -> float:
        """Units in a meter of numbers of a type."""
        return self.floats if dtype.kind == "f" else self.integers

    def note(self, dtype: np.dtype) -> str:
        """One line for the user."""
        scale = self.of_type(dtype)
        return "depth unit: meters" if scale == 1 else f"depth unit: 1/{scale:g} m ({self.source})"

    def meters(
        self,
        pixels: np.ndarray,  # (H, W) or (H, W, 1)
    ) -> Tensor:
        """Depth (H, W, 1) float32, meters; see `depth_in_meters`."""
        return depth_in_meters(pixels, self.integers, self.no_depth, self.floats)


def check_scale(value: float) -> float:
    """Units in a meter as a number; ValueError where it is none, or below 1."""
    try:
        if isinstance(value, bool):
            raise TypeError
        scale = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"depth_scale: expected a number of units in a meter, got {value!r}") from None
    if not 1 <= scale < float("inf"):
        swapped = f"; for units of {scale:g} m give {1 / scale:g}" if 0 < scale < 1 else ""
        raise ValueError(f"depth_scale: expected a positive number of units in a meter, got {scale:g}{swapped}")
    return scale
