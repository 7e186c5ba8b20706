"""ScanNet (Dai et al. 2017), as its SensReader exports it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from gradslam_ng.datasets.camera import Camera, with_color
from gradslam_ng.datasets.camera_files import NAMES, find_camera, read_camera, unknown_camera
from gradslam_ng.datasets.files import FileSequence
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.image_files import COLOR_ENDINGS, DEPTH_ENDINGS, find_images, match_numbers, visible_files
from gradslam_ng.datasets.images import image_kind
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.recorded import FRAME_RATE
from gradslam_ng.datasets.sequence import STRUCTURED_LIGHT_RANGE
from gradslam_ng.datasets.text import by_number, per_frame_truth, read_poses
from gradslam_ng.geometry.camera import scale_intrinsics

DEPTH_SCALE = 1000.0
OFF_CENTER = 0.15  # of the size of an image: a principal point farther from its center is that of another size


class ScanNet(FileSequence):
    """A folder with `color/N.jpg`, `depth/N.png`, `pose/N.txt` and `intrinsic/intrinsic_{depth,color}.txt`.

    Without `intrinsic/` the camera is that of the scene's own `sceneNNNN_NN.txt`, or of `intrinsics.txt` or `.json`.

    Frames have the camera of the depth images; color is looked up at their pixels, in its own camera at the same place
    where `intrinsic_color.txt` is there, else as in one that sees what depth sees. A pose of -inf marks a lost frame.
    Time stamps are frame numbers at 30 Hz.

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

    def __init__(
        self, folder: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        folder = Path(folder)
        color = by_number(find_images(folder / "color", COLOR_ENDINGS))
        depth = by_number(find_images(folder / "depth", DEPTH_ENDINGS))
        depth, depth_findings = match_numbers(list(color), depth, "depth images")
        poses = by_number(visible_files(folder / "pose", ".txt"))
        poses, pose_findings = match_numbers(list(color), poses, "poses")
        camera = _cameras(folder, intrinsics, list(color.values()), list(depth.values()))
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
            notes=["time stamps: frame numbers at 30 Hz"],
            findings=[*depth_findings, *pose_findings],
            **(per_frame_truth(read_poses([poses.get(key) for key in color]), timestamps) if poses else {}),
        )

    @staticmethod
    def recognizes(folder: Path) -> bool:
        if not (folder / "depth").is_dir():
            return False
        has_scene_file = (folder / "pose").is_dir() and (folder / f"{folder.resolve().name}.txt").is_file()
        return has_scene_file or (folder / "intrinsic" / "intrinsic_depth.txt").is_file()


def _cameras(folder: Path, intrinsics: Intrinsics | None, color: list[Path], depth: list[Path]) -> Camera:
    """The camera of the depth images, with that of the color images beside it, at the same place."""
    names = ("intrinsic/intrinsic_depth.txt", f"{folder.resolve().name}.txt", *NAMES)
    camera = find_camera(intrinsics, [folder], names=names)
    if camera is None:
        raise ValueError(unknown_camera(folder))
    sizes = _size(color), _size(depth)
    if camera.color is not None or sizes[0] is None or sizes[1] is None:
        return camera
    told, findings = _color_camera(folder, sizes[0])
    if told is None and sizes[0] == sizes[1]:
        return replace(camera, findings=(*camera.findings, *findings))
    if told is None:
        (height, width), (depth_height, depth_width) = sizes[0], camera.size or sizes[1]
        K = scale_intrinsics(camera.K, (width / depth_width, height / depth_height))
        told = replace(camera, K=K, size=sizes[0], findings=())
    return with_color(camera, replace(told, findings=tuple(findings)), torch.eye(4, dtype=torch.float64))


def _color_camera(folder: Path, size: tuple[int, int]) -> tuple[Camera | None, list[Finding]]:
    """The camera of color images of `size` (H, W), None where it is not known or is that of other images."""
    path = folder / "intrinsic" / "intrinsic_color.txt"
    told = read_camera(path) if path.is_file() else None
    if told is None:
        return None, []
    height, width = size
    center = torch.tensor([width - 1, height - 1]) / 2
    if bool(((told.K[:2, 2] - center).abs() > OFF_CENTER * torch.tensor([width, height])).any()):
        text = f"{path.name} is not that of color images of {width}x{height}, which are taken to see what depth sees"
        return None, [Finding("warning", "camera.color", text)]
    return told, []


def _size(files: list[Path]) -> tuple[int, int] | None:
    """Height and width of the first image that can be read, by its header."""
    for path in files:
        try:
            height, width = image_kind(path)[0][:2]
            return height, width
        except (ValueError, OSError):
            continue
    return None
