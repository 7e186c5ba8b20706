"""Projective data association (Blais and Levine 1995): the model's point at the pixel that a vertex projects to.

Or the weighted mean of the pixels around it: Gaussian (`soft_lookup`), or by splines, without any jump
(`spline_lookup`). Points are component arrays: x, y and z apart, each (B, P). What is chosen
(pixels, pairs) is a constant of the gradient; the mean sees, through its weights, how the choice would change.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import discrete, steady_floor
from gradslam_ng.compute.safe import denominator
from gradslam_ng.compute.soft import fade, smoothstep, spline_footprint
from gradslam_ng.geometry import camera
from gradslam_ng.structures import SurfaceView

XYZ = tuple[Tensor, Tensor, Tensor]


def unbind_xyz(
    v: Tensor,  # (..., 3)
) -> XYZ:
    """The components (...) of vectors."""
    x, y, z = v.unbind(-1)
    return x, y, z


class Gates(NamedTuple):
    """How far the two points of a pair may differ."""

    max_distance: Tensor  # (), meters
    min_cosine: Tensor  # (), between their normals


class Window(NamedTuple):
    """The pixels around a projection that make up a partner."""

    width: int  # pixels; 1: the nearest one alone
    sigma: Tensor  # (), pixels, of their weights
    soft: bool = False  # splines instead, whatever the width: see `spline_lookup`


class Partner(NamedTuple):
    """What points p meet in a model, camera m."""

    d: XYZ  # (B, P) each, p less the partner's vertex, meters
    n: XYZ  # (B, P) each, the partner's normal
    weight: Tensor  # (B, P)
    found: Tensor  # (B, P) bool


@discrete
def association_window(
    u: Tensor,  # (B, P), pixels
    v: Tensor,  # (B, P)
    in_front: Tensor,  # (B, P) bool
    size: tuple[int, int],
    width: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """The first column and row (B, P) int64 of the `width` x `width` pixels nearest to u, v, and whether the image
    holds u, v; 0 and 0 where it does not."""
    u, v = u.detach() + 0.5, v.detach() + 0.5
    inside = in_front & (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    shift = 0.5 * (width - 1)  # floor, not truncation: a window may begin before the image does
    column = torch.where(inside, steady_floor(u - shift) if shift else u, 0.0).long()
    row = torch.where(inside, steady_floor(v - shift) if shift else v, 0.0).long()
    return column, row, inside


@discrete
def gate_pairs(
    d: XYZ,  # (B, P) each, meters
    cosine: Tensor,  # (B, P), between normals
    found: Tensor,  # (B, P) bool
    gates: Gates,
) -> Tensor:
    """Which pairs (B, P) bool count: those found, close to each other, with normals that agree."""
    d_0, d_1, d_2 = (component.detach() for component in d)
    near = d_0 * d_0 + d_1 * d_1 + d_2 * d_2 < (gates.max_distance * gates.max_distance).detach()
    return found & near & (cosine.detach() > gates.min_cosine)


def gather_pixels(
    model: SurfaceView,
    column: Tensor,  # (B, P) int64
    row: Tensor,  # (B, P) int64
) -> tuple[XYZ, XYZ, Tensor]:
    """Vertices, normals and weights (B, P) of a model's pixels."""
    height, width = model.size
    # one offset for the whole batch: rows of a flat table gather faster than along an axis
    offset = torch.arange(column.shape[0], device=column.device)[:, None] * (height * width)
    pixel = row * width + column + offset
    q, n = model.vertices.flatten(0, 2)[pixel], model.normals.flatten(0, 2)[pixel]
    return unbind_xyz(q), unbind_xyz(n), model.weights.flatten()[pixel]


def lookup_pixel(
    p: XYZ,  # (B, P) each, camera m, meters
    model: SurfaceView,
) -> Partner:
    """The model at the pixel nearest to the projection of p."""
    p_0, p_1, p_2 = p
    u, v, in_front = camera.project_soa((p_0.detach(), p_1.detach(), p_2.detach()), model.K.detach())
    column, row, inside = association_window(u, v, in_front, model.size)
    (q_0, q_1, q_2), n, weight = gather_pixels(model, column, row)
    return Partner((p_0 - q_0, p_1 - q_1, p_2 - q_2), n, weight, inside & (weight > 0))


