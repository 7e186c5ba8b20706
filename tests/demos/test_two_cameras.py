from __future__ import annotations

import torch

from gradslam_ng.geometry import se3


def motions(module, noise: float = 0.0):
    generator = torch.Generator().manual_seed(0)
    B = se3.exp(0.3 * torch.randn(20, 6, dtype=torch.float64, generator=generator))
    X = se3.exp(module.MOUNTING)
    wobble = torch.randn(20, 6, dtype=torch.float64, generator=generator) * module.SIGMA * noise
    return se3.exp(wobble) @ X @ B @ se3.inverse(X), B, X


def test_exact_motions_give_the_mounting(demo):
    module = demo("two_cameras")
    A, B, X = motions(module)
    found, covariance = module.calibrate(A, B)
    torch.testing.assert_close(found, X, rtol=0, atol=1e-6)
    assert torch.linalg.eigvalsh(covariance).min() > 0


def test_errors_are_of_the_size_that_the_graph_expects_and_the_gradient_is_right(demo):
    module = demo("two_cameras")
    A, B, X = motions(module, noise=1.0)
    A.requires_grad_()
    found, covariance = module.calibrate(A, B)
    error = se3.log(found @ se3.inverse(X))
    assert (error.detach() / covariance.diagonal().sqrt()).abs().max() < 4
    error.norm().backward()
    assert module.check(A.detach(), B, A.grad, X) < 1e-4


def test_two_cameras_find_their_mounting_by_slam(demo, tmp_path):
    """Twelve frames of 120 x 90: centimeters and degrees, and a gradient to the depth of both."""
    numbers = demo("two_cameras").main(tmp_path, size=(90, 120), frames=12, every=3, spans=(4, 8))
    assert numbers["translation error, mm"] < 80 and numbers["rotation error, degrees"] < 3
    assert numbers["check of one gradient, relative"] < 1e-3
    assert (tmp_path / "two_cameras.png").stat().st_size > 10_000
