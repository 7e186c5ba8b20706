"""ScanNet (Dai et al. 2017), as its SensReader exports it."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.datasets.files import FRAME_RATE, FileSequence
from gradslam_ng.datasets.intrinsics import Intrinsics, parse_intrinsics, read_intrinsics
from gradslam_ng.datasets.sequence import STRUCTURED_LIGHT_RANGE
from gradslam_ng.datasets.text import by_number, per_frame_truth, read_poses
from gradslam_ng.geometry.camera import pixel_grid, sample, scale_intrinsics


class ScanNet(FileSequence):
    """A folder with `color/N.jpg`, `depth/N.png`, `pose/N.txt` and `intrinsic/intrinsic_{depth,color}.txt`.

    Frames have the camera of the depth images; the larger color images are resampled to it, from their own camera
    where `intrinsic_color.txt` is there. A pose of -inf marks a lost frame. Time stamps are frame numbers at 30 Hz.

    Args:
        folder: of the exported scene.
        intrinsics: K as (3, 3) or fx, fy, cx, cy, pixels, of the depth images; default `intrinsic_depth.txt`.
        depth_scale: units of the depth files in a meter.

    Raises:
        ValueError: a pose or intrinsics file is not as described; names it.
        FileNotFoundError: no intrinsics, or no frame has both its files.
    """

    layout = "scannet"
    expected_files = "color/, depth/, pose/ and intrinsic/intrinsic_depth.txt"
    max_depth = STRUCTURED_LIGHT_RANGE
    same_size = False

    def __init__(
        self, folder: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float = 1000.0
    ) -> None:
        folder = Path(folder)
        if intrinsics is None:
            K = read_intrinsics(folder / "intrinsic" / "intrinsic_depth.txt")[0]
        else:
            K = parse_intrinsics(intrinsics)
        color_camera = folder / "intrinsic" / "intrinsic_color.txt"
        self.K_color = read_intrinsics(color_camera)[0].float() if color_camera.is_file() else None
        color, depth = by_number((folder / "color").glob("*.jpg")), by_number((folder / "depth").glob("*.png"))
        poses = by_number((folder / "pose").glob("*.txt"))
        timestamps = torch.tensor([key[-1] for key in color], dtype=torch.float64) / FRAME_RATE
        super().__init__(
            name=folder.resolve().name,
            layout=self.layout,
            color=list(color.values()),
            depth=[depth.get(key, folder / "depth" / f"{key[-1]}.png") for key in color],
            K=K,
            timestamps=timestamps,
            depth_scale=depth_scale,
            notes=["camera: that of the depth images, color resampled to it", "time stamps: frame numbers at 30 Hz"],
            **(per_frame_truth(read_poses([poses.get(key) for key in color]), timestamps) if poses else {}),
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        return (folder / "intrinsic" / "intrinsic_depth.txt").is_file() and (folder / "depth").is_dir()

    def register_images(self, index: int, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        self.check_size(index, self.depth[index], depth)
        return resample(color, self.K_color, self.K, self.size), depth


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
