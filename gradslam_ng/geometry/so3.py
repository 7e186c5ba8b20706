"""Rotations: SO(3) exponential, logarithm and left Jacobians, right in value and gradient from 0 to pi.

Everything rests on the entire functions

    S_k(x) = 1/k! - x/(k+2)! + x^2/(k+4)! - ...        with x = theta^2 (Stumpff functions),

S_0 = cos(theta), S_1 = sin(theta)/theta, S_2 = (1 - cos(theta))/theta^2 and so on: no quotient of vanishing terms is
left, so neither values nor gradients lose digits near zero. Branches are `torch.where` on safe inputs, hence all
functions run under vmap, jacrev, jacfwd and torch.compile.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradslam_ng.compute.safe import denominator
from gradslam_ng.compute.transforms import transforms_active

_SERIES_BELOW = 2.0  # radians squared: under it the power series, above it sine and cosine
_SERIES_TERMS = 11  # the first term left out, 2^11 / 24! beside 1 / 2!, is far below double precision


def stumpff(
    x: Tensor,  # (...), radians squared, x >= 0
    order: int,
) -> list[Tensor]:
    """[S_2, ..., S_order] of the squared angle x (...), radians squared, x >= 0, for an order of 3 or more."""
    small = x < _SERIES_BELOW
    x_small = torch.where(small, x, 0.0)
    x_large = torch.where(small, _SERIES_BELOW, x)
    theta = x_large.sqrt()
    large = [theta.cos(), theta.sin() / theta]
    for k in range(2, order + 1):  # upwards: S_k = (1 / (k-2)! - S_{k-2}) / x
        large.append((1.0 / math.factorial(k - 2) - large[k - 2]) / x_large)
    series = [_series(x_small, order), _series(x_small, order - 1)]
    for k in range(order - 2, 1, -1):  # downwards: S_k = 1 / k! - x S_{k+2}
        series.append(1.0 / math.factorial(k) - x_small * series[-2])
    return [torch.where(small, s, c) for s, c in zip(reversed(series), large[2:], strict=True)]


def _series(x: Tensor, k: int) -> Tensor:
    """The power series of S_k by Horner's rule."""
    terms = [(-1.0) ** n / math.factorial(2 * n + k) for n in range(_SERIES_TERMS)]
    value = terms[-1] * x + terms[-2]
    for term in terms[-3::-1]:
        value = value * x + term
    return value


def hat(
    w: Tensor,  # (..., 3)
) -> Tensor:
    """The matrix of the cross product: hat(w) @ v = w x v. Returns (..., 3, 3)."""
    x, y, z = w.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def quadratic(
    w: Tensor,  # (..., 3)
    a: Tensor | float,  # (...)
    b: Tensor,  # (...)
) -> Tensor:
    """I + a hat(w) + b hat(w)^2. Returns (..., 3, 3)."""
    W = hat(w)
    eye = torch.eye(3, dtype=w.dtype, device=w.device)
    W2 = w[..., :, None] * w[..., None, :] - (w * w).sum(-1)[..., None, None] * eye
    a = a[..., None, None] if isinstance(a, Tensor) else a
    return eye + a * W + b[..., None, None] * W2


def exp(
    w: Tensor,  # (..., 3)
) -> Tensor:
    """Rotation by |w| radians about w (Rodrigues). Returns R (..., 3, 3).

    Raises:
        ValueError: other than three numbers a rotation.
    """
    if w.shape[-1:] != (3,):
        raise ValueError(f"w: expected shape (..., 3), got {tuple(w.shape)}")
    x = (w * w).sum(-1)
    s2, s3 = stumpff(x, 3)
    return quadratic(w, 1.0 - x * s3, s2)


def inverse(
    R: Tensor,  # (..., 3, 3)
) -> Tensor:
    """R_ba of R_ab. Returns (..., 3, 3)."""
    return R.mT


def adjoint(
    R: Tensor,  # (..., 3, 3)
) -> Tensor:
    """Ad with R exp(w) = exp(Ad w) R: R itself. Returns (..., 3, 3)."""
    return R


def left_jacobian(
    w: Tensor,  # (..., 3)
) -> Tensor:
    """J with exp(w + dw) = exp(J dw) exp(w) to first order. Returns (..., 3, 3)."""
    return quadratic(w, *stumpff((w * w).sum(-1), 3))


def left_jacobian_inverse(
    w: Tensor,  # (..., 3)
) -> Tensor:
    """Inverse of `left_jacobian`; singular at |w| = 2 pi. Returns (..., 3, 3)."""
    x = (w * w).sum(-1)
    s2, s3, s4, _ = stumpff(x, 5)
    return quadratic(w, -0.5, (s3 - 2.0 * s4) / (2.0 * s2))


def left_jacobian_inverse_times(
    w: Tensor,  # (..., 3)
    p: Tensor,  # (..., 3)
) -> Tensor:
    """`left_jacobian_inverse` times p, no matrix written out. Returns (..., 3)."""
    s2, s3, s4, _ = stumpff((w * w).sum(-1), 5)
    w_p = torch.linalg.cross(w, p)
    return p - 0.5 * w_p + ((s3 - 2.0 * s4) / (2.0 * s2))[..., None] * torch.linalg.cross(w, w_p)


