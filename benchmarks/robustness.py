"""Does tracking hold where it is hard? One row a mark: `python -m benchmarks.robustness [--only ROW]`.

Bare walls, frames that are missing, readings that are missing, drifting exposure, somebody walking through, a hand over
the lens. Rendered scenes are 640x480 with Kinect noise; they are rendered once, into --cache, which takes about ten
minutes of one core (a second a frame of the room), and the rows then take about as long. Real sequences are looked for
below --data; their rows are left out where they are not there, and said to be.

Trajectory errors are ATE RMSE after SE(3) alignment over all frames, those that were lost included, at the pose where
they were left. A ratio is that of the errors of the disturbed and the undisturbed run of the same frames. `lost` counts
frames that were not tracked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng import evaluation
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.datasets.export import write_tum
from gradslam_ng.datasets.synthetic import (
    Concatenated,
    Corrupted,
    Dropout,
    GainDrift,
    LensCover,
    Synthetic,
    WithMovingObject,
    put_back,
)
from gradslam_ng.geometry import se3
from gradslam_ng.slam.state import Result
from gradslam_ng.slam.system import System

DATA = gs.datasets.data_folder()
CACHE = Path("out/robustness")
SIZE = (480, 640)
REAL = {  # folder, frames
    "redkitchen": ("sevenscenes_tum/redkitchen", 200),
    "ICL kt3": ("icl/office_room_traj3_frei_png", 100),
}
ROOM_FRAMES = 120
COVERED, HIDDEN, SHOWN = 30, 15, 30  # frames before, under and after the hand
NEAR_SURFACE = 0.03  # meters; what lies farther from every surface of the room is in its free space
FOUND = 0.02, 1.0  # meters and degrees from the truth: a pose that counts as right


@dataclass
class Row:
    """A figure against its mark; the lower, the better."""

    value: float
    mark: float
    unit: str  # of value and mark
    lost: int
    details: dict = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        return self.value <= self.mark


class Bench:
    """Sequences by name, each rendered or read once, and what the system under test makes of them."""

    def __init__(self, system: Callable[[], System], data: Path, cache: Path, compile: bool) -> None:
        self.system, self.data, self.cache, self.compile = system, data, cache, compile
        self.run = functools.cache(self._run)

    def rendered(self, name: str, sequence: Callable[[], Synthetic]) -> RGBDSequence:
        """A rendered sequence, from the cache if it is there."""
        folder = self.cache / name
        if not folder.is_dir():
            unfinished = folder.with_suffix(".unfinished")
            write_tum(sequence(), _emptied(unfinished), mesh=False)
            unfinished.rename(folder)
        return gs.datasets.load(folder)

    def room(self, name: str, frames: int) -> RGBDSequence:
        return self.rendered(f"{name}_{frames}", lambda: Synthetic(name, frames=frames, size=SIZE, noise="kinect"))

    def visited(self) -> RGBDSequence:
        return self.rendered(f"visited_{ROOM_FRAMES}", lambda: _visited(SIZE))

    def put_back(self, seed: int) -> RGBDSequence:
        """The room's first frames, then from where the camera was put back to; those between are to be covered."""

        def after() -> RGBDSequence:
            still, back = Synthetic("living_room", frames=ROOM_FRAMES, size=SIZE, noise="kinect"), COVERED + HIDDEN
            moved = put_back(still.T_wc, COVERED, HIDDEN, meters=0.2, degrees=10, seed=seed)
            return still.along(moved)[back : back + SHOWN]

        before = self.room("living_room", ROOM_FRAMES)[: COVERED + HIDDEN]
        return Concatenated(before, self.rendered(f"put_back_{COVERED}_{HIDDEN}_{SHOWN}_{seed}", after))

    def clean(self, name: str) -> RGBDSequence:
        """A sequence that rows disturb."""
        if name not in REAL:
            return self.room(name, ROOM_FRAMES)
        folder, frames = REAL[name]
        if not (self.data / folder).is_dir():
            raise FileNotFoundError(f"no folder {self.data / folder}")
        return gs.datasets.load(self.data / folder)[:frames]

    def _run(self, name: str) -> Result:
        """Of an undisturbed sequence; several rows compare with it."""
        return self.track(self.clean(name))

    def track(self, sequence: RGBDSequence) -> Result:
        return self.system().run(sequence, compile=self.compile)


