"""Are runs joined where they should be, and only there? `python -m benchmarks.join_runs [--only NAME]`.

Runs over parts of one recording that overlap, which belong together, and runs of different places, two of which look
alike, which do not. Of each case: whether all are joined, how many links are, and how far poses in the world of the
first are from the truth, meters and degrees, median and largest. A false join is one of runs that do not belong
together, or one after which the poses of a run are off by more than 25 cm in the median. Where they do belong together,
the error of all poses of all parts, aligned at once, stands beside that of one run over all of the frames.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng import evaluation
from gradslam_ng.datasets import RGBDSequence, Synthetic
from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser
from gradslam_ng.loops.finished_submaps import read_finished_run
from gradslam_ng.loops.join_runs import RunJoiner
from gradslam_ng.slam.saved_run import StateWriter
from gradslam_ng.structures import Trajectory

DATA = gs.datasets.data_folder()
FALSE = 0.25  # meters, in the median
APART = 1e6  # seconds, put between the parts of a recording to align them at once
KITCHEN, WALK = "sevenscenes_tum/redkitchen", "hololens/office_walk"
ICL, TUM = "icl/office_room_traj3_frei_png", "tum/rgbd_dataset_freiburg3_structure_notexture_far"
DOORS, ROOM = "synthetic:doors,orbit,800", "synthetic:living_room,orbit,400"

Part = tuple[str, int, int]  # of a recording, from a frame to another one
CASES: dict[str, tuple[tuple[Part, ...], bool]] = {  # parts, and whether they belong together
    "redkitchen, three parts": (((KITCHEN, 0, 130), (KITCHEN, 90, 220), (KITCHEN, 180, 300)), True),
    "redkitchen, halves": (((KITCHEN, 0, 180), (KITCHEN, 120, 300)), True),
    "office walk, halves": (((WALK, 0, 90), (WALK, 60, 150)), True),
    "TUM fr3, halves": (((TUM, 0, 150), (TUM, 100, 250)), True),
    "ICL office, halves": (((ICL, 0, 65), (ICL, 35, 100)), True),
    "living room, halves": (((ROOM, 0, 90), (ROOM, 60, 150)), True),
    "office walk, redkitchen": (((WALK, 0, 90), (KITCHEN, 0, 180)), False),
    "TUM fr3, ICL office": (((TUM, 0, 150), (ICL, 0, 65)), False),
    "ICL office, living room": (((ICL, 0, 65), (ROOM, 0, 90)), False),
    "doors that look alike": (((DOORS, 0, 80), (DOORS, 180, 260)), False),
}


def read(part: Part, data: Path) -> RGBDSequence:
    """Some frames of a recording, or of a rendered scene, 160 pixels across."""
    name, first, last = part
    if name.startswith("synthetic:"):
        scene, path, count = name.removeprefix("synthetic:").split(",")
        return Synthetic(scene, path=path, frames=int(count), size=(120, 160))[first:last]
    return gs.datasets.load(data / name)[first:last]


@dataclass
class Row:
    """Runs, and what became of them."""

    case: str
    together: bool  # whether they belong together
    joined: int  # how many are, of those that there are
    runs: int
    links: int
    keyframes: list[int]
    meters: list[tuple[float, float]]  # error of the poses of each run that is joined, median and largest
    degrees: list[tuple[float, float]]
    ate_cm: float | None  # of all poses, aligned at once
    ate_one_run_cm: float | None
    seconds: float  # of joining
    why: list[str]

    @property
    def is_false(self) -> bool:
        """Whether it is a false join."""
        return self.joined > 1 and (not self.together or any(median > FALSE for median, _ in self.meters))


def errors(sequence: RGBDSequence, trajectory: Trajectory) -> tuple[tuple[float, float], tuple[float, float]]:
    """Meters, and degrees, median and largest, from the truth."""
    assert sequence.ground_truth is not None
    truth, valid = sequence.ground_truth.at(trajectory.timestamps)
    meters, radians = se3.distance(truth[valid], trajectory.T_wc[valid])
    degrees = torch.rad2deg(radians)
    return (float(meters.median()), float(meters.max())), (float(degrees.median()), float(degrees.max()))


def ate(sequences: list[RGBDSequence], trajectories: list[Trajectory]) -> float:
    """Centimeters, root mean square, of the poses of several runs in one world."""
    truths = [sequence.ground_truth for sequence in sequences]
    apart = (
        Trajectory(
            torch.cat([part.timestamps + APART * i for i, part in enumerate(parts)]),
            torch.cat([part.T_wc for part in parts]),
        )
        for parts in (truths, trajectories)
    )
    return 100 * evaluation.ate(*apart).rmse


def saved(sequence: RGBDSequence, path: Path) -> Path:
    """The state of a run over a sequence."""
    gs.PointFusion().run(sequence, loops=LoopCloser(), state_writer=StateWriter(path))
    return path


def one_run(parts: tuple[Part, ...], data: Path) -> float:
    """The ATE of a run over all frames of parts of one recording, centimeters."""
    sequence = read((parts[0][0], parts[0][1], parts[-1][2]), data)
    found = gs.PointFusion().run(sequence, loops=LoopCloser())
    return ate([sequence], [found.localized])


def measure(name: str, data: Path) -> Row:
    """One row of the table."""
    parts, together = CASES[name]
    sequences = [read(part, data) for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        paths = [saved(sequence, Path(folder) / str(i)) for i, sequence in enumerate(sequences)]
        runs = [read_finished_run(path, f"run {path.name}") for path in paths]
    began = time.perf_counter()
    joiner = RunJoiner(runs)
    found = joiner.join()
    spent = time.perf_counter() - began
    pairs = zip(sequences, found.runs, strict=True)
    joined = [(sequence, run.trajectory) for sequence, run in pairs if run.trajectory is not None]
    off = [errors(*pair) for pair in joined]
    is_whole = together and found.num_joined == len(parts)
    return Row(
        name, together, found.num_joined, len(parts), found.links,
        [sum(len(x.places) for x in run.submaps) for run in runs],
        [meters for meters, _ in off], [degrees for _, degrees in off],
        ate(*map(list, zip(*joined, strict=True))) if is_whole else None,
        one_run(parts, data) if together else None,
        spent, [run.why for run in found.runs],
    )  # fmt: skip


def main(data: Path = DATA, only: str = "") -> None:
    """Write results/join_runs.json.

    Args:
        data: Folder of the recordings.
        only: Cases whose names contain this.
    """
    rows = []
    for name in CASES:
        if only in name:
            rows.append(measure(name, data))
            print(rows[-1], flush=True)
    if not only:
        figures = {"rows": [asdict(row) | {"false": row.is_false} for row in rows]}
        save("join_runs", figures, images="as recorded, rendered ones 160x120", tracked="half, rendered ones whole")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
