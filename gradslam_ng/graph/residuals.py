"""What factors measure: residuals of one, two or more unknowns, with their Jacobians to left updates.

A residual is called with one tensor (..., M, *event) for each unknown it meets and returns r (..., M, d). One that
has `linearize` gives r and its Jacobians (..., M, d, n) together, the others are differentiated forward. `vjp`
gives their transposes' products with p (..., M, d) straight away, which takes no matrices and less to differentiate.
Where `relative` holds, the two unknowns count only by how they lie to each other, so that a common left update changes
nothing: the Jacobian to the first is minus that to the second, and only the latter is returned. One that `ties` its
unknowns to the world, as those on a single one are taken to do, saves them from being held.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.odometry import point_to_plane


class Residual(Protocol):
    def __call__(self, *x: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Prior:
    """log(x z^-1): how far an element of a group is from z (..., M, *event), in the frame of the world."""

    group: ModuleType
    z: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.group.log(x @ self.group.inverse(self.z))

    def linearize(self, x: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        r = self(x)
        return r, (self.group.left_jacobian_inverse(r),)


@dataclass(frozen=True, eq=False)
class Between:
    """log(z^-1 x_i^-1 x_j): how far the motion from i to j is from z (..., M, *event), in the frame of j.

    For SE(3) the error of g2o files and of GTSAM. exp(d) x_j turns the error e into log(exp(e) exp(Ad(x_j^-1) d)).
    """

    group: ModuleType
    z: Tensor
    relative = True

    def __call__(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return self.group.log(self.group.inverse(self.z) @ (self.group.inverse(x_i) @ x_j))

    def linearize(self, x_i: Tensor, x_j: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        r = self(x_i, x_j)
        return r, (self.group.left_jacobian_inverse(-r) @ self.group.adjoint(self.group.inverse(x_j)),)

    def vjp(self, r: Tensor, p: Tensor, x_i: Tensor, x_j: Tensor) -> tuple[Tensor]:
        turned = self.group.left_jacobian_inverse_transposed_times(-r, p)
        return ((self.group.adjoint(self.group.inverse(x_j)).mT @ turned[..., None])[..., 0],)


@dataclass(frozen=True, eq=False)
class VectorPrior:
    """x - z of vectors (..., M, n)."""

    z: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x - self.z

    def linearize(self, x: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        r = self(x)
        return r, (_identity(r),)


@dataclass(frozen=True, eq=False)
class VectorBetween:
    """x_j - x_i - z of vectors (..., M, n)."""

    z: Tensor
    relative = True

    def __call__(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return x_j - x_i - self.z

    def linearize(self, x_i: Tensor, x_j: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        r = self(x_i, x_j)
        return r, (_identity(r),)


def _identity(r: Tensor) -> Tensor:
    n = r.shape[-1]
    return torch.eye(n, dtype=r.dtype, device=r.device).expand(*r.shape, n)


@dataclass(frozen=True, eq=False)
class PointToPlane:
    """n_j . (T_j^-1 T_i p_i - q_j): a point seen from keyframe i and its partner's plane seen from j, metres.

    Chen and Medioni 1991. p_i, q_j, n_j (..., M, 3). Poses of both keyframes T_wi, T_wj (..., M, 4, 4).
    """

    p_i: Tensor
    q_j: Tensor
    n_j: Tensor
    relative = True

    def __call__(self, T_wi: Tensor, T_wj: Tensor) -> Tensor:
        return self.linearize(T_wi, T_wj)[0]

    def linearize(self, T_wi: Tensor, T_wj: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        p_w, q_w = (_apply(T, point) for T, point in ((T_wi, self.p_i), (T_wj, self.q_j)))
        n_w = se3.rotate(T_wj, self.n_j[..., None, :])[..., 0, :]
        r, J = point_to_plane(p_w, q_w, n_w)
        return r[..., None], (-J[..., None, :],)  # moving T_wj is moving the point the other way


def _apply(T: Tensor, p: Tensor) -> Tensor:
    """One point p (..., 3) each through T (..., 4, 4)."""
    return se3.transform(T, p[..., None, :])[..., 0, :]


@dataclass(frozen=True, eq=False)
class Reprojection:
    """Where a point of the world is seen, less where it was, pixels. uv (..., M, 2), K (3, 3) or (..., M, 3, 3).

    Unknowns: the camera's pose T_wc (..., M, 4, 4) and the point p_w (..., M, 3). Behind the camera, closer to its
    plane than `nearest` metres, the residual is zero without a gradient.
    """

    uv: Tensor
    K: Tensor
    nearest: float = 0.01

    def __call__(self, T_wc: Tensor, p_w: Tensor) -> Tensor:
        p_c = _apply(se3.inverse(T_wc), p_w)
        in_front = p_c[..., 2:] > self.nearest
        p_c = torch.where(in_front, p_c, torch.ones_like(p_c))
        homogeneous = (self.K @ p_c[..., None])[..., 0]
        return torch.where(in_front, homogeneous[..., :2] / homogeneous[..., 2:] - self.uv, 0.0)


@dataclass(frozen=True, eq=False)
class Velocity:
    """log(T_i^-1 T_j) / dt - v: the velocity v (..., M, 6) between two poses dt (..., M) seconds apart, seen from j."""

    dt: Tensor

    def __call__(self, T_wi: Tensor, T_wj: Tensor, v: Tensor) -> Tensor:
        return se3.log(se3.inverse(T_wi) @ T_wj) / self.dt[..., None] - v


@dataclass(frozen=True, eq=False)
class ConstantVelocity:
    """The motion from k to l less that from i to k, of three poses evenly spaced in time."""

    def __call__(self, T_wi: Tensor, T_wk: Tensor, T_wl: Tensor) -> Tensor:
        return se3.log(se3.inverse(T_wk) @ T_wl) - se3.log(se3.inverse(T_wi) @ T_wk)


@dataclass(frozen=True, eq=False)
class Switched:
    """s r(x): a residual that a switch s (..., M, 1), an unknown like the others, turns off (Suenderhauf and Protzel
    2012). The switches need a prior at 1, whose weight says what turning off costs."""

    residual: Residual

    def __call__(self, *x: Tensor) -> Tensor:
        return x[-1] * self.residual(*x[:-1])
