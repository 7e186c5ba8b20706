"""Convolutional planners: implicit gradients against unrolled and differenced ones, and what has no fixed point."""

from __future__ import annotations

import warnings

import pytest
import torch

from gradslam_ng.planning import VIN, ConvGPPN


def make(kind, backward="implicit", iterations=400, **more):
    torch.manual_seed(0)
    if kind is VIN:
        more = {"latent_actions": 6, "contraction": 0.8} | more
    return kind(hidden=5, iterations=iterations, backward=backward, tolerance=1e-13, **more).double()


def maps(count=3, size=7):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 2, size, size, generator=generator, dtype=torch.float64)


def gradients(planner, x):
    loss = (planner(x).logits * torch.linspace(-1, 1, 4, dtype=x.dtype)[:, None, None]).sin().sum()
    return torch.autograd.grad(loss, [x, *planner.parameters()])


@pytest.mark.parametrize("kind", [VIN, ConvGPPN])
def test_implicit_gradients_are_those_of_many_recorded_steps(kind):
    x = maps().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        implicit = gradients(make(kind), x)
        recorded = gradients(make(kind, "unroll"), x)
    plans = [make(kind, backward)(x) for backward in ("implicit", "unroll")]
    assert all(plan.converged.all() for plan in plans)
    torch.testing.assert_close(plans[0].logits, plans[1].logits, rtol=1e-10, atol=1e-10)
    for a, b in zip(implicit, recorded, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", [VIN, ConvGPPN])
def test_implicit_gradients_meet_central_differences(kind):
    planner, x = make(kind), maps(1, 4).requires_grad_()

    def loss(x):
        return (planner(x).logits * torch.linspace(-1, 1, 4, dtype=x.dtype)[:, None, None]).sin().sum()

    (gradient,) = torch.autograd.grad(loss(x), x)
    change = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    with torch.no_grad():
        slope = (loss(x + 1e-5 * change) - loss(x - 1e-5 * change)) / 2e-5
    assert float((gradient * change).sum()) == pytest.approx(float(slope), rel=1e-7)


@pytest.mark.parametrize("kind", [VIN, ConvGPPN])
def test_a_batch_is_each_alone(kind):
    planner, x = make(kind), maps()
    x[1] = 0.0
    together = planner(x)
    for k in range(3):
        alone = planner(x[k : k + 1])
        torch.testing.assert_close(alone.logits[0], together.logits[k], rtol=1e-12, atol=1e-12)
        assert abs(int(alone.iterations) - int(together.iterations[k])) <= 1  # rounding of sums


def test_kept_for_the_backward_pass_is_the_same_for_all_iterations():
    kept = {}
    for backward, iterations in (("implicit", 100), ("implicit", 400), ("unroll", 100), ("unroll", 400)):
        planner, sizes = make(VIN, backward, iterations), []

        def pack(x, sizes=sizes):
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            planner(maps().requires_grad_())
        kept[backward, iterations] = sum(sizes)
    assert kept["implicit", 100] == kept["implicit", 400] < 0.2 * kept["unroll", 100] < 0.06 * kept["unroll", 400]


def test_a_state_without_fixed_point_is_a_constant_and_says_so():
    planner = make(VIN, iterations=50, contraction=None)
    with torch.no_grad():
        planner.from_value.weight.mul_(10)  # nothing contracts
    x = maps().requires_grad_()
    with pytest.warns(UserWarning, match="state of 3 of 3 has not converged"):
        plan = planner(x)
    assert not plan.converged.any()
    few = make(VIN, iterations=3)
    with pytest.warns(UserWarning, match="not converged"):
        logits = few(x).logits
    assert all(g.isfinite().all() for g in torch.autograd.grad(logits.sum(), [x, *few.parameters()]))


def test_where_the_state_converges_and_the_adjoint_does_not_it_says_so():
    class Odd(VIN):
        def step(self, state, features):
            return state + (features.amax(1, keepdim=True) - state) * 2.5  # starts at its repelling fixed point

    torch.manual_seed(0)
    planner, x = Odd(hidden=5, iterations=20).double(), maps().requires_grad_()
    plan = planner(x)
    assert plan.converged.all()
    with pytest.warns(UserWarning, match="adjoint of 3 of 3"):
        (gradient,) = torch.autograd.grad(plan.logits.sum(), x)
    assert gradient.isfinite().all()


def test_scaled_weights_contract_and_are_learned():
    planner = make(VIN, contraction=0.5)
    with torch.no_grad():
        planner.from_value.weight.mul_(100)
    plan = planner(maps())
    assert plan.converged.all() and plan.iterations.max() < 60
    assert gradients(planner, maps().requires_grad_())[-2].abs().max() > 0


@pytest.mark.parametrize("kind", [VIN, ConvGPPN])
def test_one_cell_any_size_and_single_precision(kind):
    planner = kind(hidden=4, iterations=200, **({"contraction": 0.9} if kind is VIN else {}))
    for shape in ((1, 1), (3, 8)):
        assert planner(torch.ones(2, 2, *shape)).logits.shape == (2, 4, *shape)


def test_bad_arguments_are_named():
    for said, call in (
        ("iterations", lambda: VIN(iterations=0)),
        ("tolerance", lambda: ConvGPPN(tolerance=0.0)),
        ("backward", lambda: VIN(backward="truncated")),
        ("contraction", lambda: VIN(contraction=1.0)),
        ("kernel", lambda: VIN(kernel=2)),
        ("kernel", lambda: ConvGPPN(kernel=0)),
        ("maps", lambda: VIN()(torch.ones(2, 5, 5))),
        ("maps", lambda: VIN()(torch.ones(1, 2, 0, 5))),
    ):
        with pytest.raises(ValueError, match=said):
            call()
