"""Sparse normal equations against dense ones: structure, factor, solution and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.posegraph import tower
from gradslam_ng import FactorGraph, optim
from gradslam_ng.optim import BlockSparse, Pattern
from gradslam_ng.optim.linear import factor, observed_inverse
from gradslam_ng.optim.sparse import block_sparse, cholmod, multifrontal
from gradslam_ng.optim.sparse.blocks import NotPositiveDefinite
from gradslam_ng.optim.sparse.elimination import postorder

SHAPES = {  # sizes of the blocks, and how many edges
    "one block": ([3], 0),
    "diagonal": ([2, 2, 2, 2], 0),
    "mixed sizes": ([6, 3, 1, 6, 2, 3, 6, 1, 3], 14),
    "chain of poses": ([6] * 40, 39),
    "dense": ([2] * 12, 66),
    "many": ([3] * 300, 900),
}


@pytest.fixture(autouse=True, params=[multifrontal, cholmod], ids=["multifrontal", "cholmod"])
def factorization(request, monkeypatch):
    """Every way to factorize that is installed."""
    if request.param is cholmod and not cholmod.installed():
        pytest.skip("scikit-sparse is not installed")
    monkeypatch.setattr(block_sparse, "factorization", request.param)
    return request.param


def matrix(name: str, batch: tuple[int, ...] = (), seed: int = 0) -> BlockSparse:
    """Random, positive definite."""
    sizes, count = SHAPES[name]
    random = np.random.default_rng(seed)
    n = len(sizes)
    if name == "chain of poses":
        rows, cols = np.arange(1, n), np.arange(n - 1)
    else:
        rows, cols = random.integers(0, n, (2, count))
    pattern = Pattern(np.array(sizes), rows=rows, cols=cols)
    values = torch.randn(*batch, pattern.nnz, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    H = BlockSparse(values, pattern).dense()
    H = 0.5 * (H + H.mT)
    H = H + (1 + H.abs().sum(-1)).diag_embed()
    row, col = pattern.places
    return BlockSparse(H[..., row, col], pattern)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("batch", [(), (2,), (2, 2)])
def test_solves_as_dense_equations_do(name, batch):
    H = matrix(name, batch)
    b = torch.randn(*batch, H.pattern.n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    dense = H.dense()
    torch.testing.assert_close(dense, dense.mT)
    torch.testing.assert_close(factor(H).solve(b), torch.linalg.solve(dense, b))
    torch.testing.assert_close(observed_inverse(H)(b), torch.linalg.solve(dense, b))
    damped = dense + 0.3 * dense.diagonal(dim1=-2, dim2=-1).diag_embed()
    torch.testing.assert_close(factor(H, 0.3).solve(b), torch.linalg.solve(damped, b))


@pytest.mark.parametrize("name", ["one block", "mixed sizes", "dense"])
def test_gradients_to_the_matrix_the_right_side_and_the_damping(name):
    H = matrix(name, (2,))
    b = torch.randn(2, H.pattern.n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def solved(values, b, damping):
        return factor(BlockSparse(values, H.pattern), damping).solve(b)

    inputs = (
        H.values.requires_grad_(),
        b.requires_grad_(),
        torch.full((2,), 0.1, dtype=torch.float64).requires_grad_(),
    )
    found = torch.autograd.grad(solved(*inputs).sin().sum(), inputs)

    def densely(values, b, damping):
        dense = BlockSparse(values, H.pattern).dense()
        # a block on the diagonal is stored whole, and its two triangles are one unknown each
        D = dense.diagonal(dim1=-2, dim2=-1).diag_embed()
        return torch.linalg.solve(dense + damping[:, None, None] * D, b)

    expected = torch.autograd.grad(densely(*inputs).sin().sum(), inputs)
    row, col = H.pattern.places
    for mine, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10)
    # what both agree on is the derivative to symmetric changes
    change = torch.randn_like(H.values).detach()
    symmetric = BlockSparse(change, H.pattern).dense()
    symmetric = (0.5 * (symmetric + symmetric.mT))[..., row, col]
    torch.testing.assert_close((found[0] * symmetric).sum(), (expected[0] * symmetric).sum(), rtol=1e-8, atol=1e-10)


def test_factor_without_damping_is_made_once():
    H = matrix("many")
    assert H.factor() is H.factor()
    assert H.factor(0.1) is not H.factor()


def test_what_nothing_observes_does_not_move():
    H = matrix("mixed sizes")
    empty = BlockSparse(torch.zeros_like(H.values), H.pattern)
    zero = torch.zeros(H.pattern.n, dtype=torch.float64)
    assert (factor(empty).solve(zero) == 0).all()
    pattern = Pattern(np.array([2, 2]), rows=np.array([1]), cols=np.array([0]))
    W = torch.tensor([[1.0, 0, -1, 0], [0, 1, 0, -1]], dtype=torch.float64)  # only the difference of the two is known
    row, col = pattern.places
    H = BlockSparse((W.mT @ W)[row, col], pattern)
    g = W.mT @ torch.tensor([3.0, 1.0], dtype=torch.float64)
    step = factor(H).solve(g)
    torch.testing.assert_close(W @ step, torch.tensor([3.0, 1.0], dtype=torch.float64), rtol=1e-5, atol=1e-5)


def test_an_indefinite_matrix_gets_more_damping_and_nan_stays_nan(factorization):
    pattern = Pattern(np.array([2, 2]), rows=np.array([1]), cols=np.array([0]))
    row, col = pattern.places
    W = torch.tensor([[1.0, 0, -1, 0], [0, 1, 0, -1]], dtype=torch.float64)
    H = BlockSparse((W.mT @ W - 1e-9 * torch.eye(4, dtype=torch.float64))[row, col], pattern)
    b = torch.ones(4, dtype=torch.float64)
    with pytest.raises(NotPositiveDefinite):
        factorization.Numeric(pattern.symbolic, values=H.values.numpy())
    assert factor(H).solve(b).isfinite().all()
    H = BlockSparse(torch.where(torch.arange(pattern.nnz) == 3, torch.nan, H.values), pattern)
    assert factor(H).solve(b).isnan().all()


def test_fill_in_stays_linear_for_a_long_chain():
    """Minimum degree on a ring with chords from one lap to the next: a band, whatever its length."""

    def stored(n):
        i = np.arange(n - 1)
        far = np.arange(0, n - 50, 5)
        pattern = Pattern(np.full(n, 6), rows=np.concatenate([i + 1, far + 50]), cols=np.concatenate([i, far]))
        symbolic = multifrontal.Symbolic(pattern.sizes, rows=pattern.rows, cols=pattern.cols)
        return sum(node.width * (node.width + len(node.rows)) for node in symbolic.nodes)

    assert stored(4000) < 2.5 * stored(2000)


def test_each_subtree_of_the_elimination_tree_is_eliminated_in_one_go():
    """So what supernodes leave waits for siblings only, and those that need most come first."""
    assert postorder([3, 2, 3, -1], [5, 10, 1, 0]) == [1, 2, 0, 3]
    parents, left = [5, 6, 5, 6, 7, 6, 8, 8, -1, -1], [1, 2, 9, 2, 3, 4, 4, 1, 0, 0]
    order = postorder(parents, left)
    assert sorted(order) == list(range(len(parents)))
    descendants = {node: {node} for node in range(len(parents))}
    for node, parent in enumerate(parents):
        if parent >= 0:
            descendants[parent] |= descendants[node]
    for at, node in enumerate(order):
        assert set(order[at + 1 - len(descendants[node]) : at + 1]) == descendants[node]


def test_a_graph_is_solved_with_the_memory_of_one_factor(monkeypatch, factorization):
    """That of the step before is let go, also of the first, which the caller has."""
    if factorization is cholmod:
        pytest.skip("its factors are its own")
    made, borrow = [], multifrontal.Symbolic.borrow

    def note(self):
        made.append(not self._spare)
        return borrow(self)

    monkeypatch.setattr(multifrontal.Symbolic, "borrow", note)
    graph = tower(60)
    problem = FactorGraph()
    problem.add_variables("pose", optim.SE3(), graph.T)
    problem.add_between("pose", graph.i, graph.j, graph.T_ij)
    with torch.no_grad():
        problem.optimize(optim.GaussNewton(), 4)
    assert len(made) >= 4 and sum(made) == 1
