"""gradSLAM's claim, repeated: going differentiable costs no accuracy: `python -m benchmarks.claim`.

ICP-SLAM and PointFusion, each with hard Levenberg-Marquardt (icp) and with soft-damped, differentiable steps (gradicp),
on the same frames in the same run (Jatavallabhula et al. 2020, Table 2). ATE RMSE after SE(3) alignment, RPE over one
frame. Real sequences are looked for below --data; those that are not there are left out.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

import gradslam_ng as gs
from benchmarks.accuracy import DATA, REAL
from benchmarks.report import save, stored
from gradslam_ng import evaluation
from gradslam_ng.datasets import RGBDSequence, Synthetic

SYSTEMS = (gs.ICPSLAM, gs.PointFusion)
ODOMETRY = ("icp", "gradicp")


@torch.no_grad()
def compare(sequence: RGBDSequence) -> dict[str, dict[str, dict[str, float]]]:
    """ATE and RPE in meters, by system and odometry; all four take each frame in turn, so it is read once."""
    runs = {(system.__name__, odometry): system(odometry) for system in SYSTEMS for odometry in ODOMETRY}
    states, poses = dict.fromkeys(runs), {key: [] for key in runs}
    for i in range(len(sequence)):
        frame = sequence[i]
        for key, slam in runs.items():
            states[key] = slam.step(states[key], frame)
            poses[key].append(states[key].T_wc[0].double())
    rows = {system.__name__: {} for system in SYSTEMS}
    for (system, odometry), T_wc in poses.items():
        found = gs.Trajectory(sequence.timestamps, torch.stack(T_wc))
        ate, rpe = evaluation.ate(sequence.ground_truth, found), evaluation.rpe(sequence.ground_truth, found)
        rows[system][odometry] = {"ate": ate.rmse, "rpe": rpe.translation.rmse}
    return rows


def main(data: Path = DATA, only: str = "", size: tuple[int, int] = (240, 320), frames: int = 100) -> None:
    """Run rows, print the table; rows that were not run this time stay as they were in the file.

    Args:
        data: Folder of the real sequences.
        only: Rows whose name contains this.
        size: Image height and width of the synthetic room.
        frames: Of the synthetic room.
    """
    console, rows = Console(width=120), stored("claim").get("rows", {})
    sources = {name: partial(real, data / folder, length) for name, (folder, length, _) in REAL.items()} | {
        f"living room, {noise} noise": partial(Synthetic, "living_room", frames=frames, size=size, noise=noise)
        for noise in ("none", "kinect")
    }
    for name, source in sources.items():
        if only not in name:
            continue
        if name in REAL and not (data / REAL[name][0]).is_dir():
            console.print(f"{name}: left out, no folder {data / REAL[name][0]}")
            continue
        sequence = source()
        rows[name] = {"frames": len(sequence), "size": list(sequence.size), "systems": compare(sequence)}
        save("claim", {"rows": rows}, images="as in the rows", tracked="320x240")
    columns = ("sequence", "frames", "system", "ATE icp", "ATE gradicp", "ratio", "RPE icp", "RPE gradicp")
    table = Table(*columns, title="cm")
    for name, row in rows.items():
        for system, found in row["systems"].items():
            ate, rpe = ([found[odometry][figure] for odometry in ODOMETRY] for figure in ("ate", "rpe"))
            numbers = (*(f"{100 * x:.4f}" for x in ate), f"{ate[1] / ate[0]:.3f}", *(f"{100 * x:.4f}" for x in rpe))
            table.add_row(name, str(row["frames"]), system, *numbers)
    console.print(table)


def real(folder: Path, length: int) -> RGBDSequence:
    return gs.datasets.load(folder)[:length]


if __name__ == "__main__":
    tyro.cli(main)
