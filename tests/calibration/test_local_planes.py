"""Depth smoothed by planes: exact on planes, holes and edges kept, noise of a structured-light camera without bias."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.calibration.local_planes import RADIUS, fit_depth

H, W = 40, 60


def slanted_wall() -> Tensor:
    """(1, H, W), meters: inverse depth is linear in the pixel."""
    v, u = torch.meshgrid(torch.arange(H).double(), torch.arange(W).double(), indexing="ij")
    return 1 / (0.4 + 0.002 * u - 0.001 * v)[None]


def test_planes_stay_to_the_border() -> None:
    torch.testing.assert_close(fit_depth(slanted_wall()), slanted_wall(), atol=1e-9, rtol=1e-9)


def test_noise_of_disparity_is_averaged_without_bias() -> None:
    """A fifth of it is left, the mean of 25; a mean of depths themselves would be longer by 1e-4 of them."""
    wall = slanted_wall()
    noise = 0.01 * torch.randn(200, H, W, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = fit_depth(wall / (1 + noise))
    error = (found / wall - 1)[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
    assert error.std() < 0.25 * 0.01 and abs(float(error.mean())) < 5e-5, (error.std(), error.mean())


def test_holes_and_edges_stay() -> None:
    """A hole is none to fill; of two surfaces side by side neither bends to the other; a lone pixel has no plane."""
    depth = slanted_wall()
    depth[:, :, W // 2 :] *= 1.5
    depth[:, 10:20, 10:20] = 0
    depth[:, 15, 15] = 2.0
    found, lone = fit_depth(depth), torch.zeros(1, H, W, dtype=torch.bool)
    lone[:, 15, 15] = True
    assert torch.equal(found == 0, (depth == 0) | lone)
    torch.testing.assert_close(found[found > 0], depth[found > 0])