def soft_lookup(
    p: XYZ,  # (B, P) each, camera m, meters
    model: SurfaceView,
    window: Window,
    max_distance: Tensor,  # (), meters
) -> Partner:
    """The mean of what `lookup_pixel` finds over the window's pixels around the projection of p.

    Each pixel weighs exp(-d^2 / (2 sigma^2)), d its distance from the projection in pixels, times a factor that falls
    from one to zero where it lies `max_distance` from p, so that no mean bridges a depth edge. As sigma goes to zero
    this becomes `lookup_pixel`. K, the pose, sigma and the distance have a gradient through the weights.
    """
    u, v, in_front = camera.project_soa(p, model.K)
    first_column, first_row, inside = association_window(u, v, in_front, model.size, window.width)
    height, width = model.size
    # the least distance cancels; without it all weights would underflow where sigma is small
    least = sum((x - (x + 0.5).floor()) ** 2 for x in (u.detach(), v.detach()))
    total = torch.zeros_like(u)
    sums = [total] * 7
    for i in range(window.width * window.width):
        column, row = first_column + i % window.width, first_row + i // window.width
        q, n, weight = gather_pixels(model, column.clamp(0, width - 1), row.clamp(0, height - 1))
        within = (column >= 0) & (column < width) & (row >= 0) & (row < height) & inside & (weight > 0)
        d = [a - b for a, b in zip(p, q, strict=True)]
        apart = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) / (max_distance * max_distance)
        off = torch.where(within, (u - column) ** 2 + (v - row) ** 2 - least, 0.0)
        share = within * torch.exp(-0.5 * off / (window.sigma * window.sigma)) * (1.0 - apart).clamp(min=0.0) ** 2
        total = total + share
        sums = [s + share * x for s, x in zip(sums, (*d, *n, weight), strict=True)]
    found = total > 1e-6
    inverse = 1.0 / denominator(total, found)
    d_0, d_1, d_2, n_0, n_1, n_2, weight = (s * inverse for s in sums)
    square = n_0 * n_0 + n_1 * n_1 + n_2 * n_2
    upright = square > 1e-6
    scale = denominator(square, upright).rsqrt()
    return Partner((d_0, d_1, d_2), (n_0 * scale, n_1 * scale, n_2 * scale), weight, found & upright)


def spline_lookup(
    p: XYZ,  # (B, P) each, camera m, meters
    model: SurfaceView,
    max_distance: Tensor,  # (), meters
) -> Partner:
    """The mean of the model over the 3 x 3 pixels around the projection of p, continuous in all that it depends on.

    A pixel's share is a quadratic B-spline of its distance from the projection, times its weight, times a factor that
    falls from one to zero where it lies `max_distance` from p. The partner's weight is the sum of the shares: it fades
    towards holes and the image's border.
    """
    u, v, in_front = camera.project_soa(p, model.K)
    pixel, footprint = spline_footprint(u, v, in_front, model.size)
    table = torch.cat([model.vertices, model.normals, model.weights[..., None]], -1).flatten(0, 2)
    offset = torch.arange(u.shape[0], device=u.device)[:, None, None] * (model.size[0] * model.size[1])
    met = table[pixel + offset]
    d = torch.stack(p, -1)[..., None, :] - met[..., :3]
    share = footprint * met[..., 6] * fade(d.square().sum(-1) / (max_distance * max_distance))
    total = share.sum(-1)
    sums = (share[..., None] * torch.cat([d, met[..., 3:6]], -1)).sum(-2).unbind(-1)
    found = total > 1e-9
    inverse = 1.0 / denominator(total, found)
    d_0, d_1, d_2, n_0, n_1, n_2 = (s * inverse for s in sums)
    square = n_0 * n_0 + n_1 * n_1 + n_2 * n_2
    upright = square > 1e-6
    scale = denominator(square, upright).rsqrt()
    return Partner((d_0, d_1, d_2), (n_0 * scale, n_1 * scale, n_2 * scale), total, found & upright)


def soft_gate(
    cosine: Tensor,  # (B, P), between normals
    found: Tensor,  # (B, P) bool
    gates: Gates,
) -> Tensor:
    """How much (B, P) pairs count by their normals: nothing at the gate, all half way to agreement. The distance has
    its part in `spline_lookup`."""
    agreement = 2.0 * (cosine - gates.min_cosine) / (1.0 - gates.min_cosine)
    return found.to(cosine.dtype) * smoothstep(agreement)
