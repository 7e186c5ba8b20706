"""Degeneracy analysis of the ICP Hessian: which directions of a motion a scene observes, and how well."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.safe import denominator
from gradslam_ng.geometry import se3

# Share of the information that normals 0.04 radians off make up where there is no structure
DEGENERACY_THRESHOLD = 0.04**2
# Meters, and of rotation at the distance of the scene: how far a camera strays from where it is expected
PRIOR_SIGMA = 0.02
MIN_VARIANCE = 0.01  # of residuals, of what they were whitened by: less is no sensor's


class Observability(NamedTuple):
    """Which directions of a motion a scene observes."""

    projection: Tensor  # (B, 6, 6), takes a motion from where the camera was expected to the part of it observed
    covariance: Tensor  # (B, 6, 6), of that motion
    num_degenerate: Tensor  # (B,), how many of the six directions are not observed; whole but for rounding


def analyze_degeneracy(
    H: Tensor,  # (B, 6, 6)
    total: Tensor,  # (B,)
    left: Tensor | None = None,  # (B, 6, 6)
) -> Observability:
    """Which directions a scene observes, from the normal equations H over their sum of weights, `total`.

    left: the normal equations that the covariance comes from, where not all of H is believed; default: H.

    Along the eigenvectors of the information that noise of the normals alone could explain, the camera stays where it
    was expected (Zhang, Kaess and Singh 2016). Rotations are compared with translations at the distance of the scene.
    How far a direction counts as observed is a smooth function of H and has a gradient: only whether the whole frame
    is called degenerate is a choice.
    """
    A, unit, trace = normalize_units(H)
    eye = torch.eye(6, dtype=A.dtype, device=A.device)
    # eigenvalues l^2 / (l^2 + threshold^2)
    share = torch.linalg.solve_ex(A @ A + DEGENERACY_THRESHOLD**2 * eye, A @ A).result
    # Each brings them nearer to 0 or 1, with no eigenvector in sight (McWeeny 1960). So the gradient needs no gap
    # between eigenvalues either: all four together stretch a change of the share by at most 1.5^4.
    for _ in range(4):
        share = 3 * share @ share - 2 * share @ share @ share
    A = A if left is None else in_units(left, unit, trace)
    information = (share @ A) * (trace * total)[:, None, None]
    inverse = torch.linalg.inv_ex(0.5 * (information + information.mT) + eye / PRIOR_SIGMA**2).inverse
    covariance = inverse / (unit[:, :, None] * unit[:, None, :])
    projection = share * unit[:, None, :] / unit[:, :, None]
    num_degenerate = 6.0 - share.diagonal(dim1=-2, dim2=-1).sum(-1)
    return Observability(projection.to(H.dtype), covariance.to(H.dtype), num_degenerate)


def variance_factor(
    H: Tensor,  # (B, 6, 6)
    scores: Tensor,  # (B, G, 6)
    total: Tensor,  # (B,)
) -> Tensor:
    """How many times the inverse of the normal equations a pose's covariance is, (B,).

    The inverse takes residuals for independent, and of the variance they were whitened by. In truth noise is of another
    size, neighbors share theirs, and the map is wrong here and there. What residuals add up to over blocks, the scores,
    shows all that: H^-1 M H^-1, with M the sum of s s^T, is the sandwich estimator (White 1980) with blocks for
    clusters (Liang and Zeger 1986). Here it is reduced to one number, the mean over directions of its ratio to H^-1,
    for the fewness of the blocks times G / (G - 6). The step that the search has left undone, H^-1 times the sum of the
    scores, is an error as well and adds its square.

    H and the scores are divided by `total`.
    """
    A, unit, trace = normalize_units(H)
    some = trace > 0
    scale = (total.double() / denominator(trace, some))[:, None, None]
    s = scores.double() / unit[:, None]
    step = s.sum(1)[..., None]
    blocks = s.shape[1]
    M = scale * (blocks / (blocks - 6) * s.mT @ s + step @ step.mT)
    inverse = torch.linalg.inv_ex(A + DEGENERACY_THRESHOLD * torch.eye(6, dtype=A.dtype, device=A.device)).inverse
    observed = (inverse * A).sum((-2, -1))  # directions
    ratio = (inverse * M).sum((-2, -1)) / denominator(observed, some)
    return torch.where(some, ratio.clamp(min=MIN_VARIANCE), 1.0).to(H.dtype)


@compiled(dynamic=())
def remap_solution(
    projection: Tensor,  # (B, 6, 6)
    T_mc: Tensor,  # (B, 4, 4)
    T_mc_prior: Tensor,  # (B, 4, 4)
) -> tuple[Tensor, Tensor]:
    """The observed part of the motion from T_mc_prior to T_mc, as a pose (B, 4, 4), and its twist (B, 6), a constant.

    Solution remapping of Zhang, Kaess and Singh 2016, section IV.
    """
    xi = (projection @ se3.log(T_mc @ se3.inverse(T_mc_prior))[..., None])[..., 0]
    return se3.exp(xi) @ T_mc_prior, xi.detach()


def normalize_units(
    H: Tensor,  # (B, 6, 6)
) -> tuple[Tensor, Tensor, Tensor]:
    """H in meters also where it rotates, and of trace one; the units (B, 6) it was divided by, and the trace (B,).

    In float64: the smallest of its eigenvalues matter. All of H is zero where it is not finite, before a gradient of it
    could be taken.
    """
    H = finite(H)
    diagonal = H.diagonal(dim1=-2, dim2=-1).double()
    translation, rotation = diagonal[:, :3].sum(-1), diagonal[:, 3:].sum(-1)
    some = (translation > 0) & (rotation > 0)
    distance = (denominator(rotation, some) / denominator(translation, some)).sqrt()
    unit = torch.stack([torch.ones_like(distance)] * 3 + [distance] * 3, -1)
    trace = torch.where(some, 2 * translation, 0.0)
    return in_units(H, unit, trace), unit, trace


def in_units(
    H: Tensor,  # (B, 6, 6)
    unit: Tensor,  # (B, 6)
    trace: Tensor,  # (B,)
) -> Tensor:
    """H (B, 6, 6) float64 in these units, over a trace; zero where that is."""
    some = trace > 0
    A = finite(H).double() / (unit[:, :, None] * unit[:, None, :] * denominator(trace, some)[:, None, None])
    return torch.where(some[:, None, None], A, 0.0)


def finite(
    H: Tensor,  # (B, 6, 6)
) -> Tensor:
    """H, zero where not all of it is finite."""
    return torch.where(H.isfinite().flatten(1).all(-1)[:, None, None], H, 0.0)
