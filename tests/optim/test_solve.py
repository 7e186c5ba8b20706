from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from gradslam_ng import optim
from gradslam_ng.optim.solve import BACKWARD

LM = optim.LevenbergMarquardt()


def gradients(problem, x, inputs, iterations=60, weights=None, **options):
    """Of a fixed function of the solution, to the inputs."""
    solution = optim.solve(problem, x, LM, iterations, **options)
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(solution.x.shape, generator=generator, dtype=solution.x.dtype)
    return torch.autograd.grad((solution.x * weights).sum(), inputs)


def relative(a, b):
    return max(((x - y).norm() / y.norm()).item() for x, y in zip(a, b, strict=True))


def robust_alignment(planes, kernel=optim.GemanMcClure):
    """A problem on SE(3) in which everything that can have a gradient does."""
    weights = torch.rand(3, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    inputs = [planes.p, planes.q, planes.n, weights, torch.tensor(0.05).double()]
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    p, q, n, w, scale = inputs
    return planes.problem(p, q, n, weight=optim.IsotropicWeight(w), kernel=kernel(scale)), inputs


@pytest.mark.parametrize("kernel", [optim.GemanMcClure, optim.Cauchy, lambda c: optim.Barron(c, 0.5)])
def test_implicit_agrees_with_unroll_at_the_optimum(planes, kernel):
    problem, inputs = robust_alignment(planes, kernel)
    unrolled = gradients(problem, planes.x, inputs, iterations=100)
    assert relative(gradients(problem, planes.x, inputs, backward="implicit"), unrolled) <= 1e-8
    assert relative(gradients(problem, planes.x, inputs, backward="direct"), unrolled) <= 1e-4
    biased = relative(gradients(problem, planes.x, inputs, backward="implicit-gn"), unrolled)
    assert biased > 1e-3, "the bias of the Gauss-Newton kind is what its docstring says"


def test_implicit_agrees_with_unroll_in_a_euclidean_space(decay):
    y = decay.y.clone().requires_grad_()
    unrolled = gradients(decay.problem(y), decay.x, [y], iterations=100)
    assert relative(gradients(decay.problem(y), decay.x, [y], backward="implicit"), unrolled) <= 1e-9
    assert relative(gradients(decay.problem(y), decay.x, [y], backward="direct"), unrolled) <= 1e-6


def test_implicit_kinds_agree_where_residuals_vanish(decay):
    x_true = torch.tensor([2.0, -1.0], dtype=torch.float64)
    t = torch.linspace(0, 1, 20, dtype=torch.float64)
    y = (x_true[0] * torch.exp(x_true[1] * t)).expand(4, 20).clone().requires_grad_()
    exact = gradients(decay.problem(y), decay.x, [y], backward="implicit")
    assert relative(gradients(decay.problem(y), decay.x, [y], backward="implicit-gn"), exact) <= 1e-9


def test_truncated_converges_to_unroll(planes):
    problem, inputs = robust_alignment(planes)
    unrolled = gradients(problem, planes.x, inputs, iterations=100)
    errors = [
        relative(gradients(problem, planes.x, inputs, 60, backward="truncated", backward_iterations=k), unrolled)
        for k in (1, 2, 4, 8, 16, 32)
    ]
    assert all(b < 0.9 * a for a, b in pairwise(errors)) and errors[-1] < 1e-5


def test_implicit_gradient_against_central_differences(planes, central_differences):
    weights = torch.linspace(-1, 1, 48, dtype=torch.float64).reshape(3, 4, 4)

    def end(p):
        problem = planes.problem(p, planes.q, planes.n, kernel=optim.Cauchy(0.05))
        return (optim.solve(problem, planes.x, LM, 60, backward="implicit").x * weights).sum()

    median, worst = central_differences(end, planes.p)
    assert median <= 1e-6 and worst <= 1e-4


def test_gradient_of_the_error_at_the_optimum(decay):
    results = {}
    for backward in ("unroll", "implicit", "implicit-gn", "direct"):
        y = decay.y.clone().requires_grad_()
        optim.solve(decay.problem(y), decay.x, LM, 40, backward=backward).error.sum().backward()
        results[backward] = y.grad
    for backward in ("implicit", "implicit-gn", "direct"):
        torch.testing.assert_close(results[backward], results["unroll"], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("backward", BACKWARD)
def test_all_backward_modes_find_the_same(decay, backward):
    y = decay.y.clone().requires_grad_()
    reference = optim.solve(decay.problem(decay.y), decay.x, LM, 30)
    solution = optim.solve(decay.problem(y), decay.x, LM, 30, backward=backward)
    torch.testing.assert_close(solution.x.detach(), reference.x)
    torch.testing.assert_close(solution.error.detach(), reference.error)
    assert solution.x.requires_grad == (backward != "detach")


@pytest.mark.parametrize(
    ("backward", "recorded"), [("implicit", 2), ("implicit-gn", 1), ("truncated", 4), ("unroll", 31)]
)
def test_what_is_recorded_does_not_grow_with_the_iterations(decay, backward, recorded):
    """By `implicit` twice: its second derivatives are those of a second step."""
    problem = decay.problem(decay.y.clone().requires_grad_())
    records = []
    linearize = problem.linearize
    problem.linearize = lambda x: records.append(torch.is_grad_enabled()) or linearize(x)
    optim.solve(problem, decay.x, LM, 30, backward=backward, backward_iterations=3)
    assert sum(records) == recorded


@pytest.mark.parametrize("backward", BACKWARD)
def test_nothing_is_recorded_without_gradients(decay, backward):
    with torch.no_grad():
        solution = optim.solve(decay.problem(decay.y.clone().requires_grad_()), decay.x, LM, 5, backward=backward)
    assert not solution.x.requires_grad


@pytest.mark.parametrize("backward", ["unroll", "implicit", "implicit-gn", "direct"])
def test_backward_twice(decay, backward):
    y = decay.y.clone().requires_grad_()
    x = optim.solve(decay.problem(y), decay.x, LM, 20, backward=backward).x
    first = torch.autograd.grad(x.sum(), y, retain_graph=True)[0]
    second = torch.autograd.grad(x.sum(), y)[0]
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_tolerance_stops_each_element_by_itself(decay):
    problem = decay.problem(decay.y)
    solved = optim.solve(problem, decay.x, LM, 50).x
    start = torch.stack([solved[0], decay.x[1], decay.x[2], decay.x[3]])
    calls = []
    linearize = problem.linearize
    problem.linearize = lambda x: calls.append(x) or linearize(x)
    solution = optim.solve(problem, start, LM, 50, tolerance=1e-12)
    assert solution.converged.all() and len(calls) < 20
    torch.testing.assert_close(solution.x, solved, rtol=1e-4, atol=1e-4)
    assert not optim.solve(problem, start, LM, 1, tolerance=1e-12).converged[1:].any()
    loose = optim.solve(problem, start, LM, 50, tolerance=1e-2)
    assert (loose.error >= solution.error).all() and loose.converged.all()
    assert optim.solve(problem, start, LM, 5).converged is None


@pytest.mark.parametrize("strategy", [optim.GaussNewton(), LM, optim.SoftLevenbergMarquardt()], ids=str)
def test_an_element_at_rest_stays_where_it_is(decay, strategy):
    problem = decay.problem(decay.y)
    start = torch.stack([optim.solve(problem, decay.x, LM, 50).x[0], *decay.x[1:]])
    solution = optim.solve(problem, start, strategy, 2, tolerance=1e-9)
    assert solution.converged.tolist() == [True, False, False, False]
    torch.testing.assert_close(solution.x[0], start[0], rtol=0, atol=0)


HOSTILE = ["no residual", "no weight", "no weight in one", "one plane", "one point", "parallel normals of zero"]


@pytest.mark.parametrize("backward", [b for b in BACKWARD if b != "detach"])
@pytest.mark.parametrize("strategy", [optim.GaussNewton(), LM, optim.SoftLevenbergMarquardt()], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_problems_have_finite_solutions_and_gradients(planes, case, dtype, strategy, backward):
    p, q, n = planes.p.to(dtype), planes.q.to(dtype), planes.n.to(dtype)
    w, scale = torch.ones(3, 60, dtype=dtype), torch.tensor(0.1, dtype=dtype)
    match case:
        case "no residual":
            q = p.clone()
        case "no weight":
            w = torch.zeros_like(w)
        case "no weight in one":
            w = w.clone()
            w[1] = 0
        case "one plane":
            n = torch.tensor([0.0, 0.0, 1.0], dtype=dtype).expand_as(p)
        case "one point":
            w = torch.zeros_like(w)
            w[:, 0] = 1
        case "parallel normals of zero":
            n = torch.zeros_like(n)
    inputs = [tensor.clone().requires_grad_() for tensor in (p, q, n, w, scale)]
    problem = planes.problem(*inputs[:3], weight=optim.IsotropicWeight(inputs[3]), kernel=optim.Huber(inputs[4]))
    solution = optim.solve(problem, planes.x.to(dtype), strategy, 6, backward=backward, backward_iterations=3)
    (solution.x.sin().sum() + solution.error.sum()).backward()
    assert solution.x.isfinite().all() and solution.error.isfinite().all()
    for tensor in inputs:
        assert tensor.grad.isfinite().all()
    if case == "no weight":
        torch.testing.assert_close(solution.x.detach(), planes.x.to(dtype), rtol=0, atol=0)
        assert all((tensor.grad == 0).all() for tensor in inputs)


def test_unknown_options_are_refused(decay):
    problem = decay.problem(decay.y)
    with pytest.raises(ValueError, match="backward: expected one of unroll, truncated"):
        optim.solve(problem, decay.x, LM, 5, backward="magic")
    with pytest.raises(ValueError, match="backward_iterations"):
        optim.solve(problem, decay.x, LM, 5, backward="truncated", backward_iterations=6)
    with pytest.raises(ValueError, match="iterations"):
        optim.solve(problem, decay.x, LM, -1)
