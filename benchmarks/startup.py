"""From the first frame: a run that is not compiled, one from nothing, one with all on disk.

`python -m benchmarks.startup`. Each in a process of its own, one after the other, with frames read beside as in
`gradslam-ng run`. Seconds count from the start of the run, after imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import tyro
from rich.console import Console
from rich.table import Table

RUNS = {"plain": False, "from nothing": True, "all on disk": True}


def startup(sequence: str = "synthetic:living_room", frames: int = 300, preset: str = "default") -> None:
    """Seconds of each run, to its first frame, and the longest that a later frame took.

    Args:
        sequence: Folder of a sequence, or synthetic:NAME.
        frames: The first so many.
        preset: default, fast or accurate.
    """
    from benchmarks.report import save, working_size
    from gradslam_ng import PointFusion, datasets

    source = datasets.load(sequence)
    height, width = source.size
    figures: dict = {"sequence": Path(sequence).name, "preset": preset, "images": f"{width}x{height}"}
    figures["tracked"] = working_size(source.size, PointFusion(settings=preset))
    with tempfile.TemporaryDirectory() as folder:
        for name, compile in RUNS.items():
            if name == "all on disk":
                call("prepare", sequence, frames, preset, True, folder)
            figures[name] = call("measure", sequence, frames, preset, compile, folder)
    figures["times_as_fast_as_plain"] = {
        name: figures["plain"]["seconds"] / figures[name]["seconds"] for name in RUNS if name != "plain"
    }
    table = Table("", "frames", "seconds", "to the first frame", "longest later frame", title=f"{sequence}, {preset}")
    for name in RUNS:
        run = figures[name]
        table.add_row(name, str(run["frames"]), *(f"{run[x]:.2f}" for x in ("seconds", "first", "longest")))
    console = Console()
    console.print(table)
    console.print({name: round(ratio, 2) for name, ratio in figures["times_as_fast_as_plain"].items()})
    threads = max(1, len(os.sched_getaffinity(0)) - 1)  # a run leaves one core to what reads frames
    name = f"startup_{figures['sequence']}" + ("" if preset == "default" else f"_{preset}")
    path = save(name, figures, images=figures["images"], tracked=figures["tracked"], threads=threads)
    console.print(f"written: {path}", soft_wrap=True)


def call(
    task: str, sequence: str, frames: int, preset: str, compile: bool, folder: str, *, threads: int | None = None
) -> dict:
    """`measure` in a process of its own, with compiled functions in a folder; threads: by default as a run takes
    them."""
    settings = json.dumps([task, sequence, frames, preset, compile])
    environ = os.environ | {"GRADSLAM_NG_KERNELS": folder}
    if threads is not None:
        environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    command = [sys.executable, "-m", "benchmarks.startup", settings]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(task: str, sequence: str, frames: int, preset: str, compile: bool) -> dict:
    """One run in this process; `prepare` compiles beforehand what the first frames use."""
    import torch

    from gradslam_ng import PointFusion, datasets
    from gradslam_ng.compute.compiled import compilation
    from gradslam_ng.compute.kernel_library import KernelLibrary

    submitted: list[str] = []
    submit = KernelLibrary._submit

    def noted(self: KernelLibrary, request, niceness: int) -> bool:
        submitted.append(request.digest)
        return submit(self, request, niceness)

    KernelLibrary._submit = noted  # type: ignore[method-assign]
    source = datasets.load(sequence)
    source = source[: min(frames, len(source))]
    system, moments = PointFusion(settings=preset), [time.perf_counter()]
    if task == "prepare":
        with torch.no_grad(), compilation(wait=True):
            state = None
            for i in range(4):
                state = system.step(state, source[i])
        return {}
    system.run(source, on_frame=lambda index, state: moments.append(time.perf_counter()), compile=compile)
    seconds = time.perf_counter() - moments[0]
    later = [b - a for a, b in pairwise(moments[1:])]
    found = {"frames": len(later) + 1, "seconds": seconds, "first": moments[1] - moments[0], "longest": max(later)}
    found["frame_ms"] = 1e3 * median(later)
    return found | {"compiled": len(submitted), "compiled_twice": len(submitted) - len(set(submitted))}


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("["):
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    else:
        tyro.cli(startup)
