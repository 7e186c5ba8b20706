"""Rigid motions: SE(3) as 4x4 matrices, tangent xi = [translation, rotation], left update T <- exp(xi) @ T.

The same order as Sophus and kornia. Formulas after Barfoot, State Estimation for Robotics, 2017, chapter 7, with the
coefficients of `so3`, so values and gradients hold from zero motion to half turns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.geometry import so3

XYZ = tuple[Tensor, Tensor, Tensor]  # vectors as arrays of their components


def _matrix(
    R: Tensor,  # (..., 3, 3)
    t: Tensor,  # (..., 3)
) -> Tensor:
    """T (..., 4, 4) of R (..., 3, 3) and t (..., 3)."""
    top = torch.cat([R, t[..., None]], dim=-1)
    bottom = torch.eye(4, dtype=R.dtype, device=R.device)[3:].expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def exp(
    xi: Tensor,  # (..., 6), meters and radians
) -> Tensor:
    """Rigid motion of a twist. Returns T (..., 4, 4).

    Raises:
        ValueError: other than six numbers a twist.
    """
    if xi.shape[-1:] != (6,):
        raise ValueError(f"xi: expected shape (..., 6), got {tuple(xi.shape)}")
    rho, w = xi.split(3, dim=-1)
    x = (w * w).sum(-1)
    s2, s3 = so3.stumpff(x, 3)
    R = so3.quadratic(w, 1.0 - x * s3, s2)
    w_rho = torch.linalg.cross(w, rho)
    t = rho + s2[..., None] * w_rho + s3[..., None] * torch.linalg.cross(w, w_rho)
    return _matrix(R, t)


def log(
    T: Tensor,  # (..., 4, 4)
) -> Tensor:
    """Twist of a rigid motion, rotation at most pi: exp(log(T)) = T. Returns xi (..., 6)."""
    w = so3.log(T[..., :3, :3])
    rho = so3.left_jacobian_inverse_times(w, T[..., :3, 3])
    return torch.cat([rho, w], dim=-1)


@mode_free
def inverse(
    T: Tensor,  # (..., 4, 4)
) -> Tensor:
    """T_ba of T_ab, in closed form. Returns (..., 4, 4)."""
    R_t = T[..., :3, :3].mT
    return _matrix(R_t, -(R_t @ T[..., :3, 3:])[..., 0])


@mode_free
def transform(
    T_ab: Tensor,  # (..., 4, 4)
    p_b: Tensor,  # (..., N, 3)
) -> Tensor:
    """Points brought from frame b into frame a. Returns p_a (..., N, 3), in the wider of the two precisions."""
    T_ab, p_b = _same_precision(T_ab, p_b)
    return (T_ab[..., :3, :3] @ p_b.mT + T_ab[..., :3, 3:]).mT.contiguous()


def transform_soa(
    T_ab: Tensor,  # (..., 4, 4)
    p_b: XYZ,  # (..., N) each
) -> XYZ:
    """`transform` for points whose x, y and z (..., N) lie apart: compiled, it melts into what is done with them."""
    x, y, z = p_b
    rows = (T_ab[..., i, :, None].unbind(-2) for i in range(3))
    a_x, a_y, a_z = (r_x * x + r_y * y + r_z * z + t for r_x, r_y, r_z, t in rows)
    return a_x, a_y, a_z


@mode_free
def rotate(
    T_ab: Tensor,  # (..., 4, 4)
    v_b: Tensor,  # (..., N, 3)
) -> Tensor:
    """Directions brought from frame b into frame a. Returns v_a (..., N, 3), in the wider of the two precisions."""
    T_ab, v_b = _same_precision(T_ab, v_b)
    return (T_ab[..., :3, :3] @ v_b.mT).mT.contiguous()


def rotate_soa(
    T_ab: Tensor,  # (..., 4, 4)
    v_b: XYZ,  # (..., N) each
) -> XYZ:
    """`rotate` for directions whose x, y and z (..., N) lie apart."""
    x, y, z = v_b
    rows = (T_ab[..., i, :3, None].unbind(-2) for i in range(3))
    a_x, a_y, a_z = (r_x * x + r_y * y + r_z * z for r_x, r_y, r_z in rows)
    return a_x, a_y, a_z


@mode_free
def adjoint(
    T: Tensor,  # (..., 4, 4)
) -> Tensor:
    """Ad with T exp(xi) = exp(Ad xi) T. Returns (..., 6, 6)."""
    R = T[..., :3, :3]
    return _block(R, so3.hat(T[..., :3, 3]) @ R)


def _same_precision(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Poses of the world are float64, what a camera measures is float32: both in the wider type."""
    if a.dtype == b.dtype:
        return a, b
    wider = torch.promote_types(a.dtype, b.dtype)
    return a.to(wider), b.to(wider)


