"""Residuals of factors on one, two or more variables, with their Jacobians to left updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.odometry.point_to_plane import point_to_plane
from gradslam_ng.optim.costs import jacobian_forward
from gradslam_ng.optim.variables import TensorVariable

ResidualFunction = Callable[..., Tensor]


class Residual(ABC):
    """What M factors of one kind measure, with Jacobians.

    A plain function of the variables' values will do where none of what is here is needed: `FactorGraph.add_factor`
    makes it a `DifferentiatedResidual`.
    """

    relative = False
    """The two variables count only by their relative pose, so that a common left update changes nothing: the Jacobian
    to the first is minus that to the second, and only the latter is returned."""

    anchors = False
    """Variables are anchored to the world though there are several, as those of a residual of a single one always are:
    none needs to be fixed."""

    @abstractmethod
    def __call__(self, *x: Tensor) -> Tensor:
        """r (..., M, d) of one tensor (..., M, *event) for each variable."""

    @abstractmethod
    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """r (..., M, d) and its Jacobians (..., M, d, n), one for each variable, the second alone if `relative`."""

    def vjp(self, *x: Tensor) -> tuple[Tensor, Callable[[Tensor], Sequence[Tensor]]]:
        """r (..., M, d), and a function of p (..., M, d) to the products J^T p (..., M, n).

        Vector-Jacobian products may be had without the matrices, with less to differentiate.
        """
        r, J = self.linearize(*x)
        return r, lambda p: [(A.mT @ p[..., None])[..., 0] for A in J]


@dataclass(frozen=True, eq=False)
class DifferentiatedResidual(Residual):
    """A function whose Jacobians come from forward-mode differentiation, one direction at a time."""

    function: ResidualFunction
    variables: tuple[TensorVariable, ...]

    def __call__(self, *x: Tensor) -> Tensor:
        return self.function(*x)

    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        r = self.function(*x)
        return r, [self._jacobian(k, r, x) for k in range(len(x))]

    def _jacobian(
        self,
        k: int,
        r: Tensor,  # (..., M, d)
        x: tuple[Tensor, ...],
    ) -> Tensor:
        """The Jacobian (..., M, d, n) to the k-th variable."""
        variable = self.variables[k]
        zero = r.new_zeros(*r.shape[:-1], variable.dimension(x[k]))
        return jacobian_forward(lambda delta: self.function(*x[:k], variable.retract(x[k], delta), *x[k + 1 :]), zero)


@dataclass(frozen=True, eq=False)
class Prior(Residual):
    """log(x z^-1): how far an element of a group is from z (..., M, *event), in the frame of the world."""

    group: ModuleType
    z: Tensor

    def __call__(self, *x: Tensor) -> Tensor:
        return self.group.log(x[0] @ self.group.inverse(self.z))

    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        r = self(*x)
        return r, (self.group.left_jacobian_inverse(r),)


@dataclass(frozen=True, eq=False)
class Between(Residual):
    """log(z^-1 x_i^-1 x_j): how far the motion from i to j is from z (..., M, *event), in the frame of j.

    For SE(3) the error of g2o files and of GTSAM. exp(d) x_j turns the error e into log(exp(e) exp(Ad(x_j^-1) d)).
    """

    group: ModuleType
    z: Tensor
    relative = True

    def __call__(self, *x: Tensor) -> Tensor:
        x_i, x_j = x
        return self.group.log(self.group.inverse(self.z) @ (self.group.inverse(x_i) @ x_j))

    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        r = self(*x)
        return r, (self.group.left_jacobian_inverse(-r) @ self.group.adjoint(self.group.inverse(x[1])),)

    def vjp(self, *x: Tensor) -> tuple[Tensor, Callable[[Tensor], Sequence[Tensor]]]:
        r = self(*x)

        def transpose(p: Tensor) -> Sequence[Tensor]:
            rotated = self.group.left_jacobian_inverse_transposed_times(-r, p)
            return ((self.group.adjoint(self.group.inverse(x[1])).mT @ rotated[..., None])[..., 0],)

        return r, transpose


@dataclass(frozen=True, eq=False)
class VectorPrior(Residual):
    """x - z of vectors (..., M, n)."""

    z: Tensor

    def __call__(self, *x: Tensor) -> Tensor:
        return x[0] - self.z

    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        r = self(*x)
        return r, (_identity(r),)


@dataclass(frozen=True, eq=False)
class VectorBetween(Residual):
    """x_j - x_i - z of vectors (..., M, n)."""

    z: Tensor
    relative = True

    def __call__(self, *x: Tensor) -> Tensor:
        x_i, x_j = x
        return x_j - x_i - self.z

    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        r = self(*x)
        return r, (_identity(r),)


def _identity(
    r: Tensor,  # (..., M, n)
) -> Tensor:
    """Identity matrices (..., M, n, n)."""
    n = r.shape[-1]
    return torch.eye(n, dtype=r.dtype, device=r.device).expand(*r.shape, n)


@dataclass(frozen=True, eq=False)
class PointToPlane(Residual):
    """n_j . (T_j^-1 T_i p_i - q_j): a point seen from keyframe i and its partner's plane seen from j, meters.

    Chen and Medioni 1991. p_i, q_j, n_j (..., M, 3). Poses of both keyframes T_wi, T_wj (..., M, 4, 4).
    """

    p_i: Tensor
    q_j: Tensor
    n_j: Tensor
    relative = True

    def __call__(self, *x: Tensor) -> Tensor:
        return self.linearize(*x)[0]

    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        T_wi, T_wj = x
        p_w, q_w = (_transform_point(T, point) for T, point in ((T_wi, self.p_i), (T_wj, self.q_j)))
        n_w = se3.rotate(T_wj, self.n_j[..., None, :])[..., 0, :]
        r, J = point_to_plane(p_w, q_w, n_w)
        return r[..., None], (-J[..., None, :],)  # moving T_wj is moving the point the other way


def _transform_point(
    T: Tensor,  # (..., 4, 4)
    p: Tensor,  # (..., 3)
) -> Tensor:
    """One point (..., 3) by each pose."""
    return se3.transform(T, p[..., None, :])[..., 0, :]


@dataclass(frozen=True, eq=False)
class Reprojection:
    """Where a point of the world is seen, less where it was, pixels. uv (..., M, 2), K (3, 3) or (..., M, 3, 3).

    Variables: the camera's pose T_wc (..., M, 4, 4) and the point p_w (..., M, 3). Behind the camera, closer to its
    plane than `nearest` meters, the residual is zero without a gradient.
    """

    uv: Tensor
    K: Tensor
    nearest: float = 0.01

    def __call__(
        self,
        T_wc: Tensor,  # (..., M, 4, 4)
        p_w: Tensor,  # (..., M, 3)
    ) -> Tensor:
        p_c = _transform_point(se3.inverse(T_wc), p_w)
        in_front = p_c[..., 2:] > self.nearest
        p_c = torch.where(in_front, p_c, torch.ones_like(p_c))
        homogeneous = (self.K @ p_c[..., None])[..., 0]
        return torch.where(in_front, homogeneous[..., :2] / homogeneous[..., 2:] - self.uv, 0.0)


@dataclass(frozen=True, eq=False)
class Velocity:
    """log(T_i^-1 T_j) / dt - v: the velocity v (..., M, 6) between two poses dt (..., M) seconds apart, seen from j."""

    dt: Tensor

    def __call__(
        self,
        T_wi: Tensor,  # (..., M, 4, 4)
        T_wj: Tensor,  # (..., M, 4, 4)
        v: Tensor,  # (..., M, 6)
    ) -> Tensor:
        return se3.log(se3.inverse(T_wi) @ T_wj) / self.dt[..., None] - v


@dataclass(frozen=True, eq=False)
class ConstantVelocity:
    """The motion from k to l less that from i to k, of three poses evenly spaced in time."""

    def __call__(
        self,
        T_wi: Tensor,  # (..., M, 4, 4)
        T_wk: Tensor,  # (..., M, 4, 4)
        T_wl: Tensor,  # (..., M, 4, 4)
    ) -> Tensor:
        return se3.log(se3.inverse(T_wk) @ T_wl) - se3.log(se3.inverse(T_wi) @ T_wk)


@dataclass(frozen=True, eq=False)
class Switched:
    """s r(x): a residual that a switch s (..., M, 1), a variable like the others, turns off (Suenderhauf and Protzel
    2012). The switches need a prior at 1, whose weight says what turning off costs."""

    residual: ResidualFunction

    def __call__(self, *x: Tensor) -> Tensor:
        return x[-1] * self.residual(*x[:-1])
