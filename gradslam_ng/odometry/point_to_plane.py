"""Point-to-plane ICP with projective association, reduced pixel by pixel to 6x6 normal equations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.geometry import se3
from gradslam_ng.odometry.association import (
    XYZ,
    Gates,
    Partner,
    Window,
    gate_pairs,
    lookup_pixel,
    soft_gate,
    soft_lookup,
    spline_lookup,
    unbind_xyz,
)
from gradslam_ng.odometry.normal_equations import Blocks, block_sums, normal_equations, tukey_error, tukey_weights
from gradslam_ng.structures import SurfaceView


def point_to_plane(
    p_w: Tensor,  # (..., N, 3), meters
    q_w: Tensor,  # (..., N, 3), meters
    n_w: Tensor,  # (..., N, 3), unit
) -> tuple[Tensor, Tensor]:
    """Signed distance of p to the tangent plane at q, and its Jacobian to a left update of p's pose.

    Chen and Medioni 1991. Returns r (..., N), meters, and J (..., N, 6), ordered [translation, rotation].
    """
    r = ((p_w - q_w) * n_w).sum(-1)
    J = torch.cat([n_w, torch.linalg.cross(p_w, n_w)], dim=-1)
    return r, J


def point_to_plane_soa(
    p: XYZ,  # (B, P) each
    d: XYZ,  # (B, P) each, p less q
    n: XYZ,  # (B, P) each
) -> tuple[Tensor, list[Tensor]]:
    """`point_to_plane` for points whose x, y and z lie apart. Returns r (B, P) and six columns of J, each (B, P)."""
    (p_0, p_1, p_2), (d_0, d_1, d_2), (n_0, n_1, n_2) = p, d, n
    r = d_0 * n_0 + d_1 * n_1 + d_2 * n_2
    return r, [n_0, n_1, n_2, p_1 * n_2 - p_2 * n_1, p_2 * n_0 - p_0 * n_2, p_0 * n_1 - p_1 * n_0]


class LivePoints(NamedTuple):
    """The points of a frame that are aligned."""

    vertices: Tensor  # (B, P, 3), camera c, meters
    normals: Tensor  # (B, P, 3)
    information: Tensor  # (B, P), 1 / variance of a vertex along its ray, 1/m^2; 0 where there is no depth


@dataclass(frozen=True, eq=False)
class PointToPlaneFactor:
    """The point-to-plane error of a frame's points in a model; the unknown is T_mc (B, 4, 4).

    See `linearize_point_to_plane`.
    """

    live: LivePoints
    model: SurfaceView
    gates: Gates
    kernel_width: Tensor  # (), standard deviations
    window: Window
    blocks: Blocks  # of its pixels

    def evaluate(self, T_mc: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What `linearize` returns, the overlap (B,), and what each block of pixels adds to g (B, G, 6)."""
        alignment = self.live, self.model, T_mc, self.gates, self.kernel_width, self.window
        return evaluate_point_to_plane(*alignment, self.blocks)

    def linearize(self, T_mc: Tensor, /) -> tuple[Tensor, Tensor, Tensor]:
        """H (B, 6, 6), g (B, 6) and error (B)."""
        return linearize_point_to_plane(self.live, self.model, T_mc, self.gates, self.kernel_width, self.window)

    def error(self, T_mc: Tensor, /) -> Tensor:
        return self.linearize(T_mc)[2]

    @property
    def total_information(self) -> Tensor:
        """(B,), 1/m^2: what the normal equations are divided by."""
        return total_information(self.live)


def find_partner(p: XYZ, model: SurfaceView, gates: Gates, window: Window) -> Partner:
    """What points p, camera m, meet in a model."""
    if window.soft:
        return spline_lookup(p, model, gates.max_distance)
    return lookup_pixel(p, model) if window.width == 1 else soft_lookup(p, model, window, gates.max_distance)


