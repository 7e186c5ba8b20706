"""Rotations: SO(3) exponential, logarithm and left Jacobians, right in value and gradient from 0 to pi.

Everything rests on the entire functions

    S_k(x) = 1/k! - x/(k+2)! + x^2/(k+4)! - ...        with x = theta^2 (Stumpff functions),

S_0 = cos(theta), S_1 = sin(theta)/theta, S_2 = (1 - cos(theta))/theta^2 and so on: no quotient of vanishing terms is left,
so neither values nor gradients of any order lose digits near zero. Branches are `torch.where` on safe inputs, hence all
functions run under vmap, jacrev, jacfwd and torch.compile.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SERIES_BELOW = 0.5  # radians squared: under it the power series, above it sine and cosine
_SERIES_TERMS = 8  # the first term left out is 0.5^8 / 18! relative to 1 / 2!: below double precision


def stumpff(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """S_k and S_{k+1} of the squared angle x (...), radians squared, x >= 0."""
    small = x < _SERIES_BELOW
    x_small = torch.where(small, x, 0.0)
    x_large = torch.where(small, 1.0, x)
    theta = x_large.sqrt()
    closed = [theta.cos(), theta.sin() / theta]
    result = []
    for j in (k, k + 1):
        value = closed[j % 2]
        for i in range(j % 2, j, 2):  # S_{i+2} = (1/i! - S_i) / x
            value = (1.0 / math.factorial(i) - value) / x_large
        series = torch.zeros_like(x)
        for n in reversed(range(_SERIES_TERMS)):
            series = series * x_small + (-1.0) ** n / math.factorial(2 * n + j)
        result.append(torch.where(small, series, value))
    return result[0], result[1]


def hat(w: Tensor) -> Tensor:
    """The matrix of the cross product: hat(w) @ v = w x v. w (..., 3), returns (..., 3, 3)."""
    x, y, z = w.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def quadratic(w: Tensor, a: Tensor | float, b: Tensor) -> Tensor:
    """I + a hat(w) + b hat(w)^2. w (..., 3), a and b (...), returns (..., 3, 3)."""
    W = hat(w)
    eye = torch.eye(3, dtype=w.dtype, device=w.device)
    W2 = w[..., :, None] * w[..., None, :] - (w * w).sum(-1)[..., None, None] * eye
    a = a[..., None, None] if isinstance(a, Tensor) else a
    return eye + a * W + b[..., None, None] * W2


def exp(w: Tensor) -> Tensor:
    """Rotation by |w| radians about w (Rodrigues). w (..., 3), returns R (..., 3, 3)."""
    x = (w * w).sum(-1)
    s2, s3 = stumpff(x, 2)
    return quadratic(w, 1.0 - x * s3, s2)


def left_jacobian(w: Tensor) -> Tensor:
    """J with exp(w + dw) = exp(J dw) exp(w) to first order. w (..., 3), returns (..., 3, 3)."""
    return quadratic(w, *stumpff((w * w).sum(-1), 2))


def left_jacobian_inverse(w: Tensor) -> Tensor:
    """Inverse of `left_jacobian`; singular at |w| = 2 pi. w (..., 3), returns (..., 3, 3)."""
    x = (w * w).sum(-1)
    s4, s5 = stumpff(x, 4)
    s2, s3 = 0.5 - x * s4, 1.0 / 6.0 - x * s5
    return quadratic(w, -0.5, (s3 - 2.0 * s4) / (2.0 * s2))


def to_quaternion(R: Tensor) -> Tensor:
    """Unit quaternion, ordered x y z w, w >= 0 (Shepperd 1978). R (..., 3, 3), returns (..., 4)."""
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = R.flatten(-2).unbind(-1)
    # 4 q q^T: every row is a multiple of q; the one with the largest diagonal is taken, so it never vanishes
    rows = torch.stack([
        torch.stack([1 + r00 - r11 - r22, r01 + r10, r02 + r20, r21 - r12], -1),
        torch.stack([r01 + r10, 1 - r00 + r11 - r22, r12 + r21, r02 - r20], -1),
        torch.stack([r02 + r20, r12 + r21, 1 - r00 - r11 + r22, r10 - r01], -1),
        torch.stack([r21 - r12, r02 - r20, r10 - r01, 1 + r00 + r11 + r22], -1),
    ], -2)
    best = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    q = rows.take_along_dim(best[..., None, None].expand(*best.shape, 1, 4), dim=-2).squeeze(-2)
    q = torch.where(q[..., 3:] < 0, -q, q)
    return q / torch.linalg.vector_norm(q, dim=-1, keepdim=True)


def log(R: Tensor) -> Tensor:
    """Rotation vector of length at most pi: exp(log(R)) = R. R (..., 3, 3), returns (..., 3), radians."""
    v, w = to_quaternion(R).split((3, 1), dim=-1)
    x = (v * v).sum(-1, keepdim=True)
    small = x < 1e-3
    y = torch.where(small, x / (w * w), 0.0)  # tan^2(theta / 2)
    series = 2.0 / w.clamp(min=0.5) * (1 - y * (1 / 3 - y * (1 / 5 - y * (1 / 7 - y * (1 / 9 - y * (1 / 11))))))
    s = torch.where(small, 1.0, x).sqrt()
    return v * torch.where(small, series, 2.0 * torch.atan2(s, w) / s)


def from_quaternion(q_xyzw: Tensor) -> Tensor:
    """Rotation of a quaternion of any length but zero, which gives the identity. q_xyzw (..., 4), returns (..., 3, 3)."""
    v, w = q_xyzw.split((3, 1), dim=-1)
    square = (q_xyzw * q_xyzw).sum(-1)
    scale = 2.0 / torch.where(square > 0, square, 1.0)
    return quadratic(v, scale * w[..., 0], scale)
