"""Trajectory and surface errors on recordings and rendered rooms: `python -m benchmarks.accuracy [--only NAME]`.

Real sequences are looked for below --data; a row whose sequence is not there is left out, and said to be.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

import gradslam_ng as gs
from benchmarks.report import save, stored, working_size
from gradslam_ng import evaluation
from gradslam_ng.datasets import RGBDSequence, Synthetic
from gradslam_ng.geometry import camera, se3
from gradslam_ng.odometry import ProjectiveICP, step_strategy
from gradslam_ng.rendering.index_map import pixel_index, visible_pixels

DATA = gs.datasets.data_folder()
REAL = {  # folder, frames, the mark in cm
    "ICL office kt3": ("icl/office_room_traj3_frei_png", 100, 0.35),
    "TUM fr3 structure_notexture_far": ("tum/rgbd_dataset_freiburg3_structure_notexture_far", 250, 0.85),
    "7-Scenes redkitchen": ("sevenscenes_tum/redkitchen", 200, 1.7),
}
RENDERED = {"living room, clean": ("none", 0.2), "living room, Kinect noise": ("kinect", 0.5)}


def main(
    data: Path = DATA,
    only: str = "",
    system: str = "PointFusion",
    odometry: str = "gradicp",
    photometric: bool = True,
) -> None:
    """Run every row and print the table; each row is saved when it is done.

    Args:
        data: Folder of the recordings; default: what GRADSLAM_NG_DATA names.
        only: Rows whose name contains this.
        system: PointFusion, KinectFusion, ICPSLAM or ICPOdometry.
        odometry: gradicp or icp.
        photometric: Align brightness too, as is the default.
    """
    console, rows = Console(), {}
    odometer = ProjectiveICP(step_strategy(odometry), photometric=photometric)
    name_of_file = f"accuracy_{system}_{odometry}{'_geometry' * (not photometric)}".lower()
    for name, (mark, make) in sequences(data).items():
        if only in name and (sequence := make()) is not None:
            rows[name] = figures(sequence, mark, system, odometer)
            console.print(name, rows[name])
            merged = stored(name_of_file).get("rows", {}) | rows
            save(name_of_file, {"rows": merged}, images="640x480", tracked="320x240")
        elif only in name:
            console.print(f"{name}: left out, no folder below {data}; set GRADSLAM_NG_DATA")
    columns = ("sequence", "frames", "ATE [cm]", "mark", "RPE [cm/frame]", "lost", "map")
    table = Table(*columns, title=f"{system}, {odometry}{', geometry alone' * (not photometric)}")
    for name, row in rows.items():
        numbers = (f"{100 * row['ate']:.3f}", f"{row['mark']:.2f}", f"{100 * row['rpe']:.3f}")
        table.add_row(name, str(row["frames"]), *numbers, str(row["lost"]), str(row["map"]))
    console.print(table)


def sequences(data: Path) -> dict[str, tuple[float, Callable[[], RGBDSequence | None]]]:
    """By name the mark in cm, and what makes the sequence; None for a recording whose folder is not there."""

    def recorded(folder: str, frames: int) -> RGBDSequence | None:
        return gs.datasets.load(data / folder)[:frames] if (data / folder).is_dir() else None

    found: dict[str, tuple[float, Callable[[], RGBDSequence | None]]] = {}
    for name, (folder, frames, mark) in REAL.items():
        found[name] = mark, partial(recorded, folder, frames)
    for name, (noise, mark) in RENDERED.items():
        found[name] = mark, partial(Synthetic, "living_room", frames=300, size=(480, 640), noise=noise)
    return found


def figures(sequence: RGBDSequence, mark: float, system: str, odometer: ProjectiveICP) -> dict:
    """One row."""
    slam = getattr(gs, system)(odometry=odometer)
    result = slam.run(sequence)
    error = evaluation.ate(sequence.ground_truth, result.trajectory)
    rpe = evaluation.rpe(sequence.ground_truth, result.trajectory)
    row = {
        "frames": len(result.tracked), "lost": int((~result.tracked).sum()), "mark": mark, "ate": error.rmse,
        "rpe": rpe.translation.rmse, "map": size_of(result.map), "working_size": working_size(sequence.size, slam),
    }  # fmt: skip
    if isinstance(sequence, Synthetic) and system == "PointFusion":
        row["surface"] = surface(sequence, result.map, result.trajectory.T_wc)
    return row


def size_of(map_: gs.SurfelMap | gs.VoxelGrid) -> str:
    """How much a map holds."""
    return f"{len(map_.keys)} blocks" if isinstance(map_, gs.VoxelGrid) else f"{int(map_.count[0])} surfels"


def surface(sequence: Synthetic, map_: gs.SurfelMap, T_wc: torch.Tensor) -> dict[str, float]:
    """Of the map of a run that began at the true pose, against the exact surface, as far as that was seen.

    Points are the surfels' centers, 1.2 cm apart on a wall 3 m away: completion is also taken within 2 cm.
    """
    points = map_[0].points[0]
    samples = evaluation.sample_mesh(sequence.mesh, spacing=0.02)
    seen = sequence.seen(samples, every=10)
    found, coarser = (
        evaluation.surface(points, sequence.mesh, threshold=t, seen=seen, spacing=0.02) for t in (0.01, 0.02)
    )
    return {
        "accuracy_m": found.accuracy.mean, "completion_m": found.completion.mean,
        "within_1_cm": found.recall, "within_2_cm": coarser.recall, "points_per_pixel": density(sequence, map_, T_wc),
    }  # fmt: skip


def density(sequence: Synthetic, map_: gs.SurfelMap, T_wc: torch.Tensor, factor: int = 2, every: int = 30) -> float:
    """Map points on the visible surface for each pixel that sees it, at working resolution, mean over frames."""
    counts = []
    K = camera.scale_intrinsics(sequence.K, 1 / factor)[None]
    for i in range(0, len(sequence), every):
        depth = sequence[i].depth[None, ::factor, ::factor, 0]
        T_cw = se3.inverse(T_wc[i : i + 1].to(map_.points))
        u, v, z, inside = visible_pixels(map_.points, map_.mask, T_cw, K, depth.shape[1:], near=0.05)
        there = depth.flatten(1).gather(1, pixel_index(u, v, inside, depth.shape[2]))
        counts.append(float(((inside > 0) & ((z - there).abs() < 0.05)).sum() / (depth > 0).sum()))
    return sum(counts) / len(counts)


if __name__ == "__main__":
    tyro.cli(main)
