"""Which point of the model a vertex meets: the pixel it projects to, or the mean of the pixels around it.

Points are planes: x, y and z apart, each (B, P). What is chosen (pixels, pairs) is a constant of the gradient; the mean
sees, through its weights, how the choice would change.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import discrete
from gradslam_ng.geometry import camera

XYZ = tuple[Tensor, Tensor, Tensor]


@discrete
def window(
    u: Tensor, v: Tensor, in_front: Tensor, size: tuple[int, int], across: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """The first column and row (B, P) int64 of the `across` x `across` pixels nearest to u, v, and whether the image
    holds u, v; 0 and 0 where it does not. A discrete choice."""
    u, v = u.detach() + 0.5, v.detach() + 0.5
    inside = in_front & (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    shift = 0.5 * (across - 1)  # floor, not truncation: a window may begin before the image does
    column = torch.where(inside, (u - shift).floor() if shift else u, 0.0).long()
    row = torch.where(inside, (v - shift).floor() if shift else v, 0.0).long()
    return column, row, inside


@discrete
def accepted(d: XYZ, agreement: Tensor, candidate: Tensor, limits: Tensor) -> Tensor:
    """Which pairs (B, P) bool count: d apart, metres, `agreement` the cosine between normals. A discrete choice."""
    d_0, d_1, d_2 = (plane.detach() for plane in d)
    near = d_0 * d_0 + d_1 * d_1 + d_2 * d_2 < (limits[0] * limits[0]).detach()
    return candidate & near & (agreement.detach() > limits[1])


def look_up(images: tuple[Tensor, Tensor, Tensor], column: Tensor, row: Tensor, width: int) -> tuple[Tensor, ...]:
    """Seven planes (B, P), vertex, normal and weight, of a model's images (B, H W, 3), (B, H W, 3) and (B, H W)."""
    vertices, normals, weights = images
    # one offset for the whole batch: rows of a flat table gather faster than along an axis
    offset = torch.arange(len(column), device=column.device)[:, None] * weights.shape[1]
    pixel = row * width + column + offset
    q, n = vertices.flatten(0, 1)[pixel], normals.flatten(0, 1)[pixel]
    return *q.unbind(-1), *n.unbind(-1), weights.flatten()[pixel]


def nearest(
    p: XYZ, K: Tensor, images: tuple[Tensor, Tensor, Tensor], size: tuple[int, int]
) -> tuple[XYZ, XYZ, Tensor, Tensor]:
    """The model at the pixel nearest to the projection of p: how far p lies from its vertex, metres, its normal, its
    weight (B, P), and whether there is any."""
    u, v, in_front = camera.project_soa(tuple(plane.detach() for plane in p), K.detach())
    column, row, inside = window(u, v, in_front, size)
    *partner, weight = look_up(images, column, row, size[1])
    d = tuple(a - b for a, b in zip(p, partner[:3], strict=True))
    return d, tuple(partner[3:]), weight, inside & (weight > 0)


def mean(
    p: XYZ,
    K: Tensor,
    images: tuple[Tensor, Tensor, Tensor],
    size: tuple[int, int],
    reach: Tensor,
    softness: Tensor,
    across: int,
) -> tuple[XYZ, XYZ, Tensor, Tensor]:
    """The mean of what `nearest` finds over the across^2 pixels around the projection of p.

    Each pixel weighs exp(-d^2 / (2 softness^2)), d its distance from the projection in pixels, times a factor that
    falls from one to zero where it lies `reach` metres from p, so that no mean bridges a depth edge. As the softness
    goes to zero this becomes `nearest`. K, the pose, the softness and the reach have a gradient through the weights.
    """
    u, v, in_front = camera.project_soa(p, K)
    first_column, first_row, inside = window(u, v, in_front, size, across)
    height, width = size
    # the least distance cancels; without it all weights would underflow where the softness is small
    least = sum((x - (x + 0.5).floor()) ** 2 for x in (u.detach(), v.detach()))
    total = torch.zeros_like(u)
    sums = [total] * 7
    for i in range(across * across):
        column, row = first_column + i % across, first_row + i // across
        *partner, weight = look_up(images, column.clamp(0, width - 1), row.clamp(0, height - 1), width)
        within = (column >= 0) & (column < width) & (row >= 0) & (row < height) & inside & (weight > 0)
        d = [a - b for a, b in zip(p, partner[:3], strict=True)]
        apart = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) / (reach * reach)
        off = torch.where(within, (u - column) ** 2 + (v - row) ** 2 - least, 0.0)
        share = within * torch.exp(-0.5 * off / (softness * softness)) * (1.0 - apart).clamp(min=0.0) ** 2
        total = total + share
        sums = [s + share * x for s, x in zip(sums, (*d, *partner[3:], weight), strict=True)]
    found = total > 1e-6
    inverse = 1.0 / torch.where(found, total, 1.0)
    d_0, d_1, d_2, n_0, n_1, n_2, weight = (s * inverse for s in sums)
    square = n_0 * n_0 + n_1 * n_1 + n_2 * n_2
    upright = square > 1e-6
    scale = torch.where(upright, square, 1.0).rsqrt()
    return (d_0, d_1, d_2), (n_0 * scale, n_1 * scale, n_2 * scale), weight, found & upright
