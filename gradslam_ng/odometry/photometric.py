"""Photometric alignment: the model's surfels, seen in the live image, should look as bright as they are.

The image that is sampled and differentiated is the live one, which has no holes; the model gives points and how bright
they were. So the term needs no rendering and sees each surfel at its own place, between pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.geometry import camera, se3
from gradslam_ng.odometry.point_to_plane import normal_equations

LEAST_NOISE = 0.01  # of intensity in [0, 1]: what a camera's noise and eight bits leave at best
LEAST_SLOPE = 0.02  # of intensity, per pixel: less may be noise, which would pass for texture


class View(NamedTuple):
    """Points of a model seen from camera m, and the image of camera c in which they are looked for."""

    points: Tensor  # (B, P, 3), camera m, metres
    intensity: Tensor  # (B, P), how bright they were
    weights: Tensor  # (B, P), 0 where there is none
    image: Tensor  # (B, H, W), intensity
    depth: Tensor  # (B, H, W), metres
    K: Tensor  # (B, 3, 3), of camera c
    reach: Tensor  # (), metres, see `look`
    registration: Tensor  # (), pixels, standard deviation of where colour lies relative to depth


class Glance(NamedTuple):
    """How an image shows points of the model; each (B, P)."""

    value: Tensor  # intensity, between pixels
    du: Tensor  # its derivatives along the row and the column, per pixel
    dv: Tensor
    p_c: tuple[Tensor, Tensor, Tensor]  # the points in the camera, metres
    visible: Tensor  # 1 in the image and not hidden, else 0: planes of bool are written and read byte by byte


def look(T_mc: Tensor, view: View) -> Glance:
    """The points of a view in its image, bilinearly, where camera c stands at T_mc (B, 4, 4).

    Hidden is a point whose depth differs from the reading there by more than `reach`, metres: a discrete choice, as is
    between which pixels it falls.
    """
    image, depth, K = view.image, view.depth, view.K
    height, width = image.shape[-2:]
    p_c = se3.transform_soa(se3.inverse(T_mc), view.points.unbind(-1))
    u, v, in_front = camera.project_soa(p_c, K)
    column, row, inside = cell(u, v, in_front, (height, width))
    offset = torch.arange(len(image), device=image.device)[:, None] * (height * width)
    first = (row * width + column).long() + offset
    flat = image.flatten()
    top_left, top_right = flat[first], flat[first + 1]
    low_left, low_right = flat[first + width], flat[first + width + 1]
    a, b = u - column, v - row
    du = torch.lerp(top_right - top_left, low_right - low_left, b)
    dv = torch.lerp(low_left - top_left, low_right - top_right, a)
    value = torch.lerp(torch.lerp(top_left, top_right, a), torch.lerp(low_left, low_right, a), b)
    nearest = first + (a.detach() > 0.5) + width * (b.detach() > 0.5)
    visible = inside & unhidden(p_c[2], depth.flatten()[nearest], view.reach)
    return Glance(value, du, dv, p_c, visible.to(value.dtype))


@discrete
def unhidden(z: Tensor, reading: Tensor, reach: Tensor) -> Tensor:
    """Whether points at depth z (B, P) are what the reading there shows. A discrete choice."""
    reading = reading.detach()
    return (reading > 0) & ((reading - z.detach()).abs() < reach.detach())


@discrete
def cell(u: Tensor, v: Tensor, in_front: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The pixel left and above of u, v (B, P), whole numbers, and whether all four around are in the image; 0, 0 if
    not."""
    u, v = u.detach(), v.detach()
    inside = in_front & (u >= 0) & (u < size[1] - 1) & (v >= 0) & (v < size[0] - 1)
    return torch.where(inside, u, 0.0).floor(), torch.where(inside, v, 0.0).floor(), inside


@discrete
def textured(slope: Tensor) -> Tensor:
    """1 where brightness changes enough to be told from noise, else 0; slope (B, P), squared. A discrete choice."""
    return (slope.detach() > LEAST_SLOPE**2).to(slope.dtype)


