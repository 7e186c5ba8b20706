"""Rays through pixels, and where in its pixel each passes."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.geometry import camera


@compiled
def ray_directions(
    T_wc: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    offset: Tensor | None,  # (H, W, 2), pixels
) -> Tensor:
    """Of the pixels' rays, (B, H, W, 3): world frame, of unit depth."""
    return (T_wc[:, None, None, :3, :3] * pixel_rays(K, size, offset)[..., None, :]).sum(-1)


def pixel_rays(
    K: Tensor,  # (B, 3, 3)
    size: tuple[int, int],
    offset: Tensor | None = None,  # (H, W, 2), pixels
) -> Tensor:
    """Through the pixels, `offset` from their centers: (B, H, W, 3), camera frame, of unit depth."""
    through = camera.unproject(torch.ones(K.shape[0], *size, 1, dtype=K.dtype, device=K.device), K)
    if offset is None:
        return through
    side, down = offset.to(K).unbind(-1)
    fx, skew, fy = (K[:, i, j, None, None] for i, j in ((0, 0), (0, 1), (1, 1)))
    down = down / fy
    return through + torch.stack([(side - skew * down) / fx, down, torch.zeros_like(down)], -1)


@functools.lru_cache(maxsize=4)  # of a stream every frame has one size
def low_discrepancy_offsets(size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """A place within each pixel, relative to its center, (H, W, 2), at most half a pixel away, evenly spread over
    neighbors (the R2 sequence of Roberts 2018, along rows and columns).

    What is compared with an image at the centers of its pixels alone sees it sharper there than between them, and
    pulls a camera towards whole pixels.
    """
    row, column = (torch.arange(n, dtype=torch.float64, device=device) for n in size)
    steps = [[0.7548776662466927, 0.5698402909980532], [0.5698402909980532, 0.3247179572447461]]
    along = torch.tensor(steps, dtype=torch.float32, device="cpu")
    place = column[:, None] * along[0].to(column) + row[:, None, None] * along[1].to(row)
    return place.frac() - 0.5