def _block(A: Tensor, B: Tensor) -> Tensor:
    """[[A, B], [0, A]] of 3x3 blocks."""
    return torch.cat([torch.cat([A, B], dim=-1), torch.cat([torch.zeros_like(A), A], dim=-1)], dim=-2)


def _coupling(
    rho: Tensor,  # (..., 3)
    w: Tensor,  # (..., 3)
    linear: Tensor | float,  # (...)
    square: Tensor,  # (...)
    slope: Tensor,  # (...)
) -> Tensor:
    """The coupling block of a Jacobian (Barfoot 7.86) without a product of matrices: the derivative of the rotation's
    linear hat(w) + square hat(w)^2 as w moves along rho, `linear` held fast.

    rho, w (..., 3); linear, square (...), and the derivative of the latter to |w|^2, slope (...).
    """
    eye = torch.eye(3, dtype=w.dtype, device=w.device)
    w_rho, ww = w[..., :, None] * rho[..., None, :], w[..., :, None] * w[..., None, :]
    d, x = (w * rho).sum(-1)[..., None, None], (w * w).sum(-1)[..., None, None]
    linear = linear[..., None, None] if isinstance(linear, Tensor) else linear
    turned = w_rho + w_rho.mT - 2.0 * d * eye  # hat(w) hat(rho) + hat(rho) hat(w)
    bent = 2.0 * d * slope[..., None, None] * (ww - x * eye)
    return linear * so3.hat(rho) + square[..., None, None] * turned + bent


def left_jacobian(
    xi: Tensor,  # (..., 6)
) -> Tensor:
    """J with exp(xi + dxi) = exp(J dxi) exp(xi) to first order. Returns (..., 6, 6)."""
    rho, w = xi.split(3, dim=-1)
    s2, s3, s4, s5 = so3.stumpff((w * w).sum(-1), 5)  # dS_k / d|w|^2 = (k S_{k+2} - S_{k+1}) / 2
    falling = (2.0 * s4 - s3) * (w * rho).sum(-1)
    coupling = _coupling(rho, w, s2, s3, 1.5 * s5 - 0.5 * s4) + falling[..., None, None] * so3.hat(w)
    return _block(so3.quadratic(w, s2, s3), coupling)


def left_jacobian_inverse(
    xi: Tensor,  # (..., 6)
) -> Tensor:
    """Inverse of `left_jacobian`; singular at a rotation of 2 pi. Returns (..., 6, 6)."""
    rho, w = xi.split(3, dim=-1)
    b, slope = _inverse_coefficients(w)
    return _block(so3.quadratic(w, -0.5, b), _coupling(rho, w, -0.5, b, slope))


def _inverse_coefficients(
    w: Tensor,  # (..., 3)
) -> tuple[Tensor, Tensor]:
    """The factor of hat(w)^2 in SO(3)'s `left_jacobian_inverse` and its derivative to |w|^2, both (...). w (..., 3)."""
    s2, s3, s4, s5, s6 = so3.stumpff((w * w).sum(-1), 6)
    top = s3 - 2.0 * s4
    b = top / (2.0 * s2)
    return b, (0.5 * (5.0 * s5 - s4 - 8.0 * s6) + b * top) / (2.0 * s2)


