"""Builders of small recordings in each layout, 32x24 pixels, 8 frames at 30 Hz."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.geometry import camera, se3

SIZE = (24, 32)
FRAMES = 8
RATE = 30.0


def color_image(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8, its first pixel tells the frame."""
    pixels = np.random.default_rng(index).integers(0, 255, (*size, 3), dtype=np.uint8)
    pixels[0, 0] = index
    return pixels


def depth_image(index: int, scale: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) uint16: a slope from 1 m, one centimeter nearer each frame, with a hole in the first row."""
    meters = 1.0 + 0.01 * np.arange(size[1])[None] + 0.005 * np.arange(size[0])[:, None] - 0.01 * index
    meters[0, 3] = 0
    return np.round(meters * scale).astype(np.uint16)


def poses(count: int = FRAMES) -> torch.Tensor:
    """(L, 4, 4) float64, a gentle curve, on which the camera moves too little for depth to contradict it."""
    s = 0.3 * torch.arange(count, dtype=torch.float64)[:, None]
    return se3.exp(s * torch.tensor([0.01, -0.005, 0.02, 0.004, 0.01, -0.006], dtype=torch.float64))


def tum_line(time: float, T: torch.Tensor) -> str:
    t, q = se3.to_quaternion(T)
    return f"{time:.6f} " + " ".join(f"{value:.9f}" for value in [*t.tolist(), *q.tolist()])


def matrix_text(T: torch.Tensor, rows: int = 4) -> str:
    return "\n".join(" ".join(repr(value) for value in row) for row in T[:rows].tolist()) + "\n"


def write_tum(folder: Path, scale: float = 5000.0) -> Path:
    """With intrinsics.txt; color is taken 4 ms after depth, poses are given at the times of depth."""
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    rgb, depth, truth = [], [], []
    for i in range(FRAMES):
        time = 100 + i / RATE
        rgb.append(f"{time + 0.004:.6f} rgb/{i}.png")
        depth.append(f"{time:.6f} depth/{i}.png")
        truth.append(tum_line(time, poses()[i]))
        iio.imwrite(folder / "rgb" / f"{i}.png", color_image(i))
        iio.imwrite(folder / "depth" / f"{i}.png", depth_image(i, scale))
    (folder / "rgb.txt").write_text("# color images\n# timestamp filename\n" + "\n".join(rgb) + "\n")
    (folder / "depth.txt").write_text("# timestamp filename\n" + "\n".join(depth) + "\n")
    (folder / "groundtruth.txt").write_text("# timestamp tx ty tz qx qy qz qw\n" + "\n".join(truth) + "\n")
    (folder / "intrinsics.txt").write_text("30 30 15.5 11.5\n")
    return folder


def write_icl(folder: Path, depth_first: bool = False) -> Path:
    """Frame 0 has no pose; poses are in the axes with y up."""
    flip = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    lines, truth = [], []
    for i in range(FRAMES):
        files = [f"{i} rgb/{i}.png", f"{i} depth/{i}.png"]
        lines.append(" ".join(reversed(files) if depth_first else files))
        iio.imwrite(folder / "rgb" / f"{i}.png", color_image(i))
        iio.imwrite(folder / "depth" / f"{i}.png", depth_image(i, 5000))
        if i > 0:
            t, q = se3.to_quaternion(flip @ poses()[i] @ flip)
            truth.append(f"{i} " + " ".join(repr(value) for value in [*t.tolist(), *q.tolist()]))
    (folder / "associations.txt").write_text("\n".join(lines) + "\n")
    (folder / "traj9.gt.freiburg").write_text("\n".join(truth) + "\n")
    return folder


def write_scannet(folder: Path, color_size: tuple[int, int] = (48, 64)) -> Path:
    """Every second frame, as an export with a skip; the third one lost; color twice as large, of its own camera."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    for i in range(FRAMES):
        T = poses()[i] if i != 2 else torch.full((4, 4), -math.inf)
        iio.imwrite(folder / "color" / f"{2 * i}.jpg", color_image(i, color_size))
        iio.imwrite(folder / "depth" / f"{2 * i}.png", depth_image(i, 1000))
        (folder / "pose" / f"{2 * i}.txt").write_text(matrix_text(T))
    for name, (f, cx, cy) in {"depth": (30.0, 15.5, 11.5), "color": (66.0, 33.0, 22.5)}.items():
        K = torch.tensor([[f, 0, cx, 0], [0, f, cy, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        (folder / "intrinsic" / f"intrinsic_{name}.txt").write_text(matrix_text(K))
    return folder


def write_sevenscenes(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i in range(FRAMES):
        depth = depth_image(i, 1000)
        depth[1, 1] = 65535
        iio.imwrite(folder / f"frame-{i:06d}.color.png", color_image(i))
        iio.imwrite(folder / f"frame-{i:06d}.depth.png", depth)
        (folder / f"frame-{i:06d}.pose.txt").write_text(matrix_text(poses()[i]))
    return folder


def write_replica(folder: Path) -> Path:
    (folder / "results").mkdir(parents=True)
    for i in range(FRAMES):
        iio.imwrite(folder / "results" / f"frame{i:06d}.jpg", color_image(i))
        iio.imwrite(folder / "results" / f"depth{i:06d}.png", depth_image(i, 6553.5))
    lines = [" ".join(repr(value) for value in T.flatten().tolist()) for T in poses()]
    (folder / "traj.txt").write_text("\n".join(lines) + "\n")
    camera = {"w": 32, "h": 24, "fx": 30.0, "fy": 30.0, "cx": 15.5, "cy": 11.5, "scale": 6553.5}
    (folder / "cam_params.json").write_text(json.dumps({"camera": camera}))
    return folder


def write_folder(folder: Path) -> Path:
    for name in ("color", "depth"):
        (folder / name).mkdir(parents=True)
    for i in range(FRAMES):
        iio.imwrite(folder / "color" / f"{i:04d}.png", color_image(i))
        iio.imwrite(folder / "depth" / f"{i:04d}.png", depth_image(i, 1000))
    (folder / "intrinsics.txt").write_text("30 0 15.5\n0 30 11.5\n0 0 1\n")
    return folder


@pytest.fixture
def recordings() -> SimpleNamespace:
    """The builders, which give the folder back, and what they write."""
    return SimpleNamespace(
        tum=write_tum,
        icl=write_icl,
        scannet=write_scannet,
        sevenscenes=write_sevenscenes,
        replica=write_replica,
        folder=write_folder,
        color_image=color_image,
        depth_image=depth_image,
        poses=poses,
        tum_line=tum_line,
        matrix_text=matrix_text,
    )


@pytest.fixture
def reprojection():
    """Function (first, second, T_21) -> depth of the first frame's points in the second, less what is measured there.

    Errors (N,) and measured depth (N,), meters, of the points that fall into the second frame.
    """

    def errors(first, second, T_21: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        points = camera.unproject(first.depth, first.K).reshape(-1, 3)
        points = points[points[:, 2] > 0]
        uv, z = camera.project(se3.transform(T_21.to(points), points), second.K)
        column, row = uv.round().long().unbind(-1)
        height, width = second.size
        seen = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        measured = second.depth[row[seen], column[seen], 0]
        assert seen.float().mean() > 0.3
        return (z[seen] - measured)[measured > 0], measured[measured > 0]

    return errors
