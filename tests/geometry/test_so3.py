"""SO(3): the axioms of the group and quaternions, over dtypes, batches and singularities."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from gradslam_ng.geometry import so3

TOLERANCE = {torch.float64: 1e-13, torch.float32: 3e-6}
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
batches = pytest.mark.parametrize("batch", [(), (5,), (2, 3)], ids=str)
angles = pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 1.0, math.pi - 1e-3])


def rotation_vectors(batch: tuple[int, ...], angle: float, dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    axes = torch.nn.functional.normalize(torch.randn(*batch, 3, generator=generator, dtype=torch.float64), dim=-1)
    return (angle * axes).to(dtype)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype
    tolerance = TOLERANCE[actual.dtype]
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@dtypes
@batches
@angles
def test_group(dtype, batch, angle):
    w = rotation_vectors(batch, angle, dtype)
    R, S, T = (
        so3.exp(w),
        so3.exp(rotation_vectors(batch, 0.7, dtype, 1)),
        so3.exp(rotation_vectors(batch, 3.0, dtype, 2)),
    )
    eye = torch.eye(3, dtype=dtype).expand(*batch, 3, 3)
    assert_close(R @ R.mT, eye)
    assert_close(torch.linalg.det(R), torch.ones(batch, dtype=dtype))
    assert_close(so3.exp(-w), R.mT)
    assert_close((R @ S) @ T, R @ (S @ T))
    assert_close(so3.log(R), w)
    assert_close(so3.exp(so3.log(R @ S)), R @ S)


@dtypes
@batches
@angles
def test_left_jacobian_inverse_inverts(dtype, batch, angle):
    w = rotation_vectors(batch, angle, dtype)
    eye = torch.eye(3, dtype=dtype).expand(*batch, 3, 3)
    J_inv = so3.left_jacobian_inverse(w)
    assert_close(so3.left_jacobian(w) @ J_inv, eye)
    p = rotation_vectors(batch, 0.9, dtype, 1)
    assert_close(so3.left_jacobian_inverse_times(w, p), (J_inv @ p[..., None])[..., 0])
    assert_close(so3.left_jacobian_inverse_transposed_times(w, p), (J_inv.mT @ p[..., None])[..., 0])


def test_hat_is_the_cross_product():
    a, b = torch.randn(2, 4, 3, dtype=torch.float64)
    assert_close((so3.hat(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b))


@dtypes
@angles
def test_quaternion_equals_scipy(dtype, angle):
    w = rotation_vectors((20,), angle, dtype)
    truth = torch.tensor(Rotation.from_rotvec(w.numpy()).as_quat(canonical=True), dtype=dtype)
    q = so3.to_quaternion(so3.exp(w))
    assert_close(q, truth)
    assert (q[:, 3] >= 0).all()
    assert_close(so3.from_quaternion(truth), so3.exp(w))


def test_quaternion_of_every_half_turn():
    # each takes another row of 4 q q^T
    for axis in torch.eye(3, dtype=torch.float64):
        q = so3.to_quaternion(2 * torch.outer(axis, axis) - torch.eye(3, dtype=torch.float64))
        assert_close(q.abs(), torch.cat([axis, torch.zeros(1, dtype=torch.float64)]))


def test_quaternion_of_any_length():
    q = torch.tensor([0.1, -0.5, 0.3, 0.8], dtype=torch.float64)
    assert_close(so3.from_quaternion(-7.0 * q), so3.from_quaternion(q / q.norm()))


def test_zero_quaternion_is_no_rotation_with_finite_gradient():
    q = torch.zeros(4, requires_grad=True)
    R = so3.from_quaternion(q)
    torch.testing.assert_close(R, torch.eye(3))
    R.sum().backward()
    assert q.grad.isfinite().all()


def test_logarithm_of_an_exact_half_turn_has_a_finite_gradient():
    R = torch.diag(torch.tensor([1.0, -1.0, -1.0])).requires_grad_()
    w = so3.log(R)
    torch.testing.assert_close(w.abs(), torch.tensor([math.pi, 0.0, 0.0]))
    w.sum().backward()
    assert R.grad.isfinite().all()


@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi])
def test_gradients_of_second_order(angle):
    w = rotation_vectors((), angle, torch.float64).requires_grad_()
    for function in (so3.exp, so3.left_jacobian, so3.left_jacobian_inverse):
        assert torch.autograd.gradgradcheck(function, w)


WITHOUT_A_BASIS = {  # of singular vectors of their own, since singular values are equal
    "identity": torch.eye(3),
    "rotation": so3.exp(torch.tensor([0.3, -0.5, 0.2])),
    "two alike": torch.diag(torch.tensor([2.0, 2.0, 1.0])),
    "a plane": torch.diag(torch.tensor([2.0, 1.0, 0.0])),
    "mirrored": torch.diag(torch.tensor([3.0, 2.0, -1.0])),
    "two dimensions": torch.eye(2),
    "any": torch.tensor([[0.9, 0.2, -0.4], [0.1, 1.3, 0.3], [0.5, -0.2, 0.7]]),
}


@pytest.mark.parametrize("M", WITHOUT_A_BASIS.values(), ids=WITHOUT_A_BASIS)
def test_derivatives_of_the_nearest_rotation(M):
    """To second order, in reverse and forward mode, one by one and in a batch, as of the value without gradients."""
    M = M.double()
    leaf = M.clone().requires_grad_()
    R = so3.nearest_rotation(leaf)
    torch.testing.assert_close(R, so3.nearest_rotation(M), rtol=0, atol=1e-14)
    torch.testing.assert_close(R @ R.mT, torch.eye(len(M), dtype=torch.float64), rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(so3.nearest_rotation, (leaf,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(so3.nearest_rotation, (leaf,))
    batch = torch.stack([M, 1.5 * M])
    jacobians = torch.func.vmap(torch.func.jacrev(so3.nearest_rotation))(batch)
    torch.testing.assert_close(jacobians[0], torch.func.jacfwd(so3.nearest_rotation)(M), rtol=0, atol=1e-10)


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (2.0, 1.0, -1.0)])
def test_a_nearest_rotation_that_is_not_the_only_one_has_no_gradient(values):
    M = torch.diag(torch.tensor(values)).requires_grad_()
    so3.nearest_rotation(M).sum().backward()
    assert not M.grad.any()


def test_length_of_nothing_has_derivatives_of_zero():
    v = torch.tensor([[0.0, 0, 0], [3, 0, 4]], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(so3.length(v).sum(), v, create_graph=True)
    assert so3.length(v).tolist() == [0, 5] and not grad[0].any()
    torch.testing.assert_close(grad[1], 0.2 * v[1].detach())
    assert torch.autograd.grad(grad.square().sum(), v)[0].isfinite().all()
