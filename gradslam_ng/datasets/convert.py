"""Conversion of any sequence to layouts that others read: TUM, a folder, nerfstudio's transforms.json, COLMAP's text.

The last two are where radiance fields and Gaussian splats begin; they need poses, of the recording or of a run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gradslam_ng.datasets.axes import flip_camera_axes
from gradslam_ng.datasets.export import (
    DEPTH_SCALE,
    growing_lists,
    new_folder,
    stamps_and_names,
    write_images,
    write_intrinsics,
)
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.geometry import se3
from gradslam_ng.geometry.camera import unproject
from gradslam_ng.io.atomic import write_whole
from gradslam_ng.structures import RGBDFrames, Trajectory

Form = Literal["tum", "folder", "transforms", "colmap"]
FOLDERS = {"tum": ("rgb", "depth"), "folder": ("color", "depth"), "transforms": ("images", "depth")}
FOLDERS["colmap"] = FOLDERS["transforms"]
NEED_POSES = ("transforms", "colmap")
MILLIMETERS = 1000.0
MAX_GAP = 0.1  # seconds of a trajectory, across which a pose is interpolated
POINTS = 100_000  # of COLMAP's cloud, from depth, all frames together
# What others call the center of the first pixel (0.5, 0.5), is (0, 0) here.
CORNER = 0.5


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    folder: Path
    frames: int
    unreadable: tuple[FrameError, ...]  # frames that could not be read
    unposed: int  # frames without a pose, left out where the layout needs one


def convert(
    sequence: RGBDSequence,
    folder: str | os.PathLike,
    form: Form,
    *,
    trajectory: Trajectory | None = None,
    jpeg: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Conversion:
    """Write a sequence in another layout: images registered and without distortion, depth in 16 bit PNG.

    Args:
        sequence: of frames; those that cannot be read are left out.
        folder: is made; must be empty if it is there.
        form: "tum" (1/5000 m), or in millimeters "folder", "transforms" (nerfstudio) or "colmap" (text, with points).
        trajectory: poses to write in place of the recording's own, such as those of a run.
        jpeg: quality of the color images, 1 to 100; default PNG, without loss.
        progress: called with the number of frames done.

    Raises:
        FileExistsError: something is in the folder already.
        ValueError: a layout that is not known, a quality out of range, one that needs poses where there are none, or a
            trajectory that has none for these frames; or no frame can be read.
    """
    if form not in FOLDERS:
        raise ValueError(f"to: expected one of {', '.join(FOLDERS)}, got {form!r}")
    if jpeg is not None and not 1 <= jpeg <= 100:
        raise ValueError(f"jpeg: expected a quality of 1 to 100, got {jpeg}")
    T_wc = _poses(sequence, trajectory)
    known = T_wc.isfinite().flatten(1).all(-1)
    if (form in NEED_POSES or trajectory is not None) and not bool(known.any()):
        raise ValueError(f"trajectory: expected poses for {form}, but {_why_none(trajectory)}")
    wanted = known.nonzero().flatten().tolist() if form in NEED_POSES else list(range(len(sequence)))
    writer = _Writer(sequence, folder=new_folder(folder), form=form, T_wc=T_wc, jpeg=jpeg)
    writer.write(wanted, progress)
    return Conversion(Path(folder), len(writer.kept), tuple(writer.unreadable), len(sequence) - len(wanted))


def _why_none(trajectory: Trajectory | None) -> str:
    """Why no frame has a pose."""
    if trajectory is None:
        return "the recording has none; give those of a run"
    return "none is of these frames' times" if bool(trajectory.known.any()) else "none in it is known"


def _poses(sequence: RGBDSequence, trajectory: Trajectory | None) -> Tensor:
    """The pose of each frame (L, 4, 4) float64, NaN where there is none."""
    if trajectory is not None:
        return trajectory.at(sequence.timestamps, MAX_GAP)[0]
    if sequence.T_wc is not None:
        return sequence.T_wc.double()
    return torch.full((len(sequence), 4, 4), torch.nan, dtype=torch.float64)


class _Writer:
    """Writes the images of frames, then what tells of them."""

    def __init__(self, sequence: RGBDSequence, *, folder: Path, form: Form, T_wc: Tensor, jpeg: int | None) -> None:
        self.sequence, self.folder, self.form, self.T_wc, self.jpeg = sequence, folder, form, T_wc, jpeg
        self.suffix = "png" if jpeg is None else "jpg"
        stamps, names = stamps_and_names(sequence.timestamps.tolist())
        self.stamps, self.names = stamps, names
        if form in NEED_POSES:
            self.names = [f"{index:06d}" for index in range(len(sequence))]
        self.kept: list[int] = []
        self.unreadable: list[FrameError] = []
        self.points: list[tuple[Tensor, Tensor]] = []  # of the world, and their colors

    def write(self, wanted: list[int], progress: Callable[[int], None]) -> None:
        """Everything. What reads a layout takes the folder as far as it goes, or not at all, where it is cut short."""
        for name in FOLDERS[self.form]:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if self.form == "tum":
            write_intrinsics(self.folder, self.sequence)
            self._write_trajectory(self.folder / "groundtruth.txt")
            with growing_lists(self.folder, self.suffix) as add:
                self._write_frames(wanted, progress, lambda index: add(self.stamps[index], self.names[index]))
            return
        self._write_frames(wanted, progress)
        {"folder": self._folder, "transforms": self._transforms, "colmap": self._colmap}[self.form]()

    def _write_frames(
        self,
        wanted: list[int],
        progress: Callable[[int], None],
        written: Callable[[int], None] = lambda index: None,
    ) -> None:
        """The images. written: called with the number of a frame whose images are there."""
        color, depth = FOLDERS[self.form]
        scale = DEPTH_SCALE if self.form == "tum" else MILLIMETERS
        for done, index in enumerate(wanted):
            try:
                frame = self.sequence[index]
            except FrameError as error:
                self.unreadable.append(error)
                continue
            name = self.names[index]
            files = self.folder / color / f"{name}.{self.suffix}", self.folder / depth / f"{name}.png"
            write_images(frame, *files, scale, self.jpeg)
            if self.form == "colmap":
                self.points.append(_some_points(frame, self.T_wc[index], POINTS // len(wanted) + 1))
            self.kept.append(index)
            written(index)
            progress(done + 1)
        if not self.kept:
            raise ValueError(f"{self.sequence.name}: no frame can be read: {self.unreadable[0]}")

    def _camera(self) -> dict[str, float]:
        (fx, _, cx), (_, fy, cy), _ = self.sequence.K.double().tolist()
        height, width = self.sequence.size
        return {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height}

    def _write_trajectory(self, path: Path) -> None:
        posed = Trajectory(self.sequence.timestamps, self.T_wc)
        if bool(posed.known.any()):
            posed.save(path)

    def _folder(self) -> None:
        self._write_json("intrinsics.json", self._camera() | {"depth_scale": MILLIMETERS})
        if self.names == self.stamps:  # names are times, which poses belong to
            self._write_trajectory(self.folder / "poses.txt")

    def _transforms(self) -> None:
        camera = self._camera()
        frames = [
            {
                "file_path": f"images/{self.names[index]}.{self.suffix}",
                "depth_file_path": f"depth/{self.names[index]}.png",
                "timestamp": float(self.sequence.timestamps[index]),
                "transform_matrix": flip_camera_axes(self.T_wc[index]).tolist(),
            }
            for index in self.kept
        ]
        data = {
            "camera_model": "OPENCV",
            "w": camera["width"],
            "h": camera["height"],
            "fl_x": camera["fx"],
            "fl_y": camera["fy"],
            "cx": camera["cx"] + CORNER,
            "cy": camera["cy"] + CORNER,
            "depth_unit_scale_factor": 1 / MILLIMETERS,
            "frames": frames,
        }
        self._write_json("transforms.json", data)

    def _colmap(self) -> None:
        """One camera, poses from world to camera, and points without tracks (https://colmap.github.io/format.html)."""
        model = self.folder / "sparse" / "0"
        model.mkdir(parents=True)
        camera = self._camera()
        numbers = [camera["fx"], camera["fy"], camera["cx"] + CORNER, camera["cy"] + CORNER]
        text = f"1 PINHOLE {camera['width']} {camera['height']} {' '.join(map(repr, numbers))}\n"
        write_whole(model / "cameras.txt", text)
        self._write_json("intrinsics.json", camera | {"depth_scale": MILLIMETERS})  # beside images/ and depth/
        lines = []
        for number, index in enumerate(self.kept, 1):
            t, (x, y, z, w) = se3.to_quaternion(se3.inverse(self.T_wc[index]))
            pose = " ".join(map(repr, map(float, (w, x, y, z, *t))))
            lines.append(f"{number} {pose} 1 {self.names[index]}.{self.suffix}\n\n")
        write_whole(model / "images.txt", "".join(lines))
        points, colors = (torch.cat(each) for each in zip(*self.points, strict=True))
        rows = zip(points.tolist(), (colors * 255).round().int().tolist(), strict=True)
        text = "".join(
            f"{number} {p[0]:.6g} {p[1]:.6g} {p[2]:.6g} {c[0]} {c[1]} {c[2]} 0\n"
            for number, (p, c) in enumerate(rows, 1)
        )
        write_whole(model / "points3D.txt", text)

    def _write_json(self, name: str, data: dict) -> None:
        write_whole(self.folder / name, json.dumps(data, indent=2) + "\n")


def _some_points(frame: RGBDFrames, T_wc: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Points (N, 3) of the world that a frame sees, spread evenly over those measured, and their colors (N, 3)."""
    seen = (frame.depth[..., 0] > 0).flatten().nonzero().flatten()
    seen = seen[:: max(1, len(seen) // count)][:count]
    p_c = unproject(frame.depth, frame.K).reshape(-1, 3)[seen].double()
    return se3.transform(T_wc.double(), p_c), frame.color.reshape(-1, 3)[seen]
