"""Nearest neighbors in point clouds by k-d trees, where no camera says which point meets which."""

from __future__ import annotations

import torch
from torch import Tensor


class NearestNeighbors:
    """The points of B clouds, ready to be searched: a k-d tree each, on the CPU whatever the device.

    For clouds in space a tree beats comparing all pairs at any size (2,000 points: 20 times, 30,000: 130 times).

    Args:
        q: (B, M, 3), M at least 1. To batch clouds of different size, repeat a point of the smaller one.

    Raises:
        ValueError: another shape, no points, or a point that is not finite.
    """

    def __init__(self, q: Tensor) -> None:
        from scipy.spatial import cKDTree  # late: `import gradslam_ng` stays light

        if q.ndim != 3 or q.shape[-1] != 3 or q.shape[1] == 0:
            raise ValueError(f"points to search: expected shape (B, M, 3), M at least 1, got {tuple(q.shape)}")
        if not bool(q.isfinite().all()):
            raise ValueError("points to search: every one must be finite")
        self.trees = [cKDTree(cloud) for cloud in q.detach().cpu().numpy()]

    def __call__(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """For p (B, N, 3): index (B, N) int64 of the nearest point of the same cloud, and the distance (B, N), meters.

        Discrete choices, constants of the gradient. A point that is not finite gets index 0 and an infinite distance.

        Raises:
            ValueError: p is not (B, N, 3) with the B of the clouds.
        """
        if p.ndim != 3 or p.shape[-1] != 3 or len(p) != len(self.trees):
            raise ValueError(f"points: expected shape ({len(self.trees)}, N, 3), got {tuple(p.shape)}")
        finite = p.detach().isfinite().all(-1)
        clouds = torch.where(finite[..., None], p.detach(), 0.0).cpu().numpy()
        found = [tree.query(cloud) for tree, cloud in zip(self.trees, clouds, strict=True)]
        index = torch.stack([torch.from_numpy(i) for _, i in found]).to(p.device)
        distance = torch.stack([torch.from_numpy(d) for d, _ in found]).to(p)
        return torch.where(finite, index, 0), torch.where(finite, distance, torch.inf)


def nearest_neighbors(
    p: Tensor,  # (B, N, 3)
    q: Tensor,  # (B, M, 3)
) -> tuple[Tensor, Tensor]:
    """Index (B, N) int64 of, and distance (B, N) to, the point of q nearest to each p.

    See `NearestNeighbors`, which searches the same cloud many times.
    """
    return NearestNeighbors(q)(p)
