"""Which part of tracking earns what: `python -m benchmarks.ablation [--data FOLDER]`.

ATE RMSE in cm of PointFusion, one part more in each row, on recordings and on every fifth of their frames; frames that
were lost behind it.
"""

from __future__ import annotations

from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import gradslam_ng as gs
from benchmarks.accuracy import DATA, REAL
from benchmarks.report import save
from gradslam_ng import evaluation
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.preprocessing import axial_noise
from gradslam_ng.structures import SurfaceView


def even_noise(surface: SurfaceView, color: Tensor) -> Tensor:
    """5 mm everywhere, what the axial model says at 1.8 m."""
    return torch.full_like(surface.weights, 0.005)


ROWS = {
    "geometry": ({"photometric": False, "rotation_iterations": 0}, even_noise),
    "+ noise by depth": ({"photometric": False, "rotation_iterations": 0}, axial_noise),
    "+ color": ({"rotation_iterations": 0}, axial_noise),
    "+ rotation first": ({}, axial_noise),
    "color taken as registered": ({"registration_sigma": 0.0}, axial_noise),
    "every row of pixels": ({"row_stride": 1}, axial_noise),
}


def main(data: Path = DATA, only: str = "") -> None:
    """Run every row on every sequence and print the table.

    Args:
        data: Folder of the real sequences.
        only: Sequences whose name contains this.
    """
    console, sequences = Console(), {}
    for name, (folder, frames, _) in REAL.items():
        if only in name and (data / folder).is_dir():
            whole = gs.datasets.load(data / folder)[:frames]
            sequences |= {name: whole, f"{name}, every fifth": whole[::5]}
    if not sequences:
        raise FileNotFoundError(f"data: none of the sequences below {data}")
    table, figures = Table("", *sequences, title="ATE RMSE [cm], frames lost"), {}
    for row, (settings, noise) in ROWS.items():
        figures[row] = {}
        for name, sequence in sequences.items():
            figures[row][name] = track(sequence, gs.PointFusion(ProjectiveICP(**settings), noise=noise))
            console.print(row, name, figures[row][name])
        cells = (f"{cell['ate_cm']:.3f}" + f" ({cell['lost']})" * (cell["lost"] > 0) for cell in figures[row].values())
        table.add_row(row, *cells)
    console.print(table)
    if not only:
        save("ablation", {"rows": figures}, images="640x480", tracked="320x240")


def track(sequence: RGBDSequence, slam: gs.PointFusion) -> dict[str, float]:
    result = slam.run(sequence, compile=True)
    error = evaluation.ate(sequence.ground_truth, result.trajectory)
    return {"ate_cm": 100 * error.rmse, "lost": int((~result.tracked).sum())}


if __name__ == "__main__":
    tyro.cli(main)
