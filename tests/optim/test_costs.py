from __future__ import annotations

import pytest
import torch
from torch import nn

from gradslam_ng import optim
from gradslam_ng.geometry import se3

KERNELS = [None, optim.Huber(0.02), optim.Cauchy(0.02), optim.GemanMcClure(0.02), optim.Tukey(0.05)]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_g_is_the_gradient_of_the_error(planes, kernel):
    problem = planes.problem(planes.p, planes.q, planes.n, kernel=kernel)
    delta = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    error = problem.error(problem.retract(planes.T, delta))
    _, g, error_too = problem.linearize(planes.T)
    torch.testing.assert_close(error, error_too)
    torch.testing.assert_close(torch.autograd.grad(error.sum(), delta)[0], g)


def test_H_is_the_hessian_where_residuals_vanish(planes):
    q = se3.transform(planes.T, planes.p)
    problem = planes.problem(planes.p, q, planes.n, kernel=optim.Cauchy(0.1))
    H, g, error = problem.linearize(planes.T)
    assert g.abs().max() == 0 and error.abs().max() == 0

    def one(delta):
        return problem.error(problem.retract(planes.T, delta.expand(3, 6)))[0]

    hessian = torch.autograd.functional.hessian(one, torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(hessian, H[0], rtol=1e-9, atol=1e-9)


def test_automatic_jacobian_equals_the_written_one(planes):
    written = planes.problem(planes.p, planes.q, planes.n)
    automatic = optim.LeastSquares([optim.Cost(written.costs[0].residual)], written.variable)
    for a, b in zip(automatic.linearize(planes.T), written.linearize(planes.T), strict=True):
        torch.testing.assert_close(a, b)


def test_automatic_jacobian_passes_gradients_on(planes):
    q = planes.q.clone().requires_grad_()
    written = planes.problem(planes.p, q, planes.n)
    automatic = optim.LeastSquares([optim.Cost(written.costs[0].residual)], written.variable)
    gradients = [
        torch.autograd.grad(optim.solve(problem, planes.x, optim.GaussNewton(), 4).x[..., :3, 3].sum(), q)[0]
        for problem in (automatic, written)
    ]
    torch.testing.assert_close(*gradients)


def test_several_variables_at_once():
    # a pose and a scale: q = s (R p + t)
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(2, 30, 3, generator=generator, dtype=torch.float64)
    T = se3.exp(0.3 * torch.randn(2, 6, generator=generator, dtype=torch.float64))
    s = torch.tensor([[1.3], [0.8]], dtype=torch.float64)
    q = s[..., None] * se3.transform(T, p)
    cost = optim.Cost(lambda x: x[1][..., None] * se3.transform(x[0], p) - q)
    problem = optim.LeastSquares([cost], optim.Product(optim.SE3(), optim.Euclidean()))
    start = (torch.eye(4, dtype=torch.float64).expand(2, 4, 4), torch.ones(2, 1, dtype=torch.float64))
    for strategy in (optim.LevenbergMarquardt(), optim.SoftLevenbergMarquardt()):
        T_found, s_found = optim.solve(problem, start, strategy, 30, backward="implicit").x
        torch.testing.assert_close(T_found, T)
        torch.testing.assert_close(s_found, s)


def weighted(weight):
    """Three residuals of two components in one unknown."""
    r = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]], dtype=torch.float64)
    A = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    cost = optim.Cost(lambda x: A * x - r, lambda x: A[..., None], weight)
    return optim.LeastSquares([cost], optim.Euclidean()), A, r


def test_weights_of_every_kind():
    torch.manual_seed(0)
    W = torch.randn(3, 2, 2, dtype=torch.float64)
    d = torch.rand(3, 2, dtype=torch.float64)
    w = torch.rand(3, dtype=torch.float64)
    x = torch.tensor([0.3], dtype=torch.float64)
    for weight, matrix in (
        (optim.FullWeight(W), W),
        (optim.DiagonalWeight(d), torch.diag_embed(d)),
        (optim.IsotropicWeight(w), w[:, None, None] * torch.eye(2, dtype=torch.float64)),
    ):
        problem, A, r = weighted(weight)
        WA, Wr = (matrix @ A[..., None])[..., 0], (matrix @ (A * x - r)[..., None])[..., 0]
        H, g, error = problem.linearize(x)
        torch.testing.assert_close(H, (WA * WA).sum()[None, None])
        torch.testing.assert_close(g, (WA * Wr).sum()[None])
        torch.testing.assert_close(error, 0.5 * (Wr * Wr).sum())
        torch.testing.assert_close(problem.error(x), error)


def test_a_module_as_weight_is_trained_through_the_solution():
    class Precision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log = nn.Parameter(torch.zeros(3, dtype=torch.float64))

        def forward(self) -> torch.Tensor:
            return self.log.exp()

    module = Precision()
    problem, A, r = weighted(optim.IsotropicWeight(module))
    optim.solve(problem, torch.zeros(1, dtype=torch.float64), optim.GaussNewton(), 1).x.sum().backward()
    log = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    w2 = (2 * log).exp()[:, None]
    ((w2 * A * r).sum() / (w2 * A * A).sum()).backward()
    torch.testing.assert_close(module.log.grad, log.grad)


def test_a_robust_kernel_ignores_outliers(planes):
    q = planes.q.clone()
    q[:, :6] += 5.0
    plain = optim.solve(planes.problem(planes.p, q, planes.n), planes.x, optim.LevenbergMarquardt(), 20)
    kernel = optim.GemanMcClure(0.1)
    robust = optim.solve(planes.problem(planes.p, q, planes.n, kernel=kernel), planes.x, optim.LevenbergMarquardt(), 50)
    clean = optim.solve(planes.problem(planes.p, planes.q, planes.n), planes.x, optim.LevenbergMarquardt(), 20)
    assert (robust.x - clean.x).abs().max() < 0.02 < 0.2 < (plain.x - clean.x).abs().max()


def test_a_problem_needs_a_cost():
    with pytest.raises(ValueError, match="costs"):
        optim.LeastSquares([], optim.Euclidean())
