"""SE(3): the axioms of the group, kornia as an oracle, and the transforms of PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
from kornia.geometry.liegroup import Se3
from scipy.spatial.transform import Rotation
from torch import Tensor

from gradslam_ng.geometry import se2, se3, so3

TOLERANCE = {torch.float64: 1e-13, torch.float32: 5e-6}
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
batches = pytest.mark.parametrize("batch", [(), (5,), (2, 3)], ids=str)
angles = pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 1.0, math.pi - 1e-3])


def twists(batch: tuple[int, ...], angle: float, dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rho, axes = torch.randn(2, *batch, 3, generator=generator, dtype=torch.float64)
    return torch.cat([rho, angle * torch.nn.functional.normalize(axes, dim=-1)], dim=-1).to(dtype)


def apply(A: Tensor, x: Tensor) -> Tensor:
    return (A @ x[..., None])[..., 0]


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype
    tolerance = TOLERANCE[actual.dtype]
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@dtypes
@batches
@angles
def test_group(dtype, batch, angle):
    xi = twists(batch, angle, dtype)
    A, B, C = se3.exp(xi), se3.exp(twists(batch, 0.7, dtype, 1)), se3.exp(twists(batch, 3.0, dtype, 2))
    eye = torch.eye(4, dtype=dtype).expand(*batch, 4, 4)
    assert_close(A @ eye, A)
    assert_close(A @ se3.inverse(A), eye)
    assert_close(se3.inverse(A) @ A, eye)
    assert_close(se3.exp(-xi), se3.inverse(A))
    assert_close((A @ B) @ C, A @ (B @ C))
    assert_close(se3.log(A), xi)
    assert_close(se3.exp(se3.log(A @ B)), A @ B)
    assert se3.is_rigid(A @ B, tol=TOLERANCE[dtype]).all()


@dtypes
@batches
@angles
def test_adjoint_moves_a_twist_through_a_motion(dtype, batch, angle):
    T, xi = se3.exp(twists(batch, angle, dtype)), twists(batch, 0.9, dtype, 1)
    assert_close(apply(se3.adjoint(T), xi), se3.log(T @ se3.exp(xi) @ se3.inverse(T)))


@dtypes
@batches
@angles
def test_left_jacobian(dtype, batch, angle):
    xi = twists(batch, angle, dtype)
    J, J_inv = se3.left_jacobian(xi), se3.left_jacobian_inverse(xi)
    assert_close(J @ J_inv, torch.eye(6, dtype=dtype).expand(*batch, 6, 6))
    p = twists(batch, 0.9, dtype, 1)
    assert_close(se3.left_jacobian_inverse_transposed_times(xi, p), apply(J_inv.mT, p))
    assert_close(apply(J, xi), xi)  # moving along itself, a twist stays what it is
    assert_close(se3.left_jacobian(-xi), se3.adjoint(se3.exp(-xi)) @ J)


@angles
def test_equals_kornia(angle):
    xi = twists((4,), angle, torch.float64)
    weights = torch.randn(4, 4, 4, dtype=torch.float64)
    gradients = []
    for exp in (se3.exp, lambda xi: Se3.exp(xi).matrix()):
        leaf = xi.clone().requires_grad_()
        (exp(leaf) * weights).sum().backward()
        gradients.append(leaf.grad)
    T = Se3.exp(xi)
    torch.testing.assert_close(se3.exp(xi), T.matrix(), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-9)
    torch.testing.assert_close(se3.log(T.matrix()), T.log(), rtol=0, atol=1e-9)
    torch.testing.assert_close(se3.adjoint(T.matrix()), T.adjoint(), rtol=0, atol=1e-12)


def test_transform_and_rotate_broadcast_over_batches():
    T, p = se3.exp(twists((2, 1), 1.0, torch.float64)), torch.randn(3, 7, 3, dtype=torch.float64)
    homogeneous = torch.cat([p, torch.ones(3, 7, 1, dtype=torch.float64)], dim=-1)
    assert_close(se3.transform(T, p), torch.einsum("bmij,lnj->blni", T, homogeneous)[..., :3])
    assert_close(se3.rotate(T, p), torch.einsum("bmij,lnj->blni", T[..., :3, :3], p))
    assert_close(se3.transform(se3.inverse(T), se3.transform(T, p)), p.expand(2, 3, 7, 3))


def test_quaternions_are_ordered_x_y_z_w():
    T = se3.from_quaternion(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 0.0, math.sin(0.25), math.cos(0.25)]))
    truth = torch.eye(4)
    truth[:3, :3] = torch.tensor(Rotation.from_rotvec([0, 0, 0.5]).as_matrix())
    truth[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(T, truth)


@dtypes
@batches
@angles
def test_quaternion_round_trip(dtype, batch, angle):
    T = se3.exp(twists(batch, angle, dtype))
    assert_close(se3.from_quaternion(*se3.to_quaternion(T)), T)


@pytest.mark.parametrize(("group", "count"), [(se3, 5), (so3, 4), (se2, 6)])
def test_twists_of_another_length_are_refused(group, count):
    with pytest.raises(ValueError, match=rf"expected shape .*, got \(2, {count}\)"):
        group.exp(torch.zeros(2, count))


def test_is_rigid_names_each_defect():
    T = se3.exp(twists((7,), 1.0, torch.float64))
    T[1, :3, :3] *= 1.001
    T[2, :3, 0] *= -1
    T[3, 3, 0] = 0.1
    T[4, 0, 3] = torch.nan
    T[5, 1, 1] = torch.nan
    T[6, :3, :3] = 0
    assert se3.is_rigid(T).tolist() == [True, False, False, False, False, False, False]
    assert se3.is_rigid(T, tol=0.01).tolist()[:2] == [True, True]


def test_interpolate_moves_at_constant_twist():
    T_0, T_1 = se3.exp(twists((3,), 2.0, torch.float64)), se3.exp(twists((3,), 0.5, torch.float64, 1))
    s = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    T = se3.interpolate(T_0, T_1, s)
    assert_close(T[0], T_0[0])
    assert_close(T[2], T_1[2])
    step = se3.log(T_1[1] @ se3.inverse(T_0[1]))
    assert_close(se3.log(T[1] @ se3.inverse(T_0[1])), 0.25 * step)


def test_renormalize_brings_a_drifted_pose_back():
    T = se3.exp(twists((4,), 1.0, torch.float64))
    drifted = T.clone()
    drifted[:, :3, :3] += 1e-6 * torch.randn(4, 3, 3, dtype=torch.float64)
    assert not se3.is_rigid(drifted, tol=1e-8).any()
    assert se3.is_rigid(se3.renormalize(drifted), tol=1e-10).all()
    torch.testing.assert_close(se3.renormalize(drifted), T, rtol=0, atol=1e-5)


def everything(xi: Tensor) -> tuple[Tensor, ...]:
    T = se3.exp(xi)
    return (
        T,
        se3.log(T),
        se3.inverse(T),
        se3.adjoint(T),
        se3.left_jacobian(xi),
        se3.left_jacobian_inverse(xi),
        se3.from_quaternion(*se3.to_quaternion(T)),
        se3.interpolate(T, se3.inverse(T), 0.5 * xi[..., 0]),
    )


@pytest.mark.parametrize("angle", [0.0, 1.0, 3.0])
def test_transforms_of_pytorch_agree(angle):
    xi = twists((3,), angle, torch.float64)
    for batched, mapped in zip(everything(xi), torch.vmap(everything)(xi), strict=True):
        torch.testing.assert_close(batched, mapped, rtol=0, atol=1e-14)
    reverse, forward = torch.vmap(torch.func.jacrev(everything))(xi), torch.vmap(torch.func.jacfwd(everything))(xi)
    for J_reverse, J_forward in zip(reverse, forward, strict=True):
        torch.testing.assert_close(J_reverse, J_forward, rtol=0, atol=1e-13)


def test_compiles_into_one_graph():
    xi = twists((3,), 1.0, torch.float64)
    traced = torch.compile(everything, backend="eager", fullgraph=True)(xi)
    for value, twin in zip(everything(xi), traced, strict=True):
        torch.testing.assert_close(value, twin, rtol=0, atol=1e-14)


def test_compiled_gradients_are_the_plain_ones():
    xi = twists((3,), 1.0, torch.float64).requires_grad_()

    def there_and_back(xi: Tensor) -> Tensor:
        return se3.log(se3.exp(0.5 * xi)).square().sum()

    compiled = torch.compile(there_and_back, backend="aot_eager", fullgraph=True)
    gradients = [torch.autograd.grad(function(xi), xi)[0] for function in (there_and_back, compiled)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)


@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi])
def test_gradients_of_second_order(angle):
    xi = twists((), angle, torch.float64).requires_grad_()
    for function in (se3.exp, se3.left_jacobian):
        assert torch.autograd.gradgradcheck(function, xi)


def test_poses_of_the_world_move_single_precision_points_in_double():
    T = se3.exp(torch.tensor([4.5e5, 5.4e6, 100.0, 0.1, -0.2, 0.3], dtype=torch.float64))
    p = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    for function in (se3.transform, se3.rotate):
        assert torch.equal(function(T, p), function(T, p.double()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distance_of_poses_that_are_nearly_or_quite_the_same(dtype):
    """Also in single precision, whose cosine knows no angle below 3e-4, and with a gradient."""
    for angle in (1e-1, 1e-4, 1e-6, 0.0, math.pi):
        xi = torch.tensor([0, 2 * angle, 0, 0, angle, 0], dtype=dtype, requires_grad=True)
        upper = torch.cat([so3.exp(xi[3:]), xi[:3, None]], dim=-1)
        meters, radians = se3.distance(torch.eye(4, dtype=dtype), torch.cat([upper, torch.eye(4, dtype=dtype)[3:]]))
        tolerance = 1e-7 if dtype == torch.float32 else 1e-14
        assert float(meters) == pytest.approx(2 * angle, rel=1e-6, abs=tolerance)
        assert float(radians) == pytest.approx(angle, rel=1e-5, abs=tolerance)
        (meters + radians).backward()
        assert xi.grad.isfinite().all()
        if 0 < angle < 1:
            torch.testing.assert_close(xi.grad, torch.tensor([0, 1, 0, 0, 1, 0], dtype=dtype), rtol=1e-3, atol=1e-3)