def left_jacobian_inverse_transposed_times(
    w: Tensor,  # (..., 3)
    p: Tensor,  # (..., 3)
) -> Tensor:
    """The transpose of `left_jacobian_inverse` times p. Returns (..., 3)."""
    return left_jacobian_inverse_times(-w, p)


def to_quaternion(
    R: Tensor,  # (..., 3, 3)
) -> Tensor:
    """Unit quaternion, ordered x y z w, w >= 0 (Shepperd 1978). Returns (..., 4)."""
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = R.flatten(-2).unbind(-1)
    # 4 q q^T: every row is a multiple of q; the one with the largest diagonal is taken, so it never vanishes
    products = [
        torch.stack([1 + r00 - r11 - r22, r01 + r10, r02 + r20, r21 - r12], dim=-1),
        torch.stack([r01 + r10, 1 - r00 + r11 - r22, r12 + r21, r02 - r20], dim=-1),
        torch.stack([r02 + r20, r12 + r21, 1 - r00 - r11 + r22, r10 - r01], dim=-1),
        torch.stack([r21 - r12, r02 - r20, r10 - r01, 1 + r00 + r11 + r22], dim=-1),
    ]
    rows = torch.stack(products, dim=-2)
    best = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    q = rows.take_along_dim(best[..., None, None].expand(*best.shape, 1, 4), dim=-2).squeeze(-2)
    q = torch.where(q[..., 3:] < 0, -q, q)
    return q / torch.linalg.vector_norm(q, dim=-1, keepdim=True)


def log(
    R: Tensor,  # (..., 3, 3)
) -> Tensor:
    """Rotation vector of length at most pi: exp(log(R)) = R. Returns (..., 3), radians."""
    v, w = to_quaternion(R).split((3, 1), dim=-1)
    x = (v * v).sum(-1, keepdim=True)
    small = x < 1e-3
    # near zero: 2 atan(|v| / w) / |v|; w is then close to 1, and the clamp only keeps the branch not taken finite
    w_small = w.clamp(min=0.5)
    y = torch.where(small, x / (w_small * w_small), 0.0)
    series = 2.0 / w_small * (1 - y * (1 / 3 - y * (1 / 5 - y * (1 / 7 - y * (1 / 9 - y * (1 / 11))))))
    s = torch.where(small, 1.0, x).sqrt()
    return v * torch.where(small, series, 2.0 * torch.atan2(s, w) / s)


def length(
    v: Tensor,  # (..., n)
) -> Tensor:
    """Length (...) of vectors, with zero for all derivatives of that of zero."""
    square = (v * v).sum(-1)
    some = square > 0
    return torch.where(some, torch.where(some, square, 1.0).sqrt(), 0.0)


def from_quaternion(
    q_xyzw: Tensor,  # (..., 4)
) -> Tensor:
    """Rotation of a quaternion of any length; zero gives the identity. Returns R (..., 3, 3)."""
    v, w = q_xyzw.split((3, 1), dim=-1)
    square = (q_xyzw * q_xyzw).sum(-1)
    scale = 2.0 / denominator(square, square > 0)
    return quadratic(v, scale * w[..., 0], scale)


def nearest_rotation(
    M: Tensor,  # (..., d, d)
) -> Tensor:
    """The rotation (..., d, d) nearest to each matrix (Umeyama 1991), itself if it is one; of 3 or of 2 dimensions.

    Derivatives, to second order, are those of R with R^T M symmetric, by two Newton steps from the solution, which
    leave it where it is: those of the singular vectors, which are not unique for a rotation, are not needed. Where
    rotations about some axis are equally near there are none.
    """
    U, S, Vh = torch.linalg.svd(M.detach())
    sign = torch.cat([torch.ones_like(S[..., :-1]), torch.linalg.det(U @ Vh)[..., None]], dim=-1)
    R = (U * sign[..., None, :]) @ Vh
    if not M.requires_grad and not transforms_active():
        return R
    S = sign * S
    unique = S[..., -1] + S[..., -2] > torch.finfo(M.dtype).eps * S[..., 0]  # else the last two axes may turn
    eye = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device)
    M = torch.where(unique[..., None, None], M, R)
    for _ in range(2):
        R = R @ _newton_turn(R.mT @ M, eye)
    return R


def _newton_turn(
    A: Tensor,  # (..., d, d)
    eye: Tensor,  # (d, d)
) -> Tensor:
    """The rotation (..., d, d) that, to first order, makes A symmetric when it is taken off."""
    trace = A.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    skew = A - A.mT
    if A.shape[-1] == 2:
        half = skew / (2 * trace)  # half the angle's tangent: Cayley's map, a rotation exactly
        return torch.linalg.solve(eye - half, eye + half)
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
    return exp(torch.linalg.solve(trace * eye - 0.5 * (A + A.mT), axis[..., None])[..., 0])
