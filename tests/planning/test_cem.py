"""Top-k weights against their optimality conditions, and the cross-entropy method on costs with known minima."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gradslam_ng.planning import cem, soft_top_k
from tests.planning.differences import assert_gradients


def scores(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("k", [1, 10, 99, 100])
def test_weights_sum_to_k_over_sixty_decades_of_scores(dtype, tolerance, k):
    decades = torch.linspace(-30, 30, 100, dtype=torch.float64)
    for x in (scores(32, 100), 10**decades, -(10**decades), 1e30 * scores(3, 100), 1e-30 * scores(3, 100)):
        x = x.to(dtype).requires_grad_()
        y = soft_top_k(x, k)
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
        assert y.isfinite().all() and gradient.isfinite().all()
        assert (y >= 0).all() and (y <= 1).all()
        assert (y.double().sum(-1) - k).abs().max() <= tolerance


def test_weights_meet_the_optimality_conditions():
    x = scores(4, 20)
    y = soft_top_k(x, 5, 0.3)
    nu = torch.logit(y) - x / 0.3  # the same for all entries
    assert (nu - nu[:, :1]).abs().max() < 1e-9


def test_little_temperature_selects_and_ties_share():
    x = scores(3, 12)
    hard = torch.zeros_like(x).scatter(-1, x.topk(4).indices, 1.0)
    torch.testing.assert_close(soft_top_k(x, 4, 1e-6), hard)
    tied = torch.tensor([5.0, 1.0, 1.0, 1.0, -5.0], dtype=torch.float64)
    expected = torch.tensor([1, 1 / 3, 1 / 3, 1 / 3, 0], dtype=torch.float64)
    torch.testing.assert_close(soft_top_k(tied, 2, 1e-3), expected)
    torch.testing.assert_close(soft_top_k(torch.ones(5, dtype=torch.float64), 2), torch.full((5,), 0.4).double())


def test_all_of_them_are_ones_without_gradient():
    x = scores(2, 3).requires_grad_()
    y = soft_top_k(x, 3)
    assert (y == 1).all()
    assert (torch.autograd.grad(y.sum(), x)[0] == 0).all()


def test_gradients_of_first_and_second_order_and_of_the_temperature():
    x, temperature = scores(2, 7).requires_grad_(), torch.tensor([[0.5], [2.0]], dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x, t: soft_top_k(x, 3, t), (x, temperature), check_forward_ad=True)
    assert gradgradcheck(lambda x: soft_top_k(x, 3), (x,))


def test_vmap_and_batch_are_each_alone():
    x = torch.cat([scores(1, 9), 1e3 * scores(1, 9, seed=1)])
    torch.testing.assert_close(torch.vmap(lambda x: soft_top_k(x, 2))(x), soft_top_k(x, 2))
    torch.testing.assert_close(soft_top_k(x, 2)[1], soft_top_k(x[1], 2), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("x", "k", "temperature", "said"),
    [
        (torch.ones(3), 4, 1.0, "k: expected from 1"),
        (torch.ones(3), 0, 1.0, "k: expected from 1"),
        (torch.ones(3), 1, 0.0, "temperature"),
        (torch.ones(3), 1, torch.tensor(-1.0), "temperature"),
        (torch.tensor([1.0, torch.nan]), 1, 1.0, "scores"),
    ],
)
def test_bad_arguments_are_named(x, k, temperature, said):
    with pytest.raises(ValueError, match=said):
        soft_top_k(x, k, temperature)


def search(cost, mean, std, **options):
    return cem(cost, mean, std, generator=torch.Generator().manual_seed(0), **options)


def test_the_mean_follows_the_minimum_one_to_one():
    theta = torch.tensor([0.7, -0.4], dtype=torch.float64)
    start = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)

    def found(theta):
        return search(lambda x: (x - theta).square().sum(-1), *start, iterations=30)

    assert (found(theta).mean - theta).abs().max() < 0.01
    jacobian = torch.autograd.functional.jacobian(lambda theta: found(theta).mean, theta)
    assert (jacobian - torch.eye(2)).abs().max() < 0.02
    assert found(theta).cost < 1e-3


@pytest.mark.parametrize("name", ["mean", "std", "theta", "temperature", "low", "high"])
def test_gradients_meet_central_differences(name):
    values = {"mean": [0.1, -0.2], "std": [0.6, 0.9], "theta": [0.7, -0.4], "temperature": [0.8]}
    values |= {"low": [-0.3, -0.5], "high": [0.5, 0.6]}
    inputs = {key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()}

    def loss(x):
        now = inputs | {name: x}
        result = search(
            lambda x: (x - now["theta"]).square().sum(-1),
            now["mean"],
            now["std"],
            temperature=now["temperature"],
            limits=(now["low"], now["high"]),
            **{"samples": 20, "elites": 5, "iterations": 3},
        )
        return result.mean.sin().sum() + result.std.sum()

    assert_gradients(loss, inputs[name], 1e-6, step=1e-5)


def test_recomputing_gives_the_same_gradient():
    theta = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    start = torch.zeros(4, 1, dtype=torch.float64), torch.ones(4, 1, dtype=torch.float64)
    gradients = []
    for again in (False, True):
        mean = search(lambda x: (x - theta).square().sum(-1), *start, checkpoint=again).mean
        gradients.append(torch.autograd.grad(mean.sum(), theta)[0])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_an_element_does_not_depend_on_its_batch():
    theta = torch.tensor([[0.5], [1e6]], dtype=torch.float64)
    start = torch.zeros(2, 1, dtype=torch.float64), torch.tensor([[1.0], [1e6]], dtype=torch.float64)
    both = search(lambda x: (x - theta[:, None]).square().sum(-1), *start)
    alone = search(lambda x: (x - theta[0]).square().sum(-1), *(x[0] for x in start))
    torch.testing.assert_close(both.mean[0], alone.mean, rtol=1e-12, atol=1e-12)


def test_hard_selection_respects_limits_and_ignores_costs_that_are_no_numbers():
    def cost(x):
        return torch.where(x[..., 0] > 0, torch.nan, (x[..., 0] - 1).square())

    for temperature in (None, 1.0):
        start = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        result = search(cost, *start, temperature=temperature, limits=(-2.0, 2.0), iterations=5)
        assert result.best <= 0 and result.cost.isfinite()
        assert result.mean.isfinite().all() and result.mean.abs() < 0.5


def test_even_costs_limits_that_meet_and_many_iterations_stay_finite():
    mean = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    std = torch.ones(2, dtype=torch.float64)
    for options in ({"limits": (0.3, 0.3)}, {"iterations": 200}):
        for cost in (lambda x: 0.0 * x.sum(-1), lambda x: x.square().sum(-1)):
            result = search(cost, mean, std, **options)
            (gradient,) = torch.autograd.grad((result.mean + result.std).sum(), mean)
            assert result.mean.isfinite().all() and gradient.isfinite().all()


def test_bad_options_are_named():
    def run(cost=lambda x: x.sum(-1), std=1.0, **options):
        return cem(cost, torch.zeros(2), torch.full((2,), std), **options)

    for options, said in (
        ({"samples": 5, "elites": 6}, "elites of"),
        ({"iterations": 0}, "iteration"),
        ({"std": 0.0}, "std"),
        ({"limits": (1.0, 0.0)}, "limits"),
        ({"temperature": 0.0}, "temperature"),
        ({"cost": lambda x: x}, "one number a sample"),
        ({"cost": lambda x: torch.nan * x.sum(-1)}, "finite costs"),
    ):
        with pytest.raises(ValueError, match=said):
            run(**options)
