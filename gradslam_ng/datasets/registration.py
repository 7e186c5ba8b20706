"""Registration as a step of loading: raw color and depth images of two cameras become those of one pinhole camera."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gradslam_ng.datasets.camera_files import Camera, fit_camera
from gradslam_ng.datasets.intrinsics import ColorCamera
from gradslam_ng.geometry.camera import sample
from gradslam_ng.geometry.lens import Lens, undistortion_map
from gradslam_ng.geometry.registration import register_color


class Registration:
    """Undistorts depth, and looks up the color of its pixels; see `geometry.registration.register_color`.

    What comes out has the depth camera's K and size. A pixel has both or neither: without color there is no depth,
    since what follows needs both.

    Args:
        camera: the depth camera, of images of its size, with `color`.
        size: height and width of depth images.
        color_size: those of color images, to which the color camera's K is scaled where it belongs to others.

    Raises:
        ValueError: a camera that is not that of its images.
    """

    def __init__(self, camera: Camera, *, size: tuple[int, int], color_size: tuple[int, int]) -> None:
        if camera.color is None:
            raise ValueError(f"camera: {camera.source}: expected a color camera and T_color_depth, got one camera")
        color = fit_color(camera.color, color_size, camera.source)
        self.size, self.color_size = size, color_size
        self.K, self.K_color = camera.K.float(), color.K.float()
        self.T_color_depth = color.T_color_depth.float()
        self.lens = None if color.distortion is None else Lens(color.distortion, color.lens_model)
        lens = None if camera.distortion is None else Lens(camera.distortion, camera.lens_model)
        self.seen_at = None if lens is None else undistortion_map(self.K, lens, size)  # (H, W, 2)

    @torch.no_grad()
    def __call__(
        self,
        color: Tensor,  # (H', W', 3)
        depth: Tensor,  # (H, W, 1), meters
    ) -> tuple[Tensor, Tensor]:
        """Color (H, W, 3) and depth (H, W, 1) as `self.K` sees them."""
        if self.seen_at is not None:
            depth = sample(depth, self.seen_at, mode="nearest")
        color, seen = register_color(color, depth, self.K_color, self.K, self.T_color_depth, self.lens)
        return color, torch.where(seen, depth, 0.0)

    def undistort_color(
        self,
        color: Tensor,  # (H', W', 3)
    ) -> Tensor:
        """Color (H', W', 3) as the pinhole camera `self.K_color` sees it, not registered."""
        if self.lens is None:
            return color
        return sample(color, undistortion_map(self.K_color, self.lens, self.color_size))


def fit_color(color: ColorCamera, size: tuple[int, int], source: str) -> ColorCamera:
    """The color camera of images of `size` (H, W); see `fit_camera`."""
    fitted = fit_camera(Camera(color.K, f"{source}, color", color.size, color.distortion), size)
    return replace(color, K=fitted.K, size=size)
