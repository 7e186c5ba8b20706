"""Whether a frame shows what a map says is there, and the wide search that comes before."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from gradslam_ng.geometry import images
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.structures import LiveFrame


class Consistency(NamedTuple):
    """How far a frame and what a map shows from the same place are alike."""

    overlap: float  # share of the frame's readings where the map shows something
    shape: float  # share of these at which the two depths agree
    brightness: float  # correlation of their intensities; 1 where the map has none


def compare_views(live: LiveFrame, depth: Tensor, intensity: Tensor | None) -> Consistency:
    """A frame (1,) and what a map shows: depth, metres, 0 where it shows nothing, and intensity, both (1, H, W).

    Depths agree within 2 cm and three standard deviations of the frame's noise.
    """
    reading = live.surface.vertices[..., 2]
    both = (depth > 0) & (reading > 0)
    agree = both & ((depth - reading).abs() < 0.02 + 3 * live.sigma)
    overlap, shape = both.sum() / (reading > 0).sum().clamp(min=1), agree.sum() / both.sum().clamp(min=1)
    if intensity is None or not bool(agree.any()):
        return Consistency(float(overlap), float(shape), float(intensity is None))
    seen = images.intensity(live.color)[..., 0]
    a, b = (image[agree] - image[agree].mean() for image in (seen, intensity))
    return Consistency(float(overlap), float(shape), float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-9)))


def coarse_icp(max_step: float) -> ProjectiveICP:
    """Alignment, by shape alone and on small images, of views up to `max_step` apart, metres and radians."""
    reach = {"max_distance": 0.3, "max_angle": 45.0, "kernel_width": 15.0, "max_step": max_step, "min_overlap": 0.3}
    return ProjectiveICP(iterations=(10, 6, 0), photometric=False, **reach)
