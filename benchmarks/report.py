"""Where figures go, benchmarks/results/NAME.json, and the tables made of them: `python -m benchmarks.report`.

Every table of the README and of the documentation stands between two comments that name it, and is written anew from
the results by this command; `--check` only says which are out of date.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def machine() -> dict[str, str | int]:
    """The processor, its usable cores, the GPU if there is one, and the versions that matter."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def environment(*, images: str, tracked: str | None = None, threads: int | None = None) -> dict[str, str | int]:
    """What figures were measured on: the machine, threads, and the size of the images.

    Args:
        images: As they come, such as "640x480"; "none" where there are none.
        tracked: Size that they are tracked at; default: as they come.
        threads: Default: those that torch uses in this process.
    """
    import torch

    threads = torch.get_num_threads() if threads is None else threads
    return machine() | {"threads": threads, "size": images, "working_size": images if tracked is None else tracked}


def save(name: str, figures: dict, **measured: Any) -> Path:
    """Write figures as JSON, with their `environment` under "machine"; measured: its arguments."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(figures | {"machine": environment(**measured)}, indent=2) + "\n")
    return path


def stored(name: str) -> dict[str, Any]:
    """The figures of a result file; empty where there is none yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def record(
    name: str, key: Sequence[str], rows: Iterable[dict], *, images: str, tracked: str | None = None, part: str = "rows"
) -> Path:
    """`save` rows in place of those of the same `key` among a result file's: all take long, and may run apart."""
    merged = {tuple(row[field] for field in key): row for row in (*stored(name).get(part, []), *rows)}
    return save(name, {part: list(merged.values())}, images=images, tracked=tracked)


def working_size(size: tuple[int, int], system: Any) -> str:
    """WIDTHxHEIGHT of the images that a system tracks, of input images of size (height, width)."""
    factor = system.factor or max(1, round(size[1] / system.settings.width))
    return f"{size[1] // factor}x{size[0] // factor}"


def pages() -> list[Path]:
    """The files that hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def renew(text: str, tables: dict[str, Callable[[], str]]) -> str:
    """A page with every table that it names as the results have it.

    Raises:
        KeyError: a table that does not exist.
    """
    return BLOCK.sub(lambda found: f"{found[1]}\n{tables[found[2]]()}\n\n{found[3]}", text)


def main(arguments: list[str]) -> int:
    """Renew all tables, or with --check name the pages whose tables are out of date."""
    from benchmarks.tables import TABLES

    stale = [path for path in pages() if renew(path.read_text(), TABLES) != path.read_text()]
    for path in stale:
        print(path.relative_to(ROOT), "is out of date" if "--check" in arguments else "renewed")
        if "--check" not in arguments:
            path.write_text(renew(path.read_text(), TABLES))
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
