from __future__ import annotations

import pytest
import torch

from gradslam_ng.optim.linear import conjugate_gradients, factor, pseudo_inverse


def random_equations(*batch: int, rank: int = 8, n: int = 6, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(*batch, rank, n, generator=generator, dtype=torch.float64)
    r = torch.randn(*batch, rank, 1, generator=generator, dtype=torch.float64)
    return (J.mT @ J).to(dtype), (J.mT @ r)[..., 0].to(dtype)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_solves_regular_equations(batch, dtype, tolerance):
    H, b = random_equations(*batch, rank=20, dtype=dtype)
    x = factor(H).solve(b)
    assert x.dtype == dtype
    torch.testing.assert_close((H @ x[..., None])[..., 0], b, rtol=tolerance, atol=tolerance)


def test_damping_is_relative_to_the_diagonal():
    H, b = random_equations(4)
    damping = torch.tensor([0.0, 0.1, 1.0, 10.0], dtype=H.dtype)
    solver = factor(H, damping)
    x = solver.solve(b)
    damped = H + damping[:, None, None] * torch.diag_embed(H.diagonal(dim1=-2, dim2=-1))
    torch.testing.assert_close((damped @ x[..., None])[..., 0], b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(solver.norm2(x), (x * H.diagonal(dim1=-2, dim2=-1) * x).sum(-1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scale_of_cost_and_units_do_not_matter(dtype):
    H, b = random_equations(3, rank=20, dtype=dtype)
    x = factor(H, 0.5).solve(b)
    units = torch.tensor([0.2, 1.0, 5.0, 1.0, 0.2, 2.0], dtype=dtype)
    scaled = factor(1e8 * units[:, None] * H * units, 0.5).solve(1e8 * units * b)
    torch.testing.assert_close(scaled * units, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_direction_that_only_rounding_observes_hardly_moves(dtype):
    # a wall seen head on: normals along z but for rounding, noise of 1 cm in the distances
    generator = torch.Generator().manual_seed(0)
    normals = torch.zeros(5000, 3, dtype=dtype)
    normals[:, 2] = 1.0
    normals[:, :2] = torch.finfo(dtype).eps * torch.randn(5000, 2, generator=generator, dtype=dtype)
    r = 0.01 * torch.randn(5000, 1, generator=generator, dtype=dtype)
    x = factor(normals.mT @ normals).solve((normals.mT @ r)[:, 0])
    assert x.abs().max() < 0.1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rank", [0, 1, 3, 5])
def test_rank_deficient_equations_have_finite_value_and_gradient(dtype, rank):
    H, b = random_equations(50, rank=rank, dtype=dtype)
    H, b = H.requires_grad_(), b.requires_grad_()
    x = factor(H).solve(b)
    x.square().sum().backward()
    assert x.isfinite().all() and H.grad.isfinite().all() and b.grad.isfinite().all()
    residual = (H @ x[..., None])[..., 0] - b
    assert residual.abs().max() <= 1e-3 * b.abs().max()


def test_a_direction_that_nothing_observes_does_not_move():
    H, b = random_equations(dtype=torch.float32, rank=20)
    H[2, :], H[:, 2], b[2] = 0.0, 0.0, 0.0
    x = factor(H).solve(b)
    assert x[2] == 0
    keep = [0, 1, 3, 4, 5]
    torch.testing.assert_close(x[keep], torch.linalg.solve(H[keep][:, keep], b[keep]), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rounding_below_zero_is_survived(dtype):
    ones = torch.ones(6, 6, dtype=dtype)
    H = ones - 1e3 * torch.finfo(dtype).eps * torch.eye(6, dtype=dtype)  # slightly indefinite
    H.requires_grad_()
    x = factor(H).solve(torch.ones(6, dtype=dtype))
    x.sum().backward()
    assert x.isfinite().all() and H.grad.isfinite().all()
    assert abs(x.sum() - 1) < 0.1


def test_gradient_of_the_solution():
    H, b = random_equations(2)
    damping = torch.tensor([0.1, 0.3], dtype=H.dtype, requires_grad=True)

    def solve(H, b, damping):
        return factor(0.5 * (H + H.mT), damping).solve(b)

    assert torch.autograd.gradcheck(solve, (H.requires_grad_(), b.requires_grad_(), damping))


def test_pseudo_inverse_inverts_what_is_observed():
    full, _ = random_equations(3)
    torch.testing.assert_close(pseudo_inverse(full) @ full, torch.eye(6, dtype=full.dtype).expand(3, 6, 6))
    flat, _ = random_equations(3, rank=4)
    inverse = pseudo_inverse(flat)
    torch.testing.assert_close(flat @ inverse @ flat, flat, rtol=1e-9, atol=1e-9)
    assert (torch.linalg.matrix_rank(inverse) == 4).all()
    assert (pseudo_inverse(torch.zeros_like(flat)) == 0).all()


def apply(A, v):
    return (A @ v[..., None])[..., 0]


def test_conjugate_gradients_solve_each_element():
    A, b = random_equations(5, rank=20)
    near, _ = random_equations(5, rank=20)
    preconditioner = torch.linalg.inv(near + torch.eye(6, dtype=A.dtype))
    u = conjugate_gradients(lambda v: apply(A, v), b, lambda v: apply(preconditioner, v), iterations=20)
    torch.testing.assert_close(u, torch.linalg.solve(A, b), rtol=1e-8, atol=1e-8)


def test_conjugate_gradients_fall_back_where_curvature_is_negative():
    A, b = random_equations(2, rank=20)
    preconditioner = torch.linalg.inv(A)
    sign = torch.tensor([1.0, -1.0], dtype=A.dtype)[:, None]
    u = conjugate_gradients(lambda v: sign * apply(A, v), b, lambda v: apply(preconditioner, v), iterations=12)
    torch.testing.assert_close(u, (preconditioner @ b[..., None])[..., 0])
