"""A frame made ready: what tracking and fusion read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.geometry import camera, depth_noise, images
from gradslam_ng.structures.frames import RGBDFrames
from gradslam_ng.structures.surface import Camera, SurfaceView

Noise = Callable[[SurfaceView, Tensor], Tensor]  # of a surface and its colour (B, H, W, 3), to sigma (B, H, W), metres


def axial_noise(surface: SurfaceView, color: Tensor) -> Tensor:
    """The depth noise of a structured-light camera, from the depth alone; see `depth_noise.axial_sigma`."""
    return checkpoint(depth_noise.axial_sigma, surface.vertices[..., 2])


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """One frame of each of B sequences at working resolution."""

    surface: SurfaceView
    color: Tensor  # (B, H, W, 3)
    depth: Tensor  # (B, H, W), metres, as it was read, where the surface is smoothed; 0 for a hole
    sigma: Tensor  # (B, H, W), metres, standard deviation of the depth
    T_wc: Tensor | None  # (B, 4, 4), the pose that came with the frame, NaN where unknown

    @property
    def camera(self) -> Camera:
        return self.surface.camera

    @staticmethod
    def of(frame: RGBDFrames, factor: int = 1, noise: Noise = axial_noise) -> LiveFrame:
        """Images shrunk by `factor`, depth smoothed but for its edges; its surface and noise. frame (B,)."""
        K = frame.K if factor == 1 else camera.scale_intrinsics(frame.K, 1 / factor)
        color, depth, *surface, intensity = checkpoint(observe, frame.color, frame.depth, K, factor)
        surface = SurfaceView(*surface, K, intensity)
        return LiveFrame(surface, color, depth, noise(surface, color), frame.T_wc)

    def unsmoothed(self) -> LiveFrame:
        """With the surface where it was read; its normals are those of the smoothed one."""
        vertices = camera.unproject(self.depth[..., None], self.surface.K)
        return replace(self, surface=replace(self.surface, vertices=vertices))


@compiled(dynamic=())
def observe(color: Tensor, depth: Tensor, K: Tensor, factor: int) -> tuple[Tensor, ...]:
    """Colour (B, H / factor, W / factor, 3) and depth, without a channel; of the smoothed depth, vertices, normals, and
    1 or 0 for whether there is a normal; the intensity, without a channel."""
    depth = torch.where((depth > 0) & (depth < torch.inf), depth, 0.0)  # NaN too is no reading
    if factor > 1:
        color, depth = images.downsample_color(color, factor), images.downsample_depth(depth, factor)
    vertices = camera.unproject(images.bilateral_depth(depth), K)
    normals = images.normal_map(vertices)
    seen = (normals.detach() != 0).any(-1).to(depth.dtype)
    return color, depth[..., 0].clone(), vertices, normals, seen, images.intensity(color)[..., 0].clone()
