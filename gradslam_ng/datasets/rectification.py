"""Rectification as a step of loading: color and depth as cameras took them become those of one pinhole camera."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gradslam_ng.datasets.camera import Camera, fit_camera
from gradslam_ng.datasets.intrinsics import ColorCamera
from gradslam_ng.geometry import images
from gradslam_ng.geometry.camera import sample, scale_intrinsics, unproject
from gradslam_ng.geometry.depth_distortion import undistort_depth
from gradslam_ng.geometry.lens import Lens, project_through, undistortion_map
from gradslam_ng.geometry.registration import RIM, register_color

SAME_SHAPE = 0.02  # relative difference of the scales of an image that was only resized


class Rectification:
    """Corrects depth, undoes lenses, registers color to depth and brings it to depth's size.

    What comes out has one camera, `K` (3, 3) float32 of `size`, that of depth. Where color has a camera of its own it
    is looked up there (`geometry.registration.register_color`), and a pixel has both or neither: without color there
    is no depth, since what follows needs both.

    Args:
        camera: of color images, to which depth is registered, of whatever size it is; or of depth, with a color camera
            of its own. Cameras are scaled where they belong to images of another size.
        size: height and width of depth images.
        color_size: those of color images.

    Raises:
        ValueError: a camera that is not that of its images; registered images of different shapes.
    """

    def __init__(self, camera: Camera, *, size: tuple[int, int], color_size: tuple[int, int]) -> None:
        self.size, self.color_size, self.is_registered = size, color_size, camera.color is None
        taken = fit_camera(camera, color_size if camera.color is None else size)
        if camera.color is None:
            color = ColorCamera(taken.K, torch.eye(4), color_size, taken.distortion, taken.lens_model)
            self.camera = _resize(taken, color_size, size)
        else:
            color, findings = _fit_color(camera.color, color_size, taken.source)
            self.camera = replace(taken, color=color, findings=(*taken.findings, *findings))
        self.K, self.K_color = self.camera.K.float(), color.K.float()
        self.T_color_depth = color.T_color_depth.float()
        lens = None if taken.distortion is None else Lens(taken.distortion, taken.lens_model)
        self.lens = None if color.distortion is None else Lens(color.distortion, color.lens_model)
        self.depth_at = None if lens is None else undistortion_map(self.K, lens, size)  # (H, W, 2)
        self.color_at = None if self.lens is None else undistortion_map(self.K_color, self.lens, color_size)
        self.lookup = None if self.is_registered else _Lookup.of(self)

    @torch.no_grad()
    def __call__(
        self,
        color: Tensor,  # (H', W', 3)
        depth: Tensor,  # (H, W, 1), meters
    ) -> tuple[Tensor, Tensor]:
        """Color (H, W, 3) and depth (H, W, 1) as `self.K` sees them."""
        depth = self.correct_depth(depth)
        if self.is_registered:
            return _shrink(self.undistort_color(color), self.size), depth
        if self.lookup is not None:
            color, seen = self.lookup(color)
        else:
            color, seen = register_color(color, depth, self.K_color, self.K, self.T_color_depth, self.lens)
        return color, torch.where(seen, depth, 0.0)

    @torch.no_grad()
    def apart(
        self,
        color: Tensor,  # (H', W', 3)
        depth: Tensor,  # (H, W, 1), meters
    ) -> tuple[Tensor, Tensor]:
        """Color and depth each as its own pinhole camera sees it, `self.K_color` and `self.K`; of registered images
        there is but `self.K`."""
        return self(color, depth) if self.is_registered else (self.undistort_color(color), self.correct_depth(depth))

    def correct_depth(self, depth: Tensor) -> Tensor:
        """Depth (H, W, 1), meters, as the pinhole camera `self.K` would measure it without error."""
        if self.camera.depth_distortion is not None:
            depth = undistort_depth(depth, self.K, torch.tensor(self.camera.depth_distortion, device="cpu"))
        return depth if self.depth_at is None else sample(depth, self.depth_at, mode="nearest")

    def undistort_color(self, color: Tensor) -> Tensor:
        """Color (H', W', 3) as the pinhole camera `self.K_color` sees it."""
        return color if self.color_at is None else sample(color, self.color_at)


class _Lookup:
    """The color of depth's pixels where both cameras are at one place: it does not depend on depth, and nothing is
    hidden. As in `register_color`, color images of a multiple of depth's size are shrunk by whole blocks first."""

    def __init__(self, uv: Tensor, *, seen: Tensor, factor: int) -> None:
        self.uv, self.seen, self.factor = uv, seen, factor  # (H, W, 2), pixels; (H, W, 1) bool

    @classmethod
    def of(cls, cameras: Rectification) -> _Lookup | None:
        """None where the cameras are apart."""
        if not torch.equal(cameras.T_color_depth, torch.eye(4)):
            return None
        (height, width), size = cameras.color_size, cameras.size
        factor = max(1, round(min(height / size[0], width / size[1])))
        rays = unproject(torch.ones(*size, 1), cameras.K).flatten(0, 1)
        uv, _, shown = project_through(cameras.lens, rays, scale_intrinsics(cameras.K_color, 1 / factor))
        last = torch.tensor([width // factor - 1, height // factor - 1], dtype=uv.dtype)
        inside = shown & ((uv >= -RIM) & (uv <= last + RIM)).all(-1)
        uv = torch.where(shown[:, None], uv.clamp(min=torch.zeros(2), max=last), 0.0)
        return cls(uv.unflatten(0, size), seen=inside.unflatten(0, size)[..., None], factor=factor)

    def __call__(self, color: Tensor) -> tuple[Tensor, Tensor]:
        color = images.downsample_color(color, self.factor) if self.factor > 1 else color
        return torch.where(self.seen, sample(color, self.uv), 0.0), self.seen


def _fit_color(color: ColorCamera, size: tuple[int, int], source: str) -> tuple[ColorCamera, tuple]:
    """The color camera of images of `size` (H, W), and what is odd about it; see `fit_camera`."""
    fitted = fit_camera(Camera(color.K, f"{source}, color", color.size, color.distortion), size)
    return replace(color, K=fitted.K, size=size), fitted.findings


def _resize(camera: Camera, color_size: tuple[int, int], size: tuple[int, int]) -> Camera:
    """The color camera at the size of depth images registered to it; ValueError where these have another shape."""
    scale = size[1] / color_size[1], size[0] / color_size[0]
    if abs(scale[0] / scale[1] - 1) > SAME_SHAPE:
        sizes = f"color is {color_size[1]}x{color_size[0]}, depth is {size[1]}x{size[0]}"
        raise ValueError(f"camera: {sizes}, of another shape: expected the depth camera too, or registered images")
    return replace(camera, K=scale_intrinsics(camera.K, scale), size=size)


def _shrink(color: Tensor, size: tuple[int, int]) -> Tensor:
    if color.shape[:2] == size:
        return color
    small = torch.nn.functional.interpolate(color.movedim(-1, 0)[None], size, mode="bilinear", antialias=True)
    return small[0].movedim(0, -1)
