"""SE(2): the axioms of the group, and SE(3) with the plane embedded as an oracle."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gradslam_ng.geometry import se2, se3

angles = pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 1.0, -2.0, math.pi - 1e-3])


def twists(angle: float, seed: int = 0) -> Tensor:
    xi = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.cat([xi[..., :2], torch.full_like(xi[..., 2:], angle)], -1)


def in_space(T: Tensor) -> Tensor:
    """The same motion of space."""
    full = torch.eye(4, dtype=T.dtype).expand(*T.shape[:-2], 4, 4).clone()
    full[..., :2, :2], full[..., :2, 3] = T[..., :2, :2], T[..., :2, 2]
    return full


def to_space(xi: Tensor) -> Tensor:
    zero = torch.zeros_like(xi[..., :1])
    return torch.cat([xi[..., :2], zero, zero, zero, xi[..., 2:]], dim=-1)


def apply(A: Tensor, x: Tensor) -> Tensor:
    return (A @ x[..., None])[..., 0]


@angles
def test_group(angle):
    A, B = se2.exp(twists(angle)), se2.exp(twists(0.7, 1))
    eye = torch.eye(3, dtype=A.dtype).expand_as(A)
    torch.testing.assert_close(A @ se2.inverse(A), eye)
    torch.testing.assert_close(se2.log(A), twists(angle))
    torch.testing.assert_close(se2.exp(-twists(angle)), se2.inverse(A))
    torch.testing.assert_close(se2.exp(se2.log(A @ B)), A @ B)
    torch.testing.assert_close(se2.matrix(*se2.components(A).unbind(-1)), A)


@angles
def test_is_the_plane_of_space(angle):
    T, xi = se2.exp(twists(angle)), twists(0.4, 1)
    torch.testing.assert_close(in_space(T), se3.exp(to_space(twists(angle))))
    torch.testing.assert_close(to_space(se2.log(T)), se3.log(in_space(T)))
    torch.testing.assert_close(apply(se2.adjoint(T), xi), se2.log(T @ se2.exp(xi) @ se2.inverse(T)))


@angles
def test_left_jacobian(angle):
    xi = twists(angle)
    J = se2.left_jacobian(xi)
    J_inv, p = se2.left_jacobian_inverse(xi), twists(0.9, 1)
    torch.testing.assert_close(J @ J_inv, torch.eye(3, dtype=xi.dtype).expand_as(J))
    torch.testing.assert_close(se2.left_jacobian_inverse_transposed_times(xi, p), apply(J_inv.mT, p))
    small = 1e-6 * twists(1.0, 2)
    moved = se2.log(se2.exp(xi + small) @ se2.inverse(se2.exp(xi)))
    torch.testing.assert_close(moved, apply(J, small), rtol=0, atol=1e-10)


def test_gradients_are_finite_at_rest():
    xi = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    se2.log(se2.exp(xi) @ se2.exp(xi)).sum().backward()
    torch.testing.assert_close(xi.grad, torch.full((3,), 2.0, dtype=torch.float64))


@angles
def test_jacobians_are_those_of_space(angle):
    xi, plane = twists(angle), (0, 1, 5)
    for name in ("left_jacobian", "left_jacobian_inverse"):
        J = getattr(se3, name)(to_space(xi))[..., plane, :][..., plane]
        torch.testing.assert_close(getattr(se2, name)(xi), J)
