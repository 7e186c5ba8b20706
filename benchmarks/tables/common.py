"""What the tables of the documentation share: result files, Markdown, and how a table was measured.

Below each table stands how it was measured: command, machine, threads, size of the images as they come and as they are
tracked. Where a result file does not record the threads or the working size, the table says what they were by the
defaults of the benchmark.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.report import RESULTS

WIDTHS = {"default": 320, "fast": 160, "accurate": 640}  # of the presets, of files without a working size
SEQUENCES = {
    "living_room": "synthetic living room",
    "office_room_traj3_frei_png": "ICL-NUIM office kt3",
    "redkitchen": "7-Scenes redkitchen",
}
BY_RUN = "as `run` takes them, all cores but one"
BY_DEFAULT = "as torch takes them, one for each core"
FULL_AND_HALF = "640x480, tracked at 320x240"

TABLES: dict[str, Callable[[], str]] = {}


def table(function: Callable[[], str]) -> Callable[[], str]:
    """Makes a function's table known under its name."""
    TABLES[function.__name__.replace("_", "-")] = function
    return function


@functools.cache
def load(name: str) -> dict[str, Any]:
    """A result file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def sequence_name(file: dict[str, Any]) -> str:
    """What the sequence of a result file is called in tables."""
    return SEQUENCES.get(file["sequence"], file["sequence"])


def found(prefix: str) -> list[str]:
    """The result files whose names begin so."""
    return sorted(path.stem for path in RESULTS.glob(f"{prefix}*.json"))


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table and what stands below it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", caption])


def measured(command: str, names: Sequence[str], threads: str = "", images: str = "") -> str:
    """How a table was measured. threads: in words, where the files do not say."""
    files = [load(name) for name in names]
    machines = describe([file["machine"] for file in files])
    counts = [file.get("threads", file["machine"].get("threads")) for file in files]
    known = sorted({str(count) for count in counts if count is not None})
    facts = [machines, f"threads: {threads or ', '.join(known)}"] + ([f"images: {images}"] if images else [])
    return f"`python -m benchmarks.{command}`. {'; '.join(facts)}."


def describe(machines: Sequence[dict[str, Any]]) -> str:
    """Processor, cores, GPU and versions, those that differ side by side."""

    def joined(key: str) -> str:
        return " or ".join(sorted({str(machine[key]) for machine in machines}))

    gpu = joined("gpu").replace("none", "no GPU")
    cores = f"{joined('cores')} core{'s' * (joined('cores') != '1')}"
    return f"{joined('cpu')}, {cores}, {gpu}, torch {joined('torch')}, Python {joined('python')}"


def size(images: tuple[int, int] | list[int]) -> str:
    """(height, width) as WIDTHxHEIGHT."""
    return f"{images[1]}x{images[0]}"


def number(value: float, digits: int = 2) -> str:
    """Short: few digits, or a power of ten where there are many zeros."""
    if math.isinf(value):
        return "diverged"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.{digits}f}"
