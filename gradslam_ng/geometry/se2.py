"""Rigid motions of the plane: SE(2) as 3x3 matrices, tangent xi = [x, y, theta], left update T <- exp(xi) @ T.

SE(3) with z, roll and pitch left out, so the same conventions and coefficients hold.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.geometry import so3


def matrix(x: Tensor, y: Tensor, theta: Tensor) -> Tensor:
    """T (..., 3, 3) of a position, meters, and a heading, radians, each (...)."""
    c, s, zero, one = theta.cos(), theta.sin(), torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([c, -s, x, s, c, y, zero, zero, one], dim=-1).unflatten(-1, (3, 3))


def components(
    T: Tensor,  # (..., 3, 3)
) -> Tensor:
    """Position and heading [x, y, theta] (..., 3) of T (..., 3, 3)."""
    return torch.cat([T[..., :2, 2], heading(T)[..., None]], dim=-1)


def heading(
    T: Tensor,  # (..., 3, 3)
) -> Tensor:
    """Radians in (-pi, pi]. T (..., 3, 3) or its rotation (..., 2, 2), returns (...)."""
    return torch.atan2(T[..., 1, 0], T[..., 0, 0])


def _turn(
    a: Tensor,  # (...)
    b: Tensor,  # (...)
    v: Tensor,  # (..., 2)
) -> Tensor:
    """[[a, -b], [b, a]] v (..., 2)."""
    return torch.stack([a * v[..., 0] - b * v[..., 1], b * v[..., 0] + a * v[..., 1]], dim=-1)


def exp(
    xi: Tensor,  # (..., 3), meters and radians
) -> Tensor:
    """Rigid motion of a twist. Returns T (..., 3, 3).

    Raises:
        ValueError: other than three numbers a twist.
    """
    if xi.shape[-1:] != (3,):
        raise ValueError(f"xi: expected shape (..., 3), got {tuple(xi.shape)}")
    theta = xi[..., 2]
    x = theta * theta
    s2, s3 = so3.stumpff(x, 3)
    t = _turn(1.0 - x * s3, theta * s2, xi[..., :2])
    return matrix(t[..., 0], t[..., 1], theta)


def log(
    T: Tensor,  # (..., 3, 3)
) -> Tensor:
    """Twist of a rigid motion, turned by at most pi: exp(log(T)) = T. Returns xi (..., 3)."""
    theta = heading(T)
    x = theta * theta
    s2, s3, s4, _ = so3.stumpff(x, 5)
    rho = _turn(1.0 - x * (s3 - 2.0 * s4) / (2.0 * s2), -0.5 * theta, T[..., :2, 2])
    return torch.cat([rho, theta[..., None]], dim=-1)


def inverse(
    T: Tensor,  # (..., 3, 3)
) -> Tensor:
    """T_ba of T_ab, in closed form. Returns (..., 3, 3)."""
    R_t = T[..., :2, :2].mT
    top = torch.cat([R_t, -R_t @ T[..., :2, 2:]], dim=-1)
    return torch.cat([top, T[..., 2:, :]], dim=-2)


@mode_free
def adjoint(
    T: Tensor,  # (..., 3, 3)
) -> Tensor:
    """Ad with T exp(xi) = exp(Ad xi) T. Returns (..., 3, 3)."""
    x, y = T[..., 0, 2], T[..., 1, 2]
    top = torch.cat([T[..., :2, :2], torch.stack([y, -x], dim=-1)[..., None]], dim=-1)
    return torch.cat([top, T[..., 2:, :]], dim=-2)


def _jacobian(diagonal: Tensor, off: Tensor, linear: Tensor | float, square: Tensor, xi: Tensor) -> Tensor:
    """[[diagonal, -off, u], [off, diagonal, v], [0, 0, 1]], with u, v the coupling of `se3`."""
    x, y, theta = xi.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    u, v = linear * y + square * theta * x, square * theta * y - linear * x
    rows = [diagonal, -off, u, off, diagonal, v, zero, zero, one]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def left_jacobian(
    xi: Tensor,  # (..., 3)
) -> Tensor:
    """J with exp(xi + dxi) = exp(J dxi) exp(xi) to first order. Returns (..., 3, 3)."""
    theta = xi[..., 2]
    s2, s3 = so3.stumpff(theta * theta, 3)
    return _jacobian(1.0 - s3 * theta * theta, s2 * theta, s2, s3, xi)


def left_jacobian_inverse(
    xi: Tensor,  # (..., 3)
) -> Tensor:
    """Inverse of `left_jacobian`; singular at a turn of 2 pi. Returns (..., 3, 3)."""
    theta = xi[..., 2]
    s2, s3, s4, _ = so3.stumpff(theta * theta, 5)
    b = (s3 - 2.0 * s4) / (2.0 * s2)
    return _jacobian(1.0 - b * theta * theta, -0.5 * theta, -0.5, b, xi)


def left_jacobian_inverse_transposed_times(
    xi: Tensor,  # (..., 3)
    p: Tensor,  # (..., 3)
) -> Tensor:
    """The transpose of `left_jacobian_inverse` times p, no matrix written out. Returns (..., 3)."""
    (x, y, theta), (p_x, p_y, p_theta) = xi.unbind(-1), p.unbind(-1)
    s2, s3, s4, _ = so3.stumpff(theta * theta, 5)
    b_theta = (s3 - 2.0 * s4) / (2.0 * s2) * theta
    diagonal = 1.0 - b_theta * theta
    u, v = b_theta * x - 0.5 * y, b_theta * y + 0.5 * x
    q = [diagonal * p_x - 0.5 * theta * p_y, 0.5 * theta * p_x + diagonal * p_y, u * p_x + v * p_y + p_theta]
    return torch.stack(q, dim=-1)