@dataclass(frozen=True)
class Brightness:
    """The photometric cost of one pyramid level; the unknown is T_mc (B, 4, 4)."""

    view: View
    gain: Tensor  # (B,), and the offset (B,): exposure of the image relative to the model
    offset: Tensor
    noise: Tensor  # (B,), standard deviation of the residual

    @staticmethod
    def at(T_mc: Tensor, view: View, lean: bool) -> Brightness:
        """Exposure and noise as found at T_mc."""
        evaluate = partial(checkpoint, exposure) if lean else exposure
        return Brightness(view, *evaluate(T_mc, view))

    def linearize(self, T_mc: Tensor, scale: Tensor, total: Tensor, lean: bool) -> tuple[Tensor, Tensor, Tensor]:
        """H (B, 6, 6), g (B, 6) and error (B), divided by `total` (B)."""
        evaluate = partial(checkpoint, linearize_photometric) if lean else linearize_photometric
        return evaluate(T_mc, self.view, self.gain, self.offset, self.noise, scale, total)


@compiled(fuse_reductions=True)
def exposure(T_mc: Tensor, view: View) -> tuple[Tensor, Tensor, Tensor]:
    """Gain and offset (B,) that bring the image's intensities to the model's, and the noise (B,) that is left.

    Mean and spread of both are made equal, which, unlike regression, does not mistake a pose that is off for a loss of
    contrast. The noise is that of a normal distribution with the mean absolute residual found.
    """
    weights, intensity = view.weights, view.intensity
    glance = look(T_mc, view)
    w = glance.visible * weights
    total = w.sum(-1)
    some = total > 0
    w = w / torch.where(some, total, 1.0)[:, None]
    value, truth = glance.visible * glance.value, glance.visible * intensity
    mean_value, mean_truth = (w * value).sum(-1), (w * truth).sum(-1)
    spread_value = (w * (value - mean_value[:, None]) ** 2).sum(-1)
    spread_truth = (w * (truth - mean_truth[:, None]) ** 2).sum(-1)
    contrast = some & (torch.minimum(spread_value, spread_truth) > LEAST_NOISE**2)
    ratio = torch.where(contrast, spread_truth, 1.0) / torch.where(contrast, spread_value, 1.0)
    gain = ratio.clamp(0.1, 10.0).sqrt()
    offset = mean_truth - gain * mean_value
    residual = gain[:, None] * value + offset[:, None] - truth
    noise = 1.25 * (w * residual.abs()).sum(-1)
    return gain, offset, noise.clamp(min=LEAST_NOISE)


@compiled(fuse_reductions=True)
def linearize_photometric(
    T_mc: Tensor, view: View, gain: Tensor, offset: Tensor, noise: Tensor, scale: Tensor, total: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Normal equations H (B, 6, 6), g (B, 6) and error (B) of the brightness residuals, whitened, over `total` (B).

    To a left update of T_mc (Steinbruecker et al. 2011, with the roles of the two images exchanged). A residual's
    variance is that of the noise and, where brightness changes along the image, that of how colour lies upon depth.
    Weighted by the model's weights and Tukey's biweight, `scale` standard deviations wide; what is not seen, or
    where the image is even, costs what an outlier does.
    """
    intensity, weights, K = view.intensity, view.weights, view.K
    glance = look(T_mc, view)
    visible, (x, y, z) = glance.visible, glance.p_c
    inv_z = visible / torch.where(visible > 0, z, 1.0)
    du, dv = (gain[:, None] * inv_z * d for d in (glance.du, glance.dv))
    j_x = du * K[:, 0, 0, None]
    j_y = du * K[:, 0, 1, None] + dv * K[:, 1, 1, None]
    j_z = -(j_x * x + j_y * y) * inv_z
    J = [j_x, j_y, j_z, y * j_z - z * j_y, z * j_x - x * j_z, x * j_y - y * j_x]  # the points move, as seen from c

    residual = visible * (gain[:, None] * glance.value + offset[:, None] - intensity)
    slope = visible * (glance.du * glance.du + glance.dv * glance.dv)
    away = (view.registration * gain)[:, None] ** 2 * slope
    information = 1.0 / ((noise * noise)[:, None] + away)
    inlier = (1.0 - residual * residual * information / (scale * scale)).clamp(min=0.0)
    trust = textured(slope) * weights * inlier * inlier
    w = trust * information
    cost = (weights > 0).to(trust.dtype) - trust * inlier
    H, g = normal_equations(J, residual, w, total)
    back = -se3.adjoint(se3.inverse(T_mc))  # moving the camera as seen from m moves the points the other way
    return back.mT @ H @ back, (back.mT @ g[..., None])[..., 0], scale * scale / 6.0 * cost.sum(-1) / total