def left_jacobian_inverse_transposed_times(
    xi: Tensor,  # (..., 6)
    p: Tensor,  # (..., 6)
) -> Tensor:
    """The transpose of `left_jacobian_inverse` times p, no matrix written out. Returns (..., 6).

    SO(3)'s, p + hat(w) p / 2 + b hat(w)^2 p, on the one half, and on the other its derivative as w moves along rho and
    the half p_rho along p_w.
    """
    (rho, w), (p_rho, p_w) = xi.split(3, dim=-1), p.split(3, dim=-1)
    b, slope = (c[..., None] for c in _inverse_coefficients(w))
    cross = torch.linalg.cross
    once, d_once = cross(w, p_rho), cross(rho, p_rho) + cross(w, p_w)
    twice, d_twice = cross(w, once), cross(rho, once) + cross(w, d_once)
    d_b = 2.0 * slope * (w * rho).sum(-1, keepdim=True)
    return torch.cat([p_rho + 0.5 * once + b * twice, p_w + 0.5 * d_once + b * d_twice + d_b * twice], dim=-1)


def from_quaternion(
    t: Tensor,  # (..., 3), meters
    q_xyzw: Tensor,  # (..., 4)
) -> Tensor:
    """Pose from a translation and a quaternion of any length but zero, which gives no rotation.

    Returns T (..., 4, 4).
    """
    return _matrix(so3.from_quaternion(q_xyzw), t)


def to_quaternion(
    T: Tensor,  # (..., 4, 4)
) -> tuple[Tensor, Tensor]:
    """Translation (..., 3) and unit quaternion (..., 4), ordered x y z w with w >= 0, of T (..., 4, 4)."""
    return T[..., :3, 3], so3.to_quaternion(T[..., :3, :3])


@mode_free
def is_rigid(
    T: Tensor,  # (..., 4, 4)
    tol: float = 1e-4,
) -> Tensor:
    """Whether T (..., 4, 4) is finite, orthonormal, right-handed and homogeneous within tol. Returns (...), bool."""
    R = T[..., :3, :3]
    eye = torch.eye(4, dtype=T.dtype, device=T.device)
    orthonormal = (R @ R.mT - eye[:3, :3]).abs().amax((-2, -1)) <= tol
    homogeneous = (T[..., 3, :] - eye[3]).abs().amax(-1) <= tol
    right_handed = (torch.linalg.cross(R[..., 0], R[..., 1]) * R[..., 2]).sum(-1) > 0
    return orthonormal & homogeneous & right_handed & T[..., :3, 3].isfinite().all(-1)


@mode_free
def interpolate(
    T_0: Tensor,  # (..., 4, 4)
    T_1: Tensor,  # (..., 4, 4)
    s: Tensor,  # (...)
) -> Tensor:
    """Constant-twist motion from T_0 at s = 0 to T_1 at s = 1. Returns (..., 4, 4)."""
    return exp(s[..., None] * log(T_1 @ inverse(T_0))) @ T_0


@mode_free
def renormalize(
    T: Tensor,  # (..., 4, 4)
) -> Tensor:
    """T (..., 4, 4) with its rotation brought back towards the nearest one, by one Newton-Schulz step.

    Rounding in long products makes a rotation drift; each call squares its distance from orthogonality (Higham 2008,
    equation 8.20).
    """
    R = T[..., :3, :3]
    R = 1.5 * R - 0.5 * R @ (R.mT @ R)
    return torch.cat([torch.cat([R, T[..., :3, 3:]], dim=-1), T[..., 3:, :]], dim=-2)


def distance(
    T_a: Tensor,  # (..., 4, 4)
    T_b: Tensor,  # (..., 4, 4)
) -> tuple[Tensor, Tensor]:
    """Meters and radians (...) between two poses, whose gradients are zero where they are equal."""
    T_ab = inverse(T_a) @ T_b
    return so3.length(T_ab[..., :3, 3]), so3.length(so3.log(T_ab[..., :3, :3]))
