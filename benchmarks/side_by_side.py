"""Two runs at the same time on two cores, beside one alone on one thread: `python -m benchmarks.side_by_side`.

A run leaves threads to other programs that want a core. The runs take turns, alone and two at once, each in a process
of its own, with all compiled functions on disk and frames read beside, as in `gradslam-ng run`. Told is the median
time of a frame of each, and of each round how many times that of the run alone. The mark is 1.2.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.startup import call

TARGET = 1.2


def side_by_side(
    sequence: str = "synthetic:living_room", frames: int = 300, preset: str = "default", rounds: int = 3
) -> None:
    """Milliseconds of a frame of each run, written to results/side_by_side_NAME.json.

    Args:
        sequence: Folder of a sequence, or synthetic:NAME.
        frames: The first so many.
        preset: default, fast or accurate.
        rounds: Of a run alone and two at once; medians are told.
    """
    from benchmarks.report import save, working_size
    from gradslam_ng import PointFusion, datasets

    size = datasets.load(sequence).size
    rows = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        call("prepare", sequence, frames, preset, True, folder, threads=1)
        for _ in range(rounds):
            alone = call("measure", sequence, frames, preset, True, folder, threads=1)
            runs = [pool.submit(call, "measure", sequence, frames, preset, True, folder) for _ in range(2)]
            both = [run.result()["frame_ms"] for run in runs]
            rows.append({"alone": alone["frame_ms"], "both": both, "times": [ms / alone["frame_ms"] for ms in both]})
    times = median(max(row["times"]) for row in rows)
    figures = {"sequence": Path(sequence).name, "preset": preset, "frames": frames, "rounds": rows, "times": times}
    table = Table("alone, ms a frame", "two at once", "times", title=f"{sequence}, {preset}")
    for row in rows:
        table.add_row(f"{row['alone']:.1f}", *(", ".join(f"{x:.2f}" for x in row[name]) for name in ("both", "times")))
    console = Console()
    console.print(table, f"the slower of both, median: {times:.2f} times (at most {TARGET})", sep="\n")
    tracked = working_size(size, PointFusion(settings=preset))
    path = save(
        f"side_by_side_{figures['sequence']}", figures, images=f"{size[1]}x{size[0]}", tracked=tracked, threads=1
    )
    console.print(f"written: {path}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(side_by_side, description=__doc__)
