"""A camera with what its file tells besides, and how it belongs to the images at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.intrinsics import ColorCamera, Intrinsics, parse_intrinsics
from gradslam_ng.geometry.camera import scale_intrinsics
from gradslam_ng.geometry.lens import LensModel

SAME_SHAPE = 0.01  # relative difference of the horizontal and the vertical scale of an image that was only resized


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with what its file tells besides, and where it comes from."""

    K: Tensor  # (3, 3) float64, pixels
    source: str  # such as "intrinsics.txt"
    size: tuple[int, int] | None = None  # height and width of the images that K belongs to; None: those at hand
    distortion: tuple[float, ...] | None = None  # of the lens, k1, k2, p1, p2, ...
    depth_scale: float | None = None  # units of the depth files in a meter
    scale_source: str = ""  # where that comes from
    findings: tuple[Finding, ...] = ()
    is_assumed: bool = False  # nothing in the recording tells it
    is_certain: bool = False  # if assumed: but for the names of folder and files, which leave no doubt
    lens_model: LensModel = "brown_conrady"
    color: ColorCamera | None = None  # of color images that are not registered to depth, whose camera this is then
    time_offset: float = 0.0  # seconds: time stamps of color less those of depth of the same moment
    depth_distortion: tuple[float, float] | None = None  # 1/m, see `geometry.depth_distortion`

    @property
    def note(self) -> str:
        """One line for the user."""
        undone = self.distortion or (self.color is not None and self.color.distortion)
        registered = "" if self.color is None else ", color registered to depth"
        offset = f", color {1e3 * self.time_offset:+g} ms" if self.time_offset else ""
        depth = ", depth corrected" if self.depth_distortion else ""
        return f"camera: {self.source}" + (", distortion undone" if undone else "") + depth + registered + offset


def assumed(values: Intrinsics, size: tuple[int, int], data_set: str, is_certain: bool) -> Camera:
    """The camera of a data set, of images of `size` (H, W), for recordings that have its layout but tell no camera.

    is_certain: the names of folder and files leave no doubt that it is one of that data set.
    """
    K = parse_intrinsics(values)
    return Camera(K, f"that of {data_set}, assumed", size, is_assumed=True, is_certain=is_certain)


def fit_camera(camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera of images of `size` (H, W), scaled where it belongs to images of another size and the same shape.

    Raises:
        ValueError: images of another shape, or a principal point outside of them.
    """
    height, width = size
    if camera.is_assumed:
        camera = replace(camera, findings=(*camera.findings, _assumption(camera, size)))
    if camera.size is not None and camera.size != size:
        scale = width / camera.size[1], height / camera.size[0]
        sizes = f"belongs to images of {camera.size[1]}x{camera.size[0]}, these are {width}x{height}"
        same_shape = abs(scale[0] / scale[1] - 1) <= SAME_SHAPE
        if not same_shape and not camera.is_assumed:
            raise ValueError(f"camera: {camera.source} {sizes}, of another shape; give that of these images")
        shape = ": scaled to them" if same_shape else ", of another shape, so that it cannot be right: scaled to them"
        text = f"the camera, {camera.source}, {sizes}{shape}"
        finding = Finding("warning" if same_shape else "error", "camera.resized", text)
        K = scale_intrinsics(camera.K, scale)
        camera = replace(camera, K=K, size=size, findings=(*camera.findings, finding))
    cx, cy = camera.K[:2, 2].tolist()
    if not (0 < cx < width - 1 and 0 < cy < height - 1):
        raise ValueError(
            f"camera: {camera.source}: expected a principal point inside of the images, which are {width}x{height}; "
            f"got ({cx:g}, {cy:g}): is it the camera of images of another size?"
        )
    if camera.distortion and camera.K[0, 1] != 0:
        raise ValueError(f"camera: {camera.source}: expected no skew together with distortion, got {camera.K[0, 1]:g}")
    return camera


def _assumption(camera: Camera, size: tuple[int, int]) -> Finding:
    """That a camera is that of a data set; a mere note where names and the size of the images are its too."""
    K = camera.K
    numbers = " ".join(f"{value:g}" for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
    data_set = camera.source.removesuffix(", assumed")
    if camera.is_certain and camera.size == size:
        text = f"the camera is {data_set} (fx fy cx cy {numbers}), by the names of folder and files"
        return Finding("note", "camera.assumed", text)
    text = (
        f"the camera is assumed to be {data_set} (fx fy cx cy {numbers}), since nothing in the recording tells it; "
        "give it by --camera or in a file intrinsics.txt"
    )
    return Finding("warning", "camera.assumed", text)


def with_color(depth: Camera, color: Camera, T_color_depth: Tensor) -> Camera:
    """The camera of depth, with that of color beside it; T_color_depth (4, 4), meters."""
    beside = ColorCamera(color.K, T_color_depth, color.size, color.distortion, color.lens_model)
    return replace(depth, color=beside, findings=(*depth.findings, *color.findings))