def _emptied(folder: Path) -> Path:
    """What an interrupted run left goes."""
    for file in sorted(folder.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    return folder


def _visited(size: tuple[int, int]) -> WithMovingObject:
    return WithMovingObject("living_room", frames=ROOM_FRAMES, size=size, noise="kinect")


def error(sequence: RGBDSequence, result: Result) -> float:
    """ATE RMSE, centimeters."""
    return 100 * evaluation.ate(sequence.ground_truth, result.trajectory).rmse


def lost(result: Result) -> int:
    return int((~result.tracked).sum())


def alone(bench: Bench, name: str) -> Iterator[tuple[str, Row]]:
    """300 frames of a room in which depth, or color, says little."""
    sequence = bench.room(name, 300)
    result = bench.track(sequence)
    yield "", Row(error(sequence, result), 0.5, "cm", lost(result))


def against_clean(bench: Bench, name: str, sequence: RGBDSequence, mark: float) -> Row:
    """The error on a disturbed sequence as a multiple of that on the clean one."""
    result, clean = bench.track(sequence), bench.run(name)
    found, reference = error(sequence, result), error(bench.clean(name), clean)
    details = {"cm": found, "clean_cm": reference, "clean_lost": lost(clean)}
    return Row(found / reference, mark, "x", lost(result), details)


def skipping(bench: Bench, name: str) -> Iterator[tuple[str, Row]]:
    """Every second, third and fifth frame."""
    for step, mark in ((2, 1.3), (3, 1.6), (5, 2.5)):
        yield f", every {step}", against_clean(bench, name, bench.clean(name)[::step], mark)


def dropout(bench: Bench, name: str) -> Iterator[tuple[str, Row]]:
    """Half of the depth readings missing at random."""
    yield "", against_clean(bench, name, Corrupted(bench.clean(name), Dropout(0.5)), 1.5)


def gain(bench: Bench, name: str) -> Iterator[tuple[str, Row]]:
    """Brightness halved, or doubled and cut off at white, over 100 frames."""
    for way, factor in (("falling", 0.5), ("rising", 2.0)):
        yield f", {way}", against_clean(bench, name, Corrupted(bench.clean(name), GainDrift(factor, 100)), 1.5)


def box(bench: Bench, name: str) -> Iterator[tuple[str, Row]]:
    """A box as tall as a person walks to and fro in front of the camera."""
    sequence, scene = bench.visited(), _visited((60, 80))
    result, static = bench.track(sequence), bench.run(name)
    found, reference = error(sequence, result), error(bench.clean(name), static)
    covers = [scene.object_coverage(i) for i in range(0, len(scene), 5)]
    share = {"covers_up_to": max(covers), "covers_mean": sum(covers) / len(covers)}
    details = {"cm": found, "static_cm": reference, **share}
    yield ", error", Row(found / reference, 1.5, "x", lost(result), details)
    (floating, lasting), (noise, _) = (on_visitor(r, scene, bench.system()) for r in (result, static))
    details = {"lasting_percent": lasting, "static_percent": noise}
    yield ", map points on it", Row(floating, 1.0, "%", lost(result), details)


def on_visitor(result: Result, scene: WithMovingObject, system: System) -> tuple[float, float]:
    """Per cent of all surfels, and of those that are stable, that lie on the box where it was in one of the frames, and
    on nothing else."""
    map_ = result.map[0]
    p = map_.points[0].double()
    away = scene.room.clearance(p) > NEAR_SURFACE
    away &= torch.stack([scene.moving_object(i).distance(p).abs() < NEAR_SURFACE for i in range(len(scene))]).any(0)
    there = map_.mask[0]
    lasting = there & (map_.confidences[0].flatten() >= float(system.mapper.stable_confidence))
    return tuple(100 * float((away & some).sum() / some.sum().clamp(min=1)) for some in (there, lasting))


def covered(bench: Bench, name: str) -> Iterator[tuple[str, Row]]:
    """A hand over the lens, then back 20 cm and 10 degrees away; poses against the truth, without alignment."""
    for seed in (0, 1):
        sequence = bench.put_back(seed)
        for what, palm in (("black", None), ("palm", (0.1, 0.2))):
            result = bench.track(Corrupted(sequence, LensCover(COVERED, HIDDEN, palm)))
            meters, degrees = errors(result.trajectory.T_wc, sequence.T_wc)
            right = (meters <= FOUND[0]) & (degrees <= FOUND[1])
            back = COVERED + HIDDEN
            found = (result.tracked & right)[back:].nonzero()
            frames = int(found[0]) + 1 if len(found) else SHOWN + 1  # never
            bad = result.tracked & ~right
            bad[COVERED:back] |= result.tracked[COVERED:back]  # there was nothing to see
            worst = {"before": meters[:COVERED].max(), "tracked_after": (meters * result.tracked)[back:].max()}
            details = {f"{when}_at_most_cm": 100 * float(far) for when, far in worst.items()}
            details["right_at_the_end"] = bool((result.tracked & right)[-1])
            yield f", {what}, seed {seed}, found after", Row(frames, 3, "frames", lost(result), details)
            yield f", {what}, seed {seed}, bad frames fused", Row(int(bad.sum()), 0, "frames", lost(result))


def errors(T_wc: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each pose (L, 4, 4): meters and degrees (L,) from the truth."""
    twist = se3.log(se3.inverse(truth.double()) @ T_wc.double())
    meters = (T_wc[:, :3, 3].double() - truth[:, :3, 3].double()).norm(dim=-1)
    return meters, torch.rad2deg(twist[:, 3:].norm(dim=-1))


ROWS: dict[str, tuple[Callable[[Bench, str], Iterator[tuple[str, Row]]], str]] = {
    "wall": (alone, "wall"),
    "corner": (alone, "corner"),
    "frames skipped, redkitchen": (skipping, "redkitchen"),
    "frames skipped, ICL kt3": (skipping, "ICL kt3"),
    "depth dropout, living room": (dropout, "living_room"),
    "depth dropout, ICL kt3": (dropout, "ICL kt3"),
    "gain, living room": (gain, "living_room"),
    "gain, ICL kt3": (gain, "ICL kt3"),
    "moving box": (box, "living_room"),
    "covered": (covered, "living_room"),
}


def build(system: str, photometric: bool) -> System:
    """The system under test."""
    odometer = gs.odometry.ProjectiveICP(photometric=photometric)
    return getattr(gs, system)(odometer)


def main(
    only: str = "",
    system: str = "PointFusion",
    photometric: bool = True,
    data: Path = DATA,
    cache: Path = CACHE,
    compile: bool = True,
) -> None:
    """Run every row and print the table; figures are saved when all rows ran.

    Args:
        only: Rows whose name contains this.
        system: A system whose map is of surfels: PointFusion, ICPSLAM.
        photometric: Align brightness too, as is the default of the system.
        data: Folder of the recordings; default: what GRADSLAM_NG_DATA names.
        cache: Folder for the rendered ones.
        compile: Use compiled kernels where they are on disk.
    """
    console, rows = Console(), {}
    bench = Bench(functools.partial(build, system, photometric), data, cache, compile)
    for name, (row, sequence) in ROWS.items():
        if only not in name:
            continue
        try:
            for variant, figures in row(bench, sequence):
                rows[name + variant] = figures
                console.print(f"{name}{variant}: {figures}", soft_wrap=True)
        except FileNotFoundError as missing:
            console.print(f"{name}: left out, {missing}; set GRADSLAM_NG_DATA to the folder of recordings")
    table = Table("", "measured", "mark", "", "lost", title=f"{system}{', geometry alone' * (not photometric)}")
    for name, row in rows.items():
        numbers = (f"{number:.2f} {row.unit}" for number in (row.value, row.mark))
        table.add_row(name, *numbers, "" if row.reached else "missed", str(row.lost))
    console.print(table)
    if not only:
        figures = {name: asdict(row) | {"reached": row.reached} for name, row in rows.items()}
        save(
            f"robustness_{system}{'_geometry' * (not photometric)}".lower(),
            {"rows": figures},
            images="640x480",
            tracked="320x240",
        )


if __name__ == "__main__":
    tyro.cli(main)
