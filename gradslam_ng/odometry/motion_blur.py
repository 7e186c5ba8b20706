"""How far the camera that color shows may be from the one that depth shows, in a frame blurred by motion.

Color shows the mean over an exposure, depth a moment of it. With a hand's tremor the mean of where a camera was is not
where it was in that moment, by one motion for all pixels, which no number of them averages away. How long an exposure
took is not told; blur shows, where the camera moved and the edges of the image are wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.compute.compiled import compiled, static_shapes_enabled
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.compute.safe import denominator
from gradslam_ng.geometry import se3
from gradslam_ng.odometry.degeneracy import analyze_degeneracy, normalize_units
from gradslam_ng.odometry.photometric import PhotometricFactor
from gradslam_ng.odometry.point_to_plane import PointToPlaneFactor

OFFSET_SHARE = 0.1  # standard deviation of the offset, of the blur
MIN_MOTION = 1.0  # pixels at the size tracked: what moves less is not blurred by it
SHARP = 1.1  # pixels across edges, as real recordings have it that were taken slowly
BLUR_PER_WIDTH = 8.0  # pixels of blur, at most, for each by which edges are wider
MIN_SLOPE = 0.04  # of intensity, per pixel: fainter edges may be noise


class Motion(NamedTuple):
    """Where a search has come to, and from where the camera came, as seen from the model's camera."""

    T_mc: Tensor  # (B, 4, 4)
    T_mc_expected: Tensor  # (B, 4, 4)
    T_mc_before: Tensor  # (B, 4, 4), of the frame before


def allow_offsets(
    factors: Sequence[optim.Term], geometry: PointToPlaneFactor, motion: Motion
) -> tuple[optim.Term, ...]:
    """Factors of the finest level, those of brightness as `allow_offset` has them."""
    return tuple(allow_offset(x, geometry, motion) if isinstance(x, PhotometricFactor) else x for x in factors)


def allow_offset(factor: PhotometricFactor, geometry: PointToPlaneFactor, motion: Motion) -> PhotometricFactor:
    """The factor; for a blurred frame, of a camera that is off by a small motion which nobody knows.

    In the directions alone that geometry, of any level, observes: along a bare wall color is all there is. How large
    the motion may be is a constant of the gradient.
    """
    covariance = offset_covariance(factor, geometry, motion)
    return factor if covariance is None else replace(factor, offset=factor.total[:, None, None] * covariance)


@discrete
def offset_covariance(factor: PhotometricFactor, geometry: PointToPlaneFactor, motion: Motion) -> Tensor | None:
    """The covariance (B, 6, 6) of the motion by which color may be off; None where no frame is blurred."""
    term = factor.term
    blur = blur_length(term.points, term.weights, term.K, term.image, motion)
    if not static_shapes_enabled() and not bool((blur > 0).any()):  # in `static_shapes` nothing is asked of the device
        return None
    return (OFFSET_SHARE * blur).square()[:, None, None] * one_pixel(geometry, motion.T_mc, term.K)


@compiled(dynamic=(), fuse_reductions=True, batched=True)
def blur_length(
    points: Tensor,  # (B, P, 3), meters
    weights: Tensor,  # (B, P), 0 where there is none
    K: Tensor,  # (B, 3, 3)
    image: Tensor,  # (B, H, W), intensity
    motion: Motion,
) -> Tensor:
    """Over how many pixels (B,) an image is blurred by motion, at most: no more than it moved, and its edges show."""
    moved = (image_motion(points, weights, K, motion) - MIN_MOTION).clamp(min=0.0)
    return torch.minimum(moved, BLUR_PER_WIDTH * (edge_width(image) - SHARP).clamp(min=0.0))


def image_motion(
    points: Tensor,  # (B, P, 3), meters
    weights: Tensor,  # (B, P), 0 where there is none
    K: Tensor,  # (B, 3, 3)
    motion: Motion,
) -> Tensor:
    """How far the greater of the motion found and the one expected moves the image, pixels (B,).

    In the root mean square over directions, for points at their mean distance; motions are small.
    """
    total = weights.sum(-1)
    some = total > 0
    distance = torch.where(some, (weights * points[..., 2]).sum(-1) / denominator(total, some), 1.0)
    squares = []
    for T_mc in (motion.T_mc, motion.T_mc_expected):
        T = T_mc @ se3.inverse(motion.T_mc_before)
        moved = (T[:, :3, 3] / distance[:, None]).square().sum(-1)
        turned = (3.0 - T[:, 0, 0] - T[:, 1, 1] - T[:, 2, 2]).clamp(min=0.0)  # 2 (1 - cos), the angle squared
        squares.append(moved + turned)
    return K[:, 0, 0] * (2.0 / 3.0 * torch.maximum(*squares)).sqrt()


def edge_width(
    image: Tensor,  # (B, H, W), intensity
) -> Tensor:
    """Pixels across the edges of an image, (B,); 0 where there are none.

    An edge blurred evenly over L pixels has L slopes of 1/L and two kinks of 1/L, so that the sum of squared slopes is
    L/2 times that of squared kinks. What is faint is left out, kinks at half of a slope before it.
    """
    slopes, kinks = image.new_zeros(image.shape[0]), image.new_zeros(image.shape[0])
    for dim in (-1, -2):
        size = image.shape[dim] - 2
        before, here, after = (image.narrow(dim, k, size) for k in range(3))
        slope, kink = 0.5 * (after - before), after - 2.0 * here + before
        steep = (slope.abs() > MIN_SLOPE).to(image.dtype)
        slopes = slopes + (steep * slope * slope).flatten(1).sum(-1)
        kinks = kinks + (steep * kink * kink).flatten(1).sum(-1)
    return 2.0 * slopes / denominator(kinks, kinks > 0)


def one_pixel(
    geometry: PointToPlaneFactor,
    T_mc: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
) -> Tensor:
    """Covariance (B, 6, 6) of a motion by about a pixel in each direction that geometry observes at T_mc."""
    H = geometry.linearize(T_mc)[0]
    unit = normalize_units(H)[1].to(H.dtype)
    observed = analyze_degeneracy(H, geometry.total_information).projection
    pixel = unit[:, 3:4] / (K[:, :1, 0] * unit)  # meters and radians, at the distance of the scene
    return observed @ torch.diag_embed(pixel.square()) @ observed.mT
