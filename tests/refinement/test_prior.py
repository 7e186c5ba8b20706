"""What a run claims of its poses, as a factor on them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gradslam_ng.geometry import se3
from gradslam_ng.refinement.prior import PosePrior


@pytest.fixture
def prior():
    generator = torch.Generator().manual_seed(0)
    xi, A = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, 6), (4, 6, 6)))
    covariances = A @ A.mT + 0.1 * torch.eye(6)
    covariances[0], covariances[3] = 0.0, torch.nan  # given, and none
    return PosePrior.of_run(SimpleNamespace(covariances=covariances), torch.arange(4), se3.exp(0.3 * xi))


def test_error_is_half_the_mahalanobis_distance(prior):
    delta = 0.1 * torch.arange(24, dtype=torch.float64).reshape(4, 6) / 24
    error = prior.linearize(prior.T_wk @ se3.exp(delta)).error
    expected = sum(0.5 * delta[k] @ torch.linalg.solve(prior.covariance[k], delta[k]) for k in (1, 2))
    assert float(error) == pytest.approx(float(expected))
    assert prior.known.tolist() == [False, True, True, False]


def test_gradient_is_that_of_the_error(prior):
    generator = torch.Generator().manual_seed(1)
    T = se3.exp(0.2 * torch.randn(4, 6, generator=generator, dtype=torch.float64)) @ prior.T_wk
    direction = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    ahead, behind = (prior.linearize(se3.exp(e * direction) @ T).error for e in (1e-6, -1e-6))
    reduced = prior.linearize(T)
    assert float((ahead - behind) / 2e-6) == pytest.approx(float(reduced.g @ direction.flatten()), rel=1e-6)
    assert torch.allclose(reduced.H, reduced.H.mT) and not reduced.H[:6].any() and not reduced.H[18:].any()
    assert prior.sigma == pytest.approx(
        float(prior.covariance[1:3, :3, :3].diagonal(dim1=-2, dim2=-1).sum(-1).mean().sqrt())
    )
