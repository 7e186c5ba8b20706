"""Image pyramids of surface views for coarse-to-fine alignment."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.masks import heaviside, pad
from gradslam_ng.structures import SurfaceView


def downsample(view: SurfaceView) -> SurfaceView:
    """Every second pixel of every second row, from the second on, the camera's K with it; intensity as the mean of what
    is seen around there."""
    K = view.K.clone()
    K[..., :2, :2] = view.K[..., :2, :2] / 2
    K[..., :2, 2] = (view.K[..., :2, 2] - 1) / 2
    vertices, normals, weights, intensity = subsample(view.vertices, view.normals, view.weights, view.intensity)
    return replace(view, vertices=vertices, normals=normals, weights=weights, K=K, intensity=intensity)


@compiled(batched=True)
def subsample(
    vertices: Tensor,  # (B, H, W, 3)
    normals: Tensor,  # (B, H, W, 3)
    weights: Tensor,  # (B, H, W)
    intensity: Tensor | None,  # (B, H, W)
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The images of `downsample`."""
    second = (slice(None), slice(1, None, 2), slice(1, None, 2))
    some_vertices, some_normals, some_weights = (image[second].clone() for image in (vertices, normals, weights))
    if intensity is None:
        return some_vertices, some_normals, some_weights, None
    height, width = some_weights.shape[1:]
    seen = heaviside(weights)
    bright, seen = (pad(pad(image, 1, -1), 1, -2) for image in (intensity * seen, seen))
    total, share = torch.zeros_like(some_weights), torch.zeros_like(some_weights)
    for dv in (1, 2, 3):
        for du in (1, 2, 3):
            there = (slice(None), slice(dv, dv + 2 * height - 1, 2), slice(du, du + 2 * width - 1, 2))
            total, share = total + bright[there], share + seen[there]
    mean = total / (share + (1.0 - heaviside(share)))
    return some_vertices, some_normals, some_weights, mean