def total_information(live: LivePoints) -> Tensor:
    """The sum (B,) of the information of all points; at least 1, below which there is no depth at all."""
    return live.information.sum(-1).clamp(min=1.0)


@compiled(fuse_reductions=True, batched=True)
def linearize_point_to_plane(
    live: LivePoints,
    model: SurfaceView,
    T_mc: Tensor,  # (B, 4, 4)
    gates: Gates,
    kernel_width: Tensor,  # (), residual, in standard deviations, from which a pair counts nothing
    window: Window,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normal equations of the alignment of a frame (camera c) to a model seen from camera m.

    Each vertex is paired with the model pixel it projects to, or with the mean of several around there (`association`),
    kept if the two lie close and their normals agree, whitened by the frame's depth noise, and weighted by Tukey's
    biweight and by the model's weight (Newcombe et al. 2011, section 3.5). A vertex without a partner costs what an
    outlier costs. Written one scalar at a time: `torch.compile` makes it one pass over the pixels.

    Returns H (B, 6, 6), g (B, 6) and error (B), divided by the sum of the information of all vertices.
    """
    found = weigh_pairs(live, model, T_mc, gates, kernel_width, window)
    total = total_information(live)
    H, g = normal_equations(found.J, found.r, found.w, total)
    return H, g, tukey_error(found.cost, kernel_width, total)


@compiled(dynamic=(), fuse_reductions=True, batched=True)
def evaluate_point_to_plane(
    live: LivePoints,
    model: SurfaceView,
    T_mc: Tensor,  # (B, 4, 4)
    gates: Gates,
    kernel_width: Tensor,  # ()
    window: Window,
    blocks: Blocks,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What `linearize_point_to_plane` returns; the overlap (B,), the share of the vertices that found a partner; and
    what each block of pixels adds to g, (B, G, 6), see `block_sums`."""
    found = weigh_pairs(live, model, T_mc, gates, kernel_width, window)
    total = total_information(live)
    H, g = normal_equations(found.J, found.r, found.w, total)
    overlap = found.paired.sum(-1) / found.counted.sum(-1).clamp(min=1.0)
    scores = block_sums(found.J, found.w * found.r, blocks) / total[:, None, None]
    return H, g, tukey_error(found.cost, kernel_width, total), overlap, scores


class WeighedPairs(NamedTuple):
    """Residuals of the pairs of an alignment."""

    J: list[Tensor]  # six columns (B, P)
    r: Tensor  # (B, P), meters
    w: Tensor  # (B, P), 1/m^2
    cost: Tensor  # (B, P), 1 for an outlier
    paired: Tensor  # (B, P), in [0, 1]
    counted: Tensor  # (B, P), 1 where there is depth


def weigh_pairs(
    live: LivePoints,
    model: SurfaceView,
    T_mc: Tensor,  # (B, 4, 4)
    gates: Gates,
    kernel_width: Tensor,  # (), standard deviations
    window: Window,
) -> WeighedPairs:
    """Vertices with their partners, weighted; see `linearize_point_to_plane`."""
    p = se3.transform_soa(T_mc, unbind_xyz(live.vertices))
    partner = find_partner(p, model, gates, window)
    r_0, r_1, r_2 = se3.rotate_soa(T_mc, unbind_xyz(live.normals))
    n_0, n_1, n_2 = partner.n
    cosine = r_0 * n_0 + r_1 * n_1 + r_2 * n_2
    measured = live.information > 0
    # as numbers: arrays of bool are written and read byte by byte
    if window.soft:
        paired, met = soft_gate(cosine, partner.found & measured, gates), partner.found.to(cosine.dtype)
    else:
        paired = met = gate_pairs(partner.d, cosine, partner.found & measured, gates).to(cosine.dtype)
    r, J = point_to_plane_soa(p, partner.d, partner.n)
    r, counted = met * r, measured.to(r.dtype)
    w, cost = tukey_weights(r, live.information, paired * partner.weight, counted, kernel_width)
    return WeighedPairs(J, r, w, cost, paired, counted)
