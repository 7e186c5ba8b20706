from __future__ import annotations

import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint


@dataclass(frozen=True)
class Pair:
    a: Tensor
    b: Tensor
    power: int


def function(pair: Pair, more: dict[str, Tensor], scale: float) -> dict[str, Tensor | tuple[Tensor, ...]]:
    product = (pair.a * pair.b).exp() ** pair.power
    return {"product": product, "others": (product.sum() * more["c"] * scale, pair.b > 0)}


@pytest.fixture
def leaves() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]


def evaluate(leaves: list[Tensor], evaluate) -> Tensor:
    result = evaluate(function, Pair(leaves[0], leaves[1], 2), {"c": leaves[2]}, 0.5)
    assert result["others"][1].dtype == torch.bool
    return result["product"].sum() + (result["others"][0] ** 2).sum()


def plain(function, *args):
    return function(*args)


def test_values_and_gradients_are_those_of_the_function(leaves):
    values, gradients, second = [], [], []
    for how in (plain, checkpoint):
        value = evaluate(leaves, how)
        first = torch.autograd.grad(value, leaves, create_graph=True)
        values.append(value)
        gradients.append(torch.cat(first))
        second.append(torch.cat(torch.autograd.grad(gradients[-1].square().sum(), leaves)))
    for mine, theirs in (values, gradients, second):
        assert torch.allclose(mine, theirs, rtol=1e-12)


def test_arguments_that_need_no_gradient_get_none(leaves):
    a, b, c = leaves
    (expected,) = torch.autograd.grad(evaluate([a, b.detach(), c.detach()], plain), [a])
    (found,) = torch.autograd.grad(evaluate([a, b.detach(), c.detach()], checkpoint), [a])
    assert torch.allclose(found, expected)


def test_backward_twice(leaves):
    value = evaluate(leaves, checkpoint)
    first = torch.autograd.grad(value, leaves, retain_graph=True)
    assert all(torch.equal(x, y) for x, y in zip(first, torch.autograd.grad(value, leaves), strict=True))


def test_only_arguments_are_kept(leaves):
    kept, born = [], []

    def long(x: Tensor) -> Tensor:
        for _ in range(10):
            x = x.exp().sin()
            born.append(weakref.ref(x))
        return x.sum()

    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        value = checkpoint(long, leaves[0])
    assert len(kept) == 1 and not any(ref() is not None for ref in born)
    value.backward()
    assert len(born) == 20 and leaves[0].grad.isfinite().all()


def test_without_gradients_it_is_a_plain_call(leaves):
    with torch.no_grad():
        assert torch.equal(evaluate(leaves, checkpoint), evaluate(leaves, plain))


def test_within_a_checkpoint(leaves):
    from torch.utils.checkpoint import checkpoint as torch_checkpoint

    plain_gradients = torch.autograd.grad(evaluate(leaves, plain), leaves)
    value = torch_checkpoint(evaluate, leaves, checkpoint, use_reentrant=False)
    for mine, theirs in zip(torch.autograd.grad(value, leaves), plain_gradients, strict=True):
        assert torch.allclose(mine, theirs)
