"""Sums, subspaces and checkpointed terms are problems like others."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from gradslam_ng import optim


@dataclass(frozen=True)
class Distance:
    """0.5 w |x - y|^2 of x (..., n)."""

    y: Tensor
    w: Tensor

    def linearize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eye = torch.eye(x.shape[-1], dtype=x.dtype).expand(*x.shape, x.shape[-1])
        return self.w * eye, self.w * (x - self.y), self.error(x)

    def error(self, x: Tensor) -> Tensor:
        return 0.5 * self.w * (x - self.y).square().sum(-1)


X = torch.zeros(2, 3, dtype=torch.float64)


def terms(requires_grad: bool = False) -> tuple[Distance, Distance]:
    numbers = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b, w = numbers[0].clone(), numbers[1].clone(), torch.tensor(3.0, dtype=torch.float64)
    one = torch.tensor(1.0, dtype=torch.float64)
    for tensor in (a, b, w):
        tensor.requires_grad_(requires_grad)
    return Distance(a, one), Distance(b, w)


def test_a_sum_is_solved_between_its_terms():
    first, second = terms()
    problem = optim.Sum(first, second, variable=optim.Euclidean())
    x = optim.solve(problem, X, optim.GaussNewton(), 1).x
    assert torch.allclose(x, (first.y + 3 * second.y) / 4)
    assert torch.allclose(problem.error(x), first.error(x) + second.error(x))
    assert torch.allclose(problem.error(x), problem.linearize(x)[2])


def test_a_sum_of_sums_is_their_sum():
    first, second = terms()
    inner = optim.Sum(first, second, variable=optim.Euclidean())
    outer = optim.Sum(inner, variable=optim.Euclidean())
    for a, b in zip(inner.linearize(X), outer.linearize(X), strict=True):
        assert torch.equal(a, b)


def test_nothing_is_no_problem():
    with pytest.raises(ValueError, match="at least one"):
        optim.Sum(variable=optim.Euclidean())


@pytest.mark.parametrize("strategy", [optim.GaussNewton(), optim.SoftLevenbergMarquardt()])
def test_a_subspace_keeps_the_other_directions(strategy):
    first, _ = terms()
    free = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    problem = optim.Sum(optim.Subspace(first, free), variable=optim.Euclidean())
    x = optim.solve(problem, X, strategy, 10).x
    assert (x[:, [0, 2]] == 0).all() and torch.allclose(x[:, 1], first.y[:, 1], atol=1e-2)
    assert torch.equal(problem.error(x), first.error(x))


def test_checkpointed_terms_have_the_same_values_and_gradients():
    gradients = []
    for wrap in (lambda term: term, optim.Checkpointed):
        first, second = terms(requires_grad=True)
        problem = optim.Sum(wrap(first), wrap(second), variable=optim.Euclidean())
        x = optim.solve(problem, X, optim.LevenbergMarquardt(), 3).x
        value = x.square().sum() + problem.error(x).sum()
        gradients.append((value.detach(), *torch.autograd.grad(value, [first.y, second.y, second.w])))
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-12)
