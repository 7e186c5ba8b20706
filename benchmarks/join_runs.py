"""Are runs joined where they should be, and only there? `python -m benchmarks.join_runs [--only NAME]`.

Pairs of runs: two parts of one recording that overlap, which belong together, and runs of different places, two of
which look alike, which do not. Of each pair: whether it is joined, how many links are, and how far the poses of the
second in the world of the first are from the truth, meters and degrees, median and largest, beside those of the first.
A false join is a pair that does not belong together, or one whose poses are off by more than 25 cm in the median.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng.datasets import RGBDSequence, Synthetic
from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser
from gradslam_ng.loops.finished_submaps import read_finished_run
from gradslam_ng.loops.join_runs import RunJoiner
from gradslam_ng.slam.saved_run import StateWriter
from gradslam_ng.structures import Trajectory

DATA = gs.datasets.data_folder()
FALSE = 0.25  # meters, in the median
KITCHEN, WALK = "sevenscenes_tum/redkitchen", "hololens/office_walk"
ICL = "icl/office_room_traj3_frei_png"


def part(data: Path, name: str, frames: slice) -> RGBDSequence:
    """Some frames of a recording, or of a rendered scene, 160 pixels across."""
    if name.startswith("synthetic:"):
        scene, path, count = name.removeprefix("synthetic:").split(",")
        return Synthetic(scene, path=path, frames=int(count), size=(120, 160))[frames]
    return gs.datasets.load(data / name)[frames]


DOORS, ROOM = "synthetic:doors,orbit,800", "synthetic:living_room,orbit,400"
PAIRS: dict[str, tuple[tuple[str, slice], tuple[str, slice], bool]] = {  # two parts, and whether they belong together
    "office walk, halves": ((WALK, slice(0, 90)), (WALK, slice(60, 150)), True),
    "redkitchen, halves": ((KITCHEN, slice(0, 180)), (KITCHEN, slice(120, 300)), True),
    "living room, halves": ((ROOM, slice(0, 90)), (ROOM, slice(60, 150)), True),
    "office walk, redkitchen": ((WALK, slice(0, 90)), (KITCHEN, slice(0, 180)), False),
    "ICL office, living room": ((ICL, slice(0, 100)), (ROOM, slice(0, 90)), False),
    "doors that look alike": ((DOORS, slice(0, 80)), (DOORS, slice(180, 260)), False),
}


@dataclass
class Row:
    """One pair of runs."""

    pair: str
    together: bool  # whether they belong together
    joined: bool
    links: int
    keyframes: list[int]
    first_m: tuple[float, float]  # error of the first run's poses, median and largest
    second_m: tuple[float, float]
    second_degrees: tuple[float, float]
    seconds: float  # of joining
    why: str

    @property
    def is_false(self) -> bool:
        """Whether it is a false join."""
        return self.joined and (not self.together or self.second_m[0] > FALSE)


def errors(sequence: RGBDSequence, trajectory: Trajectory) -> tuple[tuple[float, float], tuple[float, float]]:
    """Meters, and degrees, median and largest, from the truth; zero without one."""
    if sequence.ground_truth is None or not len(trajectory):
        return (0.0, 0.0), (0.0, 0.0)
    truth, valid = sequence.ground_truth.at(trajectory.timestamps)
    meters, radians = se3.distance(truth[valid], trajectory.T_wc[valid])
    degrees = torch.rad2deg(radians)
    return (float(meters.median()), float(meters.max())), (float(degrees.median()), float(degrees.max()))


def saved(sequence: RGBDSequence, path: Path) -> Path:
    """The state of a run over a sequence."""
    gs.PointFusion().run(sequence, loops=LoopCloser(), state_writer=StateWriter(path))
    return path


def measure(name: str, data: Path, log: Callable[[str], None]) -> Row:
    """One row of the table."""
    (first, frames_a), (second, frames_b), together = PAIRS[name]
    sequences = [part(data, first, frames_a), part(data, second, frames_b)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [saved(sequence, Path(folder) / str(i)) for i, sequence in enumerate(sequences)]
        runs = [read_finished_run(path, f"run {path.name}") for path in paths]
    began = time.perf_counter()
    joiner = RunJoiner(runs, on_progress=log)
    found = joiner.join()
    spent = time.perf_counter() - began
    trajectories = [run.trajectory for run in found.runs]
    none = Trajectory(torch.zeros(0), torch.zeros(0, 4, 4))
    (own, _), (meters, degrees) = (
        errors(sequence, none if trajectory is None or found.num_joined < 2 else trajectory)
        for sequence, trajectory in zip(sequences, trajectories, strict=True)
    )
    keyframes = [len(submap.places) for submap in joiner.submaps]
    why = found.runs[1].why
    return Row(name, together, found.num_joined > 1, found.links, keyframes, own, meters, degrees, spent, why)


def main(data: Path = DATA, only: str = "") -> None:
    """Write results/join_runs.json.

    Args:
        data: Folder of the recordings.
        only: Pairs whose names contain this.
    """
    rows = []
    for name in PAIRS:
        if only in name:
            rows.append(measure(name, data, lambda _: None))
            print(rows[-1], flush=True)
    if not only:
        figures = {"rows": [asdict(row) | {"false": row.is_false} for row in rows]}
        save("join_runs", figures, images="as recorded, rendered ones 160x120")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
