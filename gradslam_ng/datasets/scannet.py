"""ScanNet (Dai et al. 2017), as its SensReader exports it."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.datasets.camera_files import NAMES, Camera, find_camera, read_camera, unknown_camera
from gradslam_ng.datasets.files import FRAME_RATE, FileSequence
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.image_files import COLOR_ENDINGS, DEPTH_ENDINGS, find_images, match_numbers, visible_files
from gradslam_ng.datasets.images import image_kind
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.sequence import STRUCTURED_LIGHT_RANGE
from gradslam_ng.datasets.text import by_number, per_frame_truth, read_poses
from gradslam_ng.geometry.camera import pixel_grid, sample, scale_intrinsics

DEPTH_SCALE = 1000.0
OFF_CENTER = 0.15  # of the size of an image: a principal point farther from its center is that of another size


class ScanNet(FileSequence):
    """A folder with `color/N.jpg`, `depth/N.png`, `pose/N.txt` and `intrinsic/intrinsic_{depth,color}.txt`.

    Without `intrinsic/` the camera is that of the scene's own `sceneNNNN_NN.txt`, or of `intrinsics.txt` or `.json`.

    Frames have the camera of the depth images; the larger color images are resampled to it, from their own camera
    where `intrinsic_color.txt` is there. A pose of -inf marks a lost frame. Time stamps are frame numbers at 30 Hz.

    Args:
        folder: of the exported scene.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels, of the depth images; overrides the files'.
        depth_scale: units of the depth files in a meter; default: the camera file's, else 1000.

    Raises:
        ValueError: a pose or intrinsics file is not as described; names it.
        FileNotFoundError: no frame has both its files.
    """

    layout = "scannet"
    expected_files = "color/, depth/, pose/ and intrinsic/intrinsic_depth.txt"
    max_depth = STRUCTURED_LIGHT_RANGE
    same_size = False

    def __init__(
        self, folder: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        folder = Path(folder)
        color = by_number(find_images(folder / "color", COLOR_ENDINGS))
        depth = by_number(find_images(folder / "depth", DEPTH_ENDINGS))
        depth, depth_findings = match_numbers(list(color), depth, "depth images")
        poses = by_number(visible_files(folder / "pose", ".txt"))
        poses, pose_findings = match_numbers(list(color), poses, "poses")
        camera = _depth_camera(folder, intrinsics)
        self.K_color, color_findings = _color_camera(folder, list(color.values()))
        timestamps = torch.tensor([key[-1] for key in color], dtype=torch.float64) / FRAME_RATE
        super().__init__(
            name=folder.resolve().name,
            layout=self.layout,
            color=list(color.values()),
            depth=[depth.get(key, folder / "depth" / f"{key[-1]}.png") for key in color],
            camera=camera,
            timestamps=timestamps,
            depth_scale=depth_scale,
            default_scale=DEPTH_SCALE,
            notes=["color: resampled to the camera of the depth images", "time stamps: frame numbers at 30 Hz"],
            findings=[*color_findings, *depth_findings, *pose_findings],
            **(per_frame_truth(read_poses([poses.get(key) for key in color]), timestamps) if poses else {}),
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        if not (folder / "depth").is_dir():
            return False
        has_scene_file = (folder / "pose").is_dir() and (folder / f"{folder.resolve().name}.txt").is_file()
        return has_scene_file or (folder / "intrinsic" / "intrinsic_depth.txt").is_file()

    def register_images(self, index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        self.check_size(index, self.depth[index], depth, self.size)
        return resample(color, self.K_color, self.K, self.size), depth


def _depth_camera(folder: Path, intrinsics: Intrinsics | None) -> Camera:
    """The camera of the depth images."""
    names = ("intrinsic/intrinsic_depth.txt", f"{folder.resolve().name}.txt", *NAMES)
    camera = find_camera(intrinsics, [folder], names=names)
    if camera is None:
        raise ValueError(unknown_camera(folder))
    if camera.distortion is not None or camera.color is not None:
        raise ValueError(f"{folder}: expected a camera without distortion in this layout, got {camera.source}")
    return camera


def _color_camera(folder: Path, files: list[Path]) -> tuple[Tensor | None, list[Finding]]:
    """K (3, 3) of the color images, None where it is not known or is that of other images."""
    path = folder / "intrinsic" / "intrinsic_color.txt"
    told = read_camera(path) if path.is_file() else None
    if told is None:
        return None, []
    if told.distortion:
        raise ValueError(f"{path}: expected a camera without distortion in this layout, got {told.distortion}")
    height, width = next((image_kind(file)[0][:2] for file in files if _is_readable(file)), (0, 0))
    center = torch.tensor([width - 1, height - 1]) / 2
    if bool(((told.K[:2, 2] - center).abs() > OFF_CENTER * torch.tensor([width, height])).any()):
        text = f"{path.name} is not that of color images of {width}x{height}, which are taken to see what depth sees"
        return None, [Finding("warning", "camera.color", text)]
    return told.K.float(), []


def _is_readable(path: Path) -> bool:
    try:
        image_kind(path)
    except ValueError:
        return False
    return True


def resample(
    image: Tensor,  # (H', W', C)
    K_image: Tensor | None,  # (3, 3)
    K: Tensor,  # (3, 3)
    size: tuple[int, int],
) -> Tensor:
    """What a camera `K` of `size` (H, W) at the same place sees of an image of camera `K_image` (default: K, scaled).

    image (H', W', C), K_image and K (3, 3). Returns (H, W, C).
    """
    small = torch.nn.functional.interpolate(image.movedim(-1, 0)[None], size, mode="bilinear", antialias=True)
    small = small[0].movedim(0, -1)
    if K_image is None:
        return small
    K_small = scale_intrinsics(K_image, (size[1] / image.shape[1], size[0] / image.shape[0]))
    u, v = pixel_grid(*size, dtype=image.dtype).unbind(-1)
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    u = (K_small[0, 0] * x + K_small[0, 2]).clamp(0, size[1] - 1)  # at the rim, what is nearest
    v = (K_small[1, 1] * y + K_small[1, 2]).clamp(0, size[0] - 1)
    return sample(small, torch.stack([u, v], -1))
