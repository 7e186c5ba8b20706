"""Photometric and geometric consistency of a frame with what a map predicts, and the coarse ICP that comes before."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.geometry import images
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.structures import LiveFrame, SurfaceView


class Consistency(NamedTuple):
    """How far a frame and what a map shows from the same pose are alike."""

    coverage: float  # share of the frame's valid depths where the map shows something
    depth_inlier_ratio: float  # share of these at which the two depths agree
    intensity_ncc: float  # normalized cross-correlation of their intensities there; 1 where the map has none

    @property
    def overlap(self) -> float:
        """Share of the frame's valid depths with which the map's agree."""
        return self.coverage * self.depth_inlier_ratio


def coverage(live: LiveFrame, model: SurfaceView) -> Tensor:
    """Share () of a frame's valid depths where the map shows something, both of a batch of one."""
    valid = live.surface.vertices[..., 2] > 0
    return (visible_depth(model) > 0).sum() / valid.sum().clamp(min=1)


def visible_depth(model: SurfaceView) -> Tensor:
    """Depth (B, H, W) of what a map shows, meters; 0 where it shows nothing."""
    return torch.where(model.weights > 0, model.vertices[..., 2], 0.0)


def compare_views(live: LiveFrame, model: SurfaceView) -> Consistency:
    """A frame and what a map shows from its pose, both of a batch of one.

    Depths agree within 2 cm and three standard deviations of the frame's noise.
    """
    depth, measured = visible_depth(model), live.surface.vertices[..., 2]  # (1, H, W)
    both = (depth > 0) & (measured > 0)
    agree = both & ((depth - measured).abs() < 0.02 + 3 * live.sigma)
    covered, inliers = both.sum() / (measured > 0).sum().clamp(min=1), agree.sum() / both.sum().clamp(min=1)
    if model.intensity is None or not bool(agree.any()):
        return Consistency(float(covered), float(inliers), float(model.intensity is None))
    seen = images.intensity(live.color)[..., 0]
    a, b = (image[agree] - image[agree].mean() for image in (seen, model.intensity))
    ncc = (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-9)
    return Consistency(float(covered), float(inliers), float(ncc))


def coarse_icp(max_step: float) -> ProjectiveICP:
    """Geometric alignment, on small images, of views up to `max_step` apart, meters and radians."""
    return ProjectiveICP(
        iterations=(10, 6, 0),
        photometric=False,
        max_distance=0.3,
        max_angle=45.0,
        kernel_width=15.0,
        max_step=max_step,
        min_overlap=0.3,
    )
