"""One-pixel-deep scenes for fusion: what is merged can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gradslam_ng.geometry import camera
from gradslam_ng.structures import LiveFrame, SurfaceView

SIZE = (12, 16)
K = torch.tensor([[[15.0, 0, 7.5], [0, 15, 5.5], [0, 0, 1]]], dtype=torch.float64)


@pytest.fixture
def plane() -> Callable[..., LiveFrame]:
    """Function (z, color, sigma, batch) -> frame of a wall facing the camera; z is a depth or an image, 0 for holes."""

    def frame(z: float | Tensor, color: float = 0.5, sigma: float = 0.002, batch: int = 1) -> LiveFrame:
        depth = torch.as_tensor(z, dtype=torch.float64).expand(batch, *SIZE)[..., None]
        vertices = camera.unproject(depth, K)
        seen = (depth > 0).double()
        normals = seen * torch.tensor([0.0, 0, -1], dtype=torch.float64)
        surface = SurfaceView(vertices, normals, seen[..., 0], K.expand(batch, 3, 3))
        colors = torch.full((batch, *SIZE, 3), color, dtype=torch.float64)
        return LiveFrame(surface, colors, depth[..., 0], torch.full((batch, *SIZE), sigma, dtype=torch.float64), None)

    return frame


@pytest.fixture
def eye() -> Tensor:
    return torch.eye(4, dtype=torch.float64)[None]


@pytest.fixture
def yes() -> Tensor:
    return torch.tensor([True])
