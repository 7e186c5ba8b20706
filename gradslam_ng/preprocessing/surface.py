"""Surface measurement: a depth image as vertices, normals and noise (Newcombe et al. 2011, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.geometry import camera, depth_noise, images
from gradslam_ng.structures import LiveFrame, RGBDFrames, SurfaceView

MAX_DEPTH = 50.0  # meters: no RGB-D camera measures as far; what it reports from there is saturated, or sky

Noise = Callable[[SurfaceView, Tensor], Tensor]  # of a surface and its color (B, H, W, 3), to sigma (B, H, W), meters


def axial_noise(surface: SurfaceView, color: Tensor) -> Tensor:  # color (B, H, W, 3)
    """The depth noise (B, H, W), meters, of a structured-light camera, from the depth alone; see
    `depth_noise.axial_sigma`."""
    return checkpoint(depth_noise.axial_sigma, surface.vertices[..., 2])


def measure_surface(
    frame: RGBDFrames, factor: int = 1, noise: Noise = axial_noise, max_depth: float = MAX_DEPTH
) -> LiveFrame:
    """Images shrunk by `factor`, depth smoothed but for its edges; its surface and noise. frame (B,).

    Depth beyond `max_depth`, meters, is no measurement: a hole, whose gradient is zero. So is depth that is not
    finite or not positive.
    """
    K = frame.K if factor == 1 else camera.scale_intrinsics(frame.K, 1 / factor)
    measured = checkpoint(measure_images, frame.color, frame.depth, K, factor, max_depth)
    color, depth, vertices, normals, weights, intensity = measured
    surface = SurfaceView(vertices, normals, weights, K, intensity)
    return LiveFrame(surface, color, depth, noise(surface, color), frame.T_wc)


def with_raw_vertices(live: LiveFrame) -> LiveFrame:
    """The frame with its vertices where depth was measured, without smoothing; the normals stay those of the smoothed
    surface."""
    vertices = camera.unproject(live.depth[..., None], live.surface.K)
    return replace(live, surface=replace(live.surface, vertices=vertices))


@compiled(dynamic=())
def measure_images(
    color: Tensor,  # (B, H, W, 3)
    depth: Tensor,  # (B, H, W, 1), meters
    K: Tensor,  # (B, 3, 3), of the shrunk images
    factor: int,
    max_depth: float,  # meters
) -> tuple[Tensor, ...]:
    """Color (B, H / factor, W / factor, 3) and depth, without a channel; of the smoothed depth, vertices, normals, and
    1 or 0 for whether there is a normal; the intensity, without a channel."""
    depth = torch.where((depth > 0) & (depth <= max_depth) & (depth < torch.inf), depth, 0.0)  # NaN too is a hole
    if factor > 1:
        color, depth = images.downsample_color(color, factor), images.downsample_depth(depth, factor)
    vertices = camera.unproject(images.bilateral_depth(depth), K)
    normals = images.normal_map(vertices)
    seen = (normals.detach() != 0).any(-1).to(depth.dtype)
    return color, depth[..., 0].clone(), vertices, normals, seen, images.intensity(color)[..., 0].clone()
