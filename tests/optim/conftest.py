"""Problems that the tests of the solver share."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3


@pytest.fixture
def decay() -> SimpleNamespace:
    """Fit y = a exp(b t) to four noisy batches of 20 points; x = (a, b)."""
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(0, 1, 20, dtype=torch.float64)
    noise = 0.05 * torch.randn(4, 20, generator=generator, dtype=torch.float64)
    y = torch.tensor([[1.0], [2.0], [-1.0], [0.5]], dtype=torch.float64) * torch.exp(-1.5 * t) + noise
    x = torch.tensor([1.0, 0.5], dtype=torch.float64).expand(4, 2)

    def problem(y: Tensor, **cost) -> optim.LeastSquares:
        def residual(x: Tensor) -> Tensor:
            return (x[..., :1] * torch.exp(x[..., 1:] * t) - y)[..., None]

        def jacobian(x: Tensor) -> Tensor:
            e = torch.exp(x[..., 1:] * t)
            return torch.stack([e, x[..., :1] * t * e], -1)[..., None, :]

        return optim.LeastSquares([optim.Cost(residual, jacobian, **cost)], optim.Euclidean())

    return SimpleNamespace(y=y, x=x, problem=problem)


@pytest.fixture
def planes() -> SimpleNamespace:
    """Align three batches of 60 points with planes, 2 cm of noise; x = T (3, 4, 4)."""
    generator = torch.Generator().manual_seed(1)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    T = se3.exp(0.2 * randn(3, 6))
    p, n = randn(3, 60, 3), torch.nn.functional.normalize(randn(3, 60, 3), dim=-1)
    q = se3.transform(T, p) + 0.02 * randn(3, 60, 3)

    def problem(p: Tensor, q: Tensor, n: Tensor, **cost) -> optim.LeastSquares:
        def residual(T: Tensor) -> Tensor:
            return ((se3.transform(T, p) - q) * n).sum(-1, keepdim=True)

        def jacobian(T: Tensor) -> Tensor:
            return torch.cat([n, torch.linalg.cross(se3.transform(T, p), n)], -1)[..., None, :]

        return optim.LeastSquares([optim.Cost(residual, jacobian, **cost)], optim.SE3())

    return SimpleNamespace(p=p, q=q, n=n, T=T, x=torch.eye(4, dtype=torch.float64).expand(3, 4, 4), problem=problem)


@pytest.fixture
def central_differences() -> Callable[[Callable[[Tensor], Tensor], Tensor], tuple[float, float]]:
    """Median and worst relative error of the gradient of a scalar function against central differences, in float64."""

    def compare(function: Callable[[Tensor], Tensor], x: Tensor, entries: int = 12) -> tuple[float, float]:
        x = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(x), x)
        generator = torch.Generator().manual_seed(2)
        picked = torch.randperm(x.numel(), generator=generator)[:entries]
        numeric = []
        for index in picked.tolist():
            step = torch.zeros(x.numel(), dtype=x.dtype)
            step[index] = 1e-6 * max(1.0, float(x.flatten()[index].detach().abs()))
            step = step.reshape(x.shape)
            with torch.no_grad():
                numeric.append((function(x + step) - function(x - step)) / (2 * step.sum()))
        numeric, analytic = torch.stack(numeric), gradient.flatten()[picked]
        floor = 1e-2 * gradient.abs().max()  # entries far below the largest drown in the rounding of the difference
        error = (analytic - numeric).abs() / numeric.abs().clamp(min=floor)
        return error.median().item(), error.max().item()

    return compare
