from __future__ import annotations

import pytest
import torch

from gradslam_ng.compute import safe


def test_division_is_that_of_torch_where_it_counts_and_has_no_gradient_elsewhere():
    a = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([2.0, 0.0, torch.inf], dtype=torch.float64, requires_grad=True)
    ok = torch.tensor([True, False, False])
    quotient = safe.divide(a, b, ok, otherwise=7.0)
    assert quotient.tolist() == [0.5, 7.0, 7.0]
    quotient.sum().backward()
    assert a.grad.tolist() == [0.5, 0.0, 0.0] and b.grad.tolist() == [-0.25, 0.0, 0.0]


def test_rsqrt_of_zero_is_zero_without_gradient():
    x = torch.tensor([4.0, 0.0, -1.0], requires_grad=True)
    y = safe.rsqrt(x, x > 0)
    assert y.tolist() == [0.5, 0.0, 0.0]
    y.sum().backward()
    assert x.grad.tolist() == [-0.0625, 0.0, 0.0]


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_normalized_vectors(lead):
    v = torch.randn(*lead, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.testing.assert_close(safe.normalize(v), torch.nn.functional.normalize(v, dim=-1))
    assert torch.autograd.gradcheck(safe.normalize, v)
    zero = torch.zeros(*lead, 3, requires_grad=True)
    safe.normalize(zero).sum().backward()
    assert (safe.normalize(zero) == 0).all() and (zero.grad == 0).all()


def test_a_mask_selects_among_entries_of_any_shape():
    mask = torch.tensor([True, False])
    for like in (torch.ones(2), torch.ones(2, 3), torch.ones(2, 3, 4)):
        assert torch.equal(torch.where(safe.expand_mask(mask, like), like, 0.0)[1], torch.zeros(like.shape[1:]))
