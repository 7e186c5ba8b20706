"""Absorbing chains against dense solutions and closed forms, in order and factored; chains that never end."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng.planning import AbsorbingChain
from tests.planning.differences import assert_gradients


def random_chain(count=30, ways=4, total=0.95, seed=0):
    """rows, cols, weights with sums below 1."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(count).repeat_interleave(ways)
    cols = torch.randint(count, (count * ways,), generator=generator)
    weights = torch.rand(count * ways, generator=generator, dtype=torch.float64)
    return rows, cols, total * weights / torch.zeros(count, dtype=torch.float64).index_add(0, rows, weights)[rows]


def dense(rows, cols, weights, count):
    return torch.zeros(count, count, dtype=torch.float64).index_put((rows, cols), weights, accumulate=True)


@pytest.mark.parametrize("in_order", [False, True])
def test_it_meets_a_dense_solution_also_transposed(in_order):
    rows, cols, weights = random_chain(total=0.6)
    order = torch.rand(30, generator=torch.Generator().manual_seed(1)) if in_order else None
    chain = AbsorbingChain(weights, rows=rows, cols=cols, count=30, order=order)
    b = torch.randn(2, 3, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    A = torch.eye(30, dtype=torch.float64) - dense(rows, cols, weights, 30)
    torch.testing.assert_close(chain.solve(b), torch.linalg.solve(A, b.mT).mT, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(chain.solve_transposed(b), torch.linalg.solve(A.T, b.mT).mT, rtol=1e-11, atol=1e-11)
    assert (chain.sweeps > 0) == in_order
    assert chain.solve(b.float()).dtype == torch.float32


def test_gambler_is_ruined_as_the_closed_form_says():
    p, count = 0.3, 19
    own = torch.arange(count)
    rows, cols = torch.cat([own[:-1], own[1:]]), torch.cat([own[1:], own[:-1]])
    weights = torch.tensor([p, 1 - p], dtype=torch.float64).repeat_interleave(count - 1)
    b = torch.zeros(count, dtype=torch.float64)
    b[-1] = p  # wins from the last state
    k, ratio = torch.arange(1, count + 1, dtype=torch.float64), (1 - p) / p
    expected = (ratio**k - 1) / (ratio ** (count + 1) - 1)
    for order in (None, own.double()):
        chain = AbsorbingChain(weights, rows=rows, cols=cols, count=count, order=order)
        torch.testing.assert_close(chain.solve(b), expected, rtol=1e-9, atol=0)


def test_weights_that_all_lead_back_take_one_substitution():
    rows, cols = torch.arange(1, 1000), torch.arange(999)
    chain = AbsorbingChain(torch.ones(999), rows=rows, cols=cols, count=1000, order=torch.arange(1000.0))
    steps = chain.solve(torch.cat([torch.zeros(1), torch.ones(999)]))
    assert torch.equal(steps, torch.arange(1000.0)) and chain.sweeps == 1


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_meet_central_differences_to_second_order(in_order, transposed):
    rows, cols, weights = random_chain(8, 3)
    order = torch.arange(8.0) if in_order else None
    b = torch.linspace(-1, 1, 8, dtype=torch.float64)

    def loss(weights, b):
        chain = AbsorbingChain(weights, rows=rows, cols=cols, count=8, order=order)
        return (chain.solve_transposed(b) if transposed else chain.solve(b)).sin().sum()

    assert_gradients(lambda w: loss(w, b), weights, 1e-8)
    assert_gradients(lambda x: loss(weights, x), b, 1e-8)

    def slope(w):
        w = w if w.requires_grad else w.detach().requires_grad_()
        return torch.autograd.grad(loss(w, b), w, create_graph=True)[0].square().sum()

    assert_gradients(slope, weights, 1e-7)


def test_where_sweeps_do_not_converge_the_whole_is_factored():
    own = torch.arange(50)
    rows, cols = own[:-1], own[1:]  # all weight leads on in this order
    chain = AbsorbingChain(torch.ones(49).double(), rows=rows, cols=cols, count=50, order=own)
    assert chain.solve(torch.ones(50).double())[0].item() == pytest.approx(50)
    rows, cols = torch.cat([rows, cols]), torch.cat([cols, rows])
    chain = AbsorbingChain(torch.full((98,), 0.499).double(), rows=rows, cols=cols, count=50, order=own)
    b = torch.ones(50, dtype=torch.float64)
    A = torch.eye(50, dtype=torch.float64) - dense(rows, cols, chain.weights, 50)
    torch.testing.assert_close(chain.solve(b), torch.linalg.solve(A, b), rtol=1e-10, atol=0)
    assert chain.sweeps == 0


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("weight", [1.0, 1.2])
def test_ways_that_never_end_are_refused(in_order, weight):
    rows, cols = torch.tensor([0, 1, 2]), torch.tensor([1, 0, 0])
    chain = AbsorbingChain(
        torch.full((3,), weight), rows=rows, cols=cols, count=4, order=torch.arange(4) if in_order else None
    )
    with pytest.raises(ValueError, match="spectral radius"):
        chain.solve(torch.ones(4))


def test_no_transition_and_one_state():
    none = torch.zeros(0, dtype=torch.int64)
    for order in (None, torch.zeros(1)):
        chain = AbsorbingChain(torch.zeros(0), rows=none, cols=none, count=1, order=order)
        assert chain.solve(torch.tensor([3.0])).tolist() == [3.0]


def test_bad_arguments_are_named():
    rows, cols, weights = random_chain(5, 2)

    def chain(weights=weights, rows=rows, cols=cols, order=None):
        return AbsorbingChain(weights, rows=rows, cols=cols, count=5, order=order)

    for error, said, call in (
        (TypeError, "weights", lambda: chain(weights=[0.1])),
        (ValueError, "weights", lambda: chain(weights=-weights)),
        (ValueError, "weights.*finite", lambda: chain(weights=weights * torch.nan)),
        (ValueError, "weights", lambda: chain(weights=weights[1:])),
        (ValueError, "cols", lambda: chain(cols=cols[1:])),
        (ValueError, "states", lambda: chain(rows=rows + 1)),
        (ValueError, "order", lambda: chain(order=torch.arange(4))),
        (ValueError, "b: expected", lambda: chain().solve(torch.ones(4))),
        (ValueError, "b: expected finite", lambda: chain().solve(torch.full((5,), torch.inf))),
    ):
        with pytest.raises(error, match=said):
            call()
