"""The normal equations that are left when each surfel's own unknown is eliminated."""

from __future__ import annotations

import torch

from gradslam_ng import optim
from gradslam_ng.refinement.elimination import eliminate, robust_location


def problem(count: int = 3, surfels: int = 7):
    generator = torch.Generator().manual_seed(1)
    measured, information = (torch.rand(count, surfels, generator=generator, dtype=torch.float64) for _ in range(2))
    J = torch.randn(count, surfels, 6, generator=generator, dtype=torch.float64)
    information[0, 0] = 0.0  # not seen there
    return measured, J, information


def test_it_is_the_schur_complement_of_the_whole_problem():
    measured, J, information = problem()
    count, surfels = measured.shape
    whole = torch.zeros(count * surfels, 6 * count + surfels, dtype=torch.float64)
    for k in range(count):
        for s in range(surfels):
            whole[k * surfels + s, 6 * k : 6 * k + 6] = J[k, s]
            whole[k * surfels + s, 6 * count + s] = -1
    normal = whole.mT @ (information.flatten()[:, None] * whole)
    A, B, C = normal[: 6 * count, : 6 * count], normal[: 6 * count, 6 * count :], normal[6 * count :, 6 * count :]
    found = eliminate(measured, J, information, optim.Tukey(1e3))  # so wide that nothing is an outlier
    assert torch.allclose(found.H, A - B @ torch.linalg.solve(C, B.mT), atol=1e-5)
    mean = (information * measured).sum(0) / information.sum(0)
    assert torch.allclose(found.error, 0.5 * (information * (measured - mean).square()).sum(), rtol=1e-3)


def test_the_gradient_is_that_of_the_error():
    measured, J, information = problem()
    information = 4 * information  # so that some residuals are beyond half the kernel's width
    delta = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    moved = measured + (J * delta[:, None]).sum(-1)
    found = eliminate(moved, J, information, optim.Tukey(2.0))
    (expected,) = torch.autograd.grad(found.error, delta)
    assert torch.allclose(found.g, expected.flatten(), atol=1e-6)


def test_an_outlier_does_not_move_the_location():
    measured = torch.tensor([[1.0], [1.1], [0.9], [30.0]], dtype=torch.float64)
    information = torch.ones_like(measured)
    information[3] = 0.1
    assert robust_location(measured, information, optim.Tukey(4.0)).item() == torch.tensor(1.0).item()


def test_what_nobody_measures_has_no_part():
    nothing = torch.zeros(3, 2, dtype=torch.float64)
    found = eliminate(nothing, torch.ones(3, 2, 6, dtype=torch.float64), nothing, optim.Tukey(4.0))
    assert not found.H.any() and not found.g.any() and found.error == 0
    assert not robust_location(nothing, nothing, optim.Tukey(4.0)).any()
