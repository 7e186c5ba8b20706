from __future__ import annotations

import torch

from gradslam_ng.optim import dense_inverse, differentiate_root


def newton(residual, x, steps=20):
    for _ in range(steps):
        J = torch.autograd.functional.jacobian(residual, x)
        x = x - torch.linalg.solve(J, residual(x))
    return x


def test_root_of_a_system_without_symmetry():
    theta = torch.tensor([0.5, 1.5, -0.3], dtype=torch.float64, requires_grad=True)

    def residual(x, theta):
        a, b, c = theta.unbind()
        return torch.stack([x[0] + a * torch.sin(x[1]) - b, x[1] ** 3 + c * x[0] + x[1] - 1.0])

    def root(theta):
        x = newton(lambda x: residual(x, theta.detach()), torch.zeros(2, dtype=torch.float64))
        return x + differentiate_root(lambda delta: residual(x + delta, theta), torch.zeros_like(x), dense_inverse)

    assert torch.autograd.gradcheck(root, theta)


def test_fixed_point_of_a_batch():
    W = 0.3 * torch.randn(4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    b = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def layer(x, W, b):
        return torch.tanh((W @ x[..., None])[..., 0] + b)

    def fixed_point(W, b):
        x = torch.zeros_like(b)
        with torch.no_grad():
            for _ in range(200):
                x = layer(x, W, b)
        return x + differentiate_root(
            lambda delta: x + delta - layer(x + delta, W, b), torch.zeros_like(x), dense_inverse
        )

    assert torch.autograd.gradcheck(fixed_point, (W.requires_grad_(), b.requires_grad_()))


def test_the_value_is_zero():
    theta = torch.tensor([2.0], requires_grad=True)
    zero = differentiate_root(lambda delta: delta - theta + 2.0, torch.zeros(1), dense_inverse)
    assert zero.item() == 0.0
    zero.sum().backward()
    assert theta.grad.item() == 1.0
