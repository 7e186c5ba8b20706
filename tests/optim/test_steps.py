from __future__ import annotations

import pytest
import torch

from gradslam_ng import optim
from gradslam_ng.optim.problem import Linearization

RULES = [
    optim.GaussNewton(),
    optim.LevenbergMarquardt(),
    optim.SoftLevenbergMarquardt(),
    optim.SoftLevenbergMarquardt(relinearize=True),
]


class Rosenbrock:
    """Residuals 10 (y - x^2) and 1 - x, times a factor: a curved valley in which many steps are bad."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor, self.calls = factor, 0

    def linearize(self, x):
        self.calls += 1
        u, v = x.unbind(-1)
        r = self.factor * torch.stack([10 * (v - u * u), 1 - u], -1)
        zero, one = torch.zeros_like(u), torch.ones_like(u)
        rows = [torch.stack([-20 * u, 10 * one], -1), torch.stack([-one, zero], -1)]
        J = self.factor * torch.stack(rows, -2)
        return J.mT @ J, (J.mT @ r[..., None])[..., 0], 0.5 * r.square().sum(-1)

    def error(self, x):
        return self.linearize(x)[2]

    def retract(self, x, delta):
        return x + delta


START = torch.tensor([[-1.2, 1.0], [2.0, -3.0], [0.0, 5.0], [-3.0, -4.0]], dtype=torch.float64)


@pytest.mark.parametrize("strategy", RULES, ids=str)
def test_reaches_the_optimum(strategy):
    solution = optim.solve(Rosenbrock(), START, strategy, 60)
    torch.testing.assert_close(solution.x, torch.ones_like(START), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("strategy", RULES[:3], ids=str)
def test_one_linearization_a_step(strategy):
    problem = Rosenbrock()
    optim.solve(problem, START, strategy, 7)
    assert problem.calls == 8


@pytest.mark.parametrize("strategy", RULES, ids=str)
def test_elements_of_the_batch_do_not_meet(strategy):
    together = optim.solve(Rosenbrock(), START, strategy, 9)
    for i, x in enumerate(START):
        alone = optim.solve(Rosenbrock(), x, strategy, 9)
        torch.testing.assert_close(alone.x, together.x[i], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(alone.error, together.error[i], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("strategy", RULES, ids=str)
def test_the_scale_of_the_error_does_not_matter(strategy):
    ordinary = optim.solve(Rosenbrock(), START, strategy, 6)
    scaled = optim.solve(Rosenbrock(1e4), START, strategy, 6)
    torch.testing.assert_close(scaled.x, ordinary.x, rtol=1e-6, atol=1e-6)


def test_levenberg_marquardt_never_gets_worse():
    errors = torch.stack([optim.solve(Rosenbrock(), START, optim.LevenbergMarquardt(), k).error for k in range(20)])
    assert (errors.diff(dim=0) <= 0).all()
    assert (errors.diff(dim=0) == 0).any(), "no step was refused: the problem is too easy to test that"


def test_a_cold_soft_rule_is_levenberg_marquardt():
    for k in range(1, 25):
        hard = optim.solve(Rosenbrock(), START, optim.LevenbergMarquardt(), k)
        for relinearize in (False, True):
            strategy = optim.SoftLevenbergMarquardt(temperature=1e-9, relinearize=relinearize)
            soft = optim.solve(Rosenbrock(), START, strategy, k)
            torch.testing.assert_close(soft.x, hard.x, rtol=1e-9, atol=1e-9)


def test_a_worse_step_is_taken_less():
    here = Linearization(torch.eye(1), torch.ones(1), torch.ones(()))
    strategy = optim.SoftLevenbergMarquardt()
    damping = strategy.start(here)
    step = strategy.propose(here, damping)
    gates, dampings = [], []
    for error in torch.linspace(0.5, 3.0, 20):
        gate, after = strategy.accept(here, Linearization(here.H, here.g, error), step, damping)
        gates.append(gate)
        dampings.append(after.value)
    assert (torch.stack(gates).diff() < 0).all() and gates[0] > 0.99 and gates[-1] < 0.01
    assert (torch.stack(dampings).diff() >= 0).all() and dampings[0] < damping.value < dampings[-1]


@pytest.mark.parametrize("strategy", [optim.LevenbergMarquardt(), optim.SoftLevenbergMarquardt()], ids=str)
def test_a_step_to_where_the_error_is_infinite_is_refused(strategy):
    class Wall(Rosenbrock):
        def linearize(self, x):
            H, g, error = super().linearize(x)
            beyond = x[..., 0] > 0.5
            return (
                torch.where(beyond[..., None, None], torch.nan, H),
                torch.where(beyond[..., None], torch.nan, g),
                torch.where(beyond, torch.inf, error),
            )

    solution = optim.solve(Wall(), START[:1], strategy, 30)
    assert solution.x.isfinite().all() and solution.x[0, 0] <= 0.5
    assert solution.error < Rosenbrock().error(START[:1])


@pytest.mark.parametrize("strategy", RULES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_dtype(strategy, dtype):
    solution = optim.solve(Rosenbrock(), START.to(dtype), strategy, 3)
    assert {t.dtype for t in (solution.x, solution.H, solution.g, solution.error)} == {dtype}


@pytest.mark.parametrize("iterations", [1, 3, 12])
@pytest.mark.parametrize("strategy", RULES, ids=str)
def test_unrolled_gradient_to_data_and_start(decay, planes, central_differences, strategy, iterations):
    weights = torch.tensor([1.0, -0.5], dtype=torch.float64)

    def curve(y):
        return (optim.solve(decay.problem(y), decay.x, strategy, iterations).x * weights).sum()

    def start(x):
        return (optim.solve(decay.problem(decay.y), x, strategy, iterations).x * weights).sum()

    def pose(p):
        problem = planes.problem(p, planes.q, planes.n, kernel=optim.GemanMcClure(0.2))
        return optim.solve(problem, planes.x, strategy, iterations).x[..., :3, :].sin().sum()

    errors = [central_differences(curve, decay.y), central_differences(pose, planes.p)]
    if iterations < 12:  # at the optimum nothing of the start remains
        errors.append(central_differences(start, decay.x))
    assert max(median for median, _ in errors) <= 1e-6
    assert max(worst for _, worst in errors) <= 1e-4


@pytest.mark.parametrize("relinearize", [False, True])
def test_gradient_to_damping_and_temperature(central_differences, relinearize):
    def end(settings):
        damping, temperature = settings
        strategy = optim.SoftLevenbergMarquardt(damping=damping, temperature=temperature, relinearize=relinearize)
        return optim.solve(Rosenbrock(), START, strategy, 4).x.sum()

    for damping, temperature in ((0.05, 0.1), (0.1, 0.5), (1.0, 0.2)):
        settings = torch.tensor([damping, temperature], dtype=torch.float64)
        median, worst = central_differences(end, settings)
        assert median <= 1e-6 and worst <= 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_settings_of_another_dtype_do_not_change_that_of_the_solution(dtype):
    settings = {"damping": torch.tensor(1e-2).double(), "temperature": torch.tensor(0.1).half()}
    solution = optim.solve(Rosenbrock(), START[0].to(dtype), optim.SoftLevenbergMarquardt(**settings), 3)
    assert solution.x.dtype == solution.H.dtype == dtype
