"""Point-to-plane ICP with projective association, reduced pixel by pixel to 6x6 normal equations: the hot path."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import association

UPPER = [(i, j) for i in range(6) for j in range(i, 6)]
FULL = [UPPER.index((min(i, j), max(i, j))) for i in range(6) for j in range(6)]


def point_to_plane(p_w: Tensor, q_w: Tensor, n_w: Tensor) -> tuple[Tensor, Tensor]:
    """Signed distance of p to the tangent plane at q, and its Jacobian to a left update of p's pose.

    Chen and Medioni 1991. p_w, q_w, n_w (..., N, 3), metres. Returns r (..., N), metres, and
    J (..., N, 6), ordered [translation, rotation].
    """
    r = ((p_w - q_w) * n_w).sum(-1)
    J = torch.cat([n_w, torch.linalg.cross(p_w, n_w)], dim=-1)
    return r, J


def normal_equations(J: list[Tensor], r: Tensor, w: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """J^T W J (B, 6, 6) and J^T W r (B, 6) over `total` (B), of the six columns of J, residuals r and weights w (B, P).

    Each entry summed by itself: compiled, that is one pass over the pixels in which no column is ever stored.
    """
    wJ = [w * j for j in J]
    sums = [(wJ[i] * J[j]).sum(-1) / total for i, j in UPPER] + [(wj * r).sum(-1) / total for wj in wJ]
    return torch.stack([sums[k] for k in FULL], -1).unflatten(-1, (6, 6)), torch.stack(sums[21:], -1)


@compiled(fuse_reductions=True)
def linearize_point_to_plane(
    vertices: Tensor,
    normals: Tensor,
    information: Tensor,
    model_vertices: Tensor,
    model_normals: Tensor,
    model_weights: Tensor,
    T_mc: Tensor,
    K: Tensor,
    limits: Tensor,
    scale: Tensor,
    softness: Tensor,
    size: tuple[int, int],
    across: int = 1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normal equations of the alignment of a frame (camera c) to a model seen from camera m.

    Each vertex is paired with the model pixel it projects to (Blais and Levine 1995), or with the mean of several
    around there (`association`), kept if the two lie close and their normals agree, whitened by the frame's depth
    noise, and weighted by Tukey's biweight and by the model's weight. A vertex without a partner costs what an outlier
    costs, so that losing pairs never looks like progress. Written one scalar at a time: `torch.compile` makes it one
    pass over the pixels.

    vertices, normals (B, P, 3), camera c, metres; information (B, P), 1 / variance of a vertex along its ray, 1/m^2, 0
    where there is none; model_* (B, H W, 3) and (B, H W), camera m; T_mc (B, 4, 4); K (B, 3, 3) of the model's image,
    whose size is (H, W); limits (2,): greatest distance, metres, and least cosine between normals; scale (): residual,
    in standard deviations, from which a pair counts nothing; softness (), pixels, and `across`: see
    `association.mean`, 1 for the nearest pixel alone.

    Returns H (B, 6, 6), g (B, 6), error (B) and overlap (B), the share of the vertices that found a partner. The first
    three are divided by the sum of the information of all vertices.
    """
    p_0, p_1, p_2 = se3.transform_soa(T_mc, vertices.unbind(-1))
    images = (model_vertices, model_normals, model_weights)
    if across == 1:
        d, n, model_weight, candidate = association.nearest((p_0, p_1, p_2), K, images, size)
    else:
        d, n, model_weight, candidate = association.mean((p_0, p_1, p_2), K, images, size, limits[0], softness, across)
    (d_0, d_1, d_2), (n_0, n_1, n_2) = d, n
    turned = se3.rotate_soa(T_mc, normals.unbind(-1))
    agreement = turned[0] * n_0 + turned[1] * n_1 + turned[2] * n_2
    # 0 or 1: planes of bool are written and read byte by byte
    paired = association.accepted(d, agreement, candidate & (information > 0), limits).to(d_0.dtype)

    r = paired * (d_0 * n_0 + d_1 * n_1 + d_2 * n_2)
    square = r * r * information / (scale * scale)
    inlier = (1.0 - square).clamp(min=0.0)
    trust = paired * model_weight * inlier * inlier
    w = trust * information
    seen = (information > 0).to(r.dtype)
    # Tukey's rho in whitened units: every vertex starts at its ceiling, and a partner brings it down
    cost = seen - trust * inlier

    J = [n_0, n_1, n_2, p_1 * n_2 - p_2 * n_1, p_2 * n_0 - p_0 * n_2, p_0 * n_1 - p_1 * n_0]
    total = information.sum(-1).clamp(min=1.0)  # less is no reading at all
    count = seen.sum(-1).clamp(min=1.0)
    H, g = normal_equations(J, r, w, total)
    error = scale * scale / 6.0 * cost.sum(-1) / total
    overlap = paired.sum(-1) / count
    return H, g, error, overlap
