"""exp, log and the left Jacobians of SO(3) and SE(3) against 80 digits, in value and gradient, from zero to past pi."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gradslam_ng.geometry import se3, so3

TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6}
# 0.0632: where the logarithm leaves its series; 1.4142: where the coefficients leave theirs
ANGLES = [0.0, 1e-30, 1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 0.0632, 0.0633, 0.5, 1.4142, 1.4143, 2.5]
NEAR_PI = [math.pi - 1e-4, math.pi - 1e-9, math.pi]
UP_TO_PI = [(angle, "skew") for angle in ANGLES + NEAR_PI] + [(angle, "x") for angle in [0.5, *NEAR_PI]]
AXES = {"skew": [0.5, -0.7, 0.51], "x": [1.0, 0.0, 0.0]}

up_to_pi = pytest.mark.parametrize(("angle", "axis"), UP_TO_PI)
beyond_pi = pytest.mark.parametrize(("angle", "axis"), [*UP_TO_PI, (3.5, "skew")])
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def twist(angle: float, axis: str, dtype: torch.dtype) -> Tensor:
    """A twist that turns by `angle`, or by the largest representable angle below it if rounding would exceed pi."""
    w = angle * torch.nn.functional.normalize(torch.tensor(AXES[axis], dtype=torch.float64), dim=0)
    w = (w if angle in NEAR_PI else w.float()).to(dtype)  # elsewhere both precisions share one reference
    while angle <= math.pi < w.double().norm():
        w = w * (1 - torch.finfo(dtype).eps)
    return torch.cat([torch.tensor([0.5, -1.25, 0.75], dtype=dtype), w])


def key(xi: Tensor) -> tuple[float, ...]:
    return tuple(xi.double().tolist())


def assert_right(actual: Tensor, expected: np.ndarray) -> None:
    """Equal to the dtype's tolerance, relative to the largest entry."""
    error = np.abs(actual.detach().double().numpy() - expected).max()
    assert error <= TOLERANCE[actual.dtype] * np.abs(expected).max()


@beyond_pi
@dtypes
def test_se3_exp(angle, axis, dtype, reference):
    xi = twist(angle, axis, dtype)
    truth = reference(key(xi))
    assert_right(se3.exp(xi), truth.exp)
    assert_right(torch.func.jacrev(se3.exp)(xi), truth.exp_gradient)


@beyond_pi
@dtypes
def test_se3_left_jacobian(angle, axis, dtype, reference):
    xi = twist(angle, axis, dtype)
    truth = reference(key(xi))
    assert_right(se3.left_jacobian(xi), truth.left_jacobian)
    assert_right(torch.func.jacrev(se3.left_jacobian)(xi), truth.left_jacobian_gradient)
    assert_right(se3.left_jacobian_inverse(xi), truth.left_jacobian_inverse)
    assert_right(torch.func.jacrev(se3.left_jacobian_inverse)(xi), truth.left_jacobian_inverse_gradient)


@beyond_pi
@dtypes
def test_so3_exp_and_left_jacobian(angle, axis, dtype, reference):
    xi = twist(angle, axis, dtype)
    truth = reference(key(xi))
    w = xi[3:]
    for function, value, gradient in [
        (so3.exp, truth.exp, truth.exp_gradient),
        (so3.left_jacobian, truth.left_jacobian, truth.left_jacobian_gradient),
        (so3.left_jacobian_inverse, truth.left_jacobian_inverse, truth.left_jacobian_inverse_gradient),
    ]:
        assert_right(function(w), value[:3, :3])
        assert_right(torch.func.jacrev(function)(w), gradient[:3, :3, 3:])


@up_to_pi
@dtypes
def test_logarithms(angle, axis, dtype, reference, antipode):
    xi = twist(angle, axis, dtype)
    T = torch.tensor(reference(key(xi)).exp, dtype=dtype)
    truth = key(xi)
    if se3.log(T)[3:] @ xi[3:] < 0:  # rounded across the half turn, where the other way round is as good
        truth = antipode(truth)
        assert math.pi - angle < 10 * torch.finfo(dtype).eps
    assert_right(se3.log(T), np.array(truth))
    assert_right(so3.log(T[:3, :3]), np.array(truth[3:]))

    # d log(exp(d) T) / dd at d = 0: the same whichever way log is extended to matrices that are not rigid
    def perturbed(d: Tensor) -> Tensor:
        D = torch.cat([torch.cat([so3.hat(d[3:]), d[:3, None]], dim=1), torch.zeros(1, 4, dtype=dtype)])
        return T + D @ T

    zero = torch.zeros(6, dtype=dtype)
    J_inv = reference(truth).left_jacobian_inverse
    assert_right(torch.func.jacrev(lambda d: se3.log(perturbed(d)))(zero), J_inv)
    assert_right(torch.func.jacrev(lambda d: so3.log(perturbed(d)[:3, :3]))(zero)[:, 3:], J_inv[3:, 3:])
