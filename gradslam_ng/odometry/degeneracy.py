"""Which directions of a motion a scene fixes, and how well."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.geometry import se3

SPURIOUS = 0.04**2  # share of the information that normals 0.04 radians off make up where there is no structure
MOTION = 0.02  # metres, and of rotation at the distance of the scene: how far a camera strays from where it is expected


class Fixed(NamedTuple):
    """What a scene fixes of a motion. A discrete choice."""

    keep: Tensor  # (B, 6, 6), takes a motion from where the camera was expected to the part of it to be believed
    covariance: Tensor  # (B, 6, 6)
    all: Tensor  # (B,) bool: every direction


@discrete
def fixed(H: Tensor, total: Tensor) -> Fixed:
    """What a scene fixes, from the normal equations H (B, 6, 6) over their sum of weights, total (B).

    Along the eigenvectors of the information that noise of the normals alone could explain, the camera stays where it
    was expected (Zhang, Kaess and Singh 2016). Rotations are compared with translations at the distance of the scene.
    """
    A, unit, trace = scaled(H.detach())
    eye = torch.eye(6, dtype=A.dtype, device=A.device)
    share = torch.linalg.solve_ex(A @ A + SPURIOUS**2 * eye, A @ A).result  # eigenvalues l^2 / (l^2 + spurious^2)
    for _ in range(4):  # each brings them nearer to 0 or 1, with no eigenvector in sight (McWeeny 1960)
        share = 3 * share @ share - 2 * share @ share @ share
    known = (share @ A) * (trace * total.detach())[:, None, None]
    inverse = torch.linalg.inv_ex(0.5 * (known + known.mT) + eye / MOTION**2).inverse
    covariance = inverse / (unit[:, :, None] * unit[:, None, :])
    keep = share * unit[:, None, :] / unit[:, :, None]
    left_open = 6.0 - share.diagonal(dim1=-2, dim2=-1).sum(-1)
    return Fixed(keep.to(H.dtype), covariance.to(H.dtype), (trace > 0) & (left_open < 0.5))


@compiled(dynamic=())
def believed(keep: Tensor, T_mc: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """The part of the way from start to T_mc (B, 4, 4) that is kept, and the twist (B, 6) to there, a constant."""
    delta = (keep @ se3.log(T_mc @ se3.inverse(start))[..., None])[..., 0]
    return se3.exp(delta) @ start, delta.detach()


def scaled(H: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """H (B, 6, 6) in metres also where it turns, and of trace one; the units (B, 6) it was divided by, and the trace.

    In float64: the smallest of its eigenvalues matter.
    """
    diagonal = H.diagonal(dim1=-2, dim2=-1).double()
    shift, turn = diagonal[:, :3].sum(-1), diagonal[:, 3:].sum(-1)
    some = (shift > 0) & (turn > 0)
    distance = (torch.where(some, turn, 1.0) / torch.where(some, shift, 1.0)).sqrt()
    unit = torch.stack([torch.ones_like(distance)] * 3 + [distance] * 3, -1)
    trace = torch.where(some, 2 * shift, 0.0)
    A = H.double() / (unit[:, :, None] * unit[:, None, :] * torch.where(some, trace, 1.0)[:, None, None])
    return torch.where(some[:, None, None] & A.isfinite(), A, 0.0), unit, trace
