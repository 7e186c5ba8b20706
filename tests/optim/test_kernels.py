from __future__ import annotations

import pytest
import torch

from gradslam_ng.optim import Barron, Cauchy, GemanMcClure, Huber, Tukey

SHAPES = [-1e6, -8.0, -2.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 1.9999, 2.0, 2.5, 4.0]
KERNELS = [Huber, Cauchy, GemanMcClure, Tukey] + [lambda scale, a=a: Barron(scale, a) for a in SHAPES]
S = torch.cat([torch.zeros(1), torch.logspace(-12, 4, 400)]).double()


@pytest.mark.parametrize("kernel", KERNELS)
def test_weight_is_the_derivative_of_rho(kernel):
    s = S.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(kernel(0.7).rho(s).sum(), s)
    torch.testing.assert_close(kernel(0.7).weight(S), derivative, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_is_quadratic_at_zero_and_never_decreases(kernel):
    rho, weight = kernel(0.7).rho(S), kernel(0.7).weight(S)
    assert rho[0] == 0 and abs(weight[0] - 1) < 1e-12
    assert (rho.diff() >= -1e-12 * rho[1:]).all() and (weight >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kernel", KERNELS)
def test_values_and_gradients_are_finite(kernel, dtype):
    s = torch.tensor([0.0, 1e-30, 0.49, 1.0, 1e8], dtype=dtype, requires_grad=True)
    scale = torch.tensor(0.7, dtype=dtype, requires_grad=True)
    total = kernel(scale).rho(s).sum() + kernel(scale).weight(s).sum()
    total.backward()
    assert total.isfinite() and s.grad.isfinite().all() and scale.grad.isfinite()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_to_the_shape_is_finite(shape, dtype):
    shape = torch.tensor(shape, dtype=dtype, requires_grad=True)
    s = torch.tensor([0.0, 1e-30, 0.49, 1.0, 1e8], dtype=dtype)
    (Barron(0.7, shape).rho(s).sum() + Barron(0.7, shape).weight(s).sum()).backward()
    assert shape.grad.isfinite()


@pytest.mark.parametrize("shape", [-8.0, -2.0, -1e-3, 0.0, 1e-3, 0.5, 1.0, 1.9, 2.5])
def test_gradient_to_scale_and_shape(shape):
    s = torch.logspace(-3, 2, 20).double()
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    shape = torch.tensor(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c, a: (Barron(c, a).rho(s), Barron(c, a).weight(s)), (scale, shape))


def test_barron_contains_the_others():
    s = torch.logspace(-3, 2, 30).double()
    c = 0.7
    torch.testing.assert_close(Barron(c, 2.0).rho(s), s, rtol=3e-5, atol=0)
    torch.testing.assert_close(Barron(c, 1.0).rho(s), 2 * c**2 * ((s / c**2 + 1).sqrt() - 1))
    torch.testing.assert_close(Barron(c, 0.0).rho(s), Cauchy(2**0.5 * c).rho(s))
    torch.testing.assert_close(Barron(c, -2.0).rho(s), GemanMcClure(2 * c).rho(s))
    welsch = 2 * c**2 * (1 - torch.exp(-0.5 * s / c**2))
    torch.testing.assert_close(Barron(c, -1e9).rho(s), welsch, rtol=1e-6, atol=1e-9)


def test_landmarks():
    s = torch.tensor([0.25, 1.0, 4.0, 100.0]).double()
    torch.testing.assert_close(Huber(1.0).rho(s), torch.tensor([0.25, 1.0, 3.0, 19.0]).double())
    torch.testing.assert_close(Tukey(1.0).weight(s), torch.tensor([0.5625, 0.0, 0.0, 0.0]).double())
    assert GemanMcClure(2.0).rho(torch.tensor(4.0)) == 2.0
    assert Tukey(2.0).rho(torch.tensor(1e6)) == torch.tensor(4.0 / 3)
