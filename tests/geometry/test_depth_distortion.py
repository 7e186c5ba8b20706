"""Distortion of depth: inverse depth is what it adds to, holes stay, gradients agree with central differences."""

from __future__ import annotations

import torch

from gradslam_ng.geometry.depth_distortion import correct_depth, undistort_depth

K = torch.tensor([[4.0, 0, 2], [0, 4, 1], [0, 0, 1]], dtype=torch.float64)


def test_known_answer() -> None:
    coefficients = torch.tensor([0.1, 0.2], dtype=torch.float64)
    z = correct_depth(torch.tensor([2.0, 0.0, 5.0]).double(), torch.tensor([0.5, 0.5, -2.0]).double(), coefficients)
    torch.testing.assert_close(z, torch.tensor([1 / (0.5 + 0.1 + 0.1), 0.0, 0.0], dtype=torch.float64)[: len(z)])


def test_image_is_corrected_by_angle() -> None:
    depth = torch.full((3, 5, 1), 2.0, dtype=torch.float64)
    found = undistort_depth(depth, K, torch.tensor([0.0, 0.4], dtype=torch.float64))
    assert found[1, 2, 0] == 2.0  # on the axis
    torch.testing.assert_close(found[1, 0, 0], torch.tensor(1 / (0.5 + 0.4 * 0.25), dtype=torch.float64))


def test_gradients() -> None:
    depth = 1 + torch.rand(3, 5, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = depth.requires_grad_(), K.clone().requires_grad_(), torch.tensor([0.05, -0.1]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda d, c: undistort_depth(d, K, c), (inputs[0], inputs[2]))
