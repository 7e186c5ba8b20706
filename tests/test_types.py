"""Type errors that mypy finds in the package: none in STRICT, elsewhere no more than `typing_baseline.json` counts.

`python tests/test_types.py` prints those that are too many, `--update` writes the counts anew where they have shrunk.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASELINE = Path(__file__).with_name("typing_baseline.json")  # file: how many errors are known in it
STRICT = {  # packages without any
    *("compute", "io", "geometry", "structures", "optim", "preprocessing", "odometry", "rendering", "meshing"),
    *("mapping", "graph", "places", "planning", "slam", "loops"),
}


def find_errors() -> dict[str, list[str]]:
    """What mypy prints of each file of the package that it finds errors in."""
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    errors = defaultdict(list)
    for line in done.stdout.splitlines():
        if found := re.match(r"(\S+?):\d+: error: ", line):
            errors[Path(found[1]).as_posix()].append(line)
    if done.returncode > 1 or bool(errors) != bool(done.returncode):
        raise RuntimeError(f"mypy could not be run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return errors


def complaints(errors: dict[str, list[str]], baseline: dict[str, int]) -> list[str]:
    """Errors beyond those known, and entries of the baseline that are too high by now."""
    found = []
    for file in sorted(errors.keys() | baseline.keys()):
        count, known = len(errors.get(file, ())), baseline.get(file, 0)
        if is_strict(file) and (count or known):
            found += [
                f"{file}: expected no error here, got {count}, and {known} in the baseline",
                *errors.get(file, ()),
            ]
        elif count > known:
            found += [f"{file}: expected at most {known} errors, got {count}", *errors[file]]
        elif count < known:
            found.append(f"{file}: {count} errors are left of {known}: `python tests/test_types.py --update`")
    return found


def is_strict(file: str) -> bool:
    return file.split("/")[1] in STRICT


def update(errors: dict[str, list[str]]) -> None:
    """Write the baseline anew, unless a file or the sum would grow; what a renamed file had goes to its new name."""
    counts = {file: len(lines) for file, lines in sorted(errors.items()) if not is_strict(file)}
    if BASELINE.exists():
        known = json.loads(BASELINE.read_text())
        grown = [file for file in counts if counts[file] > known.get(file, counts[file])]
        if grown or sum(counts.values()) > sum(known.values()):
            raise SystemExit(f"more errors than before, mend them first: {', '.join(grown or counts.keys() - known)}")
    BASELINE.write_text(json.dumps(counts, indent=4) + "\n")


@pytest.mark.slow
def test_no_type_error_beyond_those_known():
    pytest.importorskip("mypy", reason="mypy comes with the extra `dev`")
    found = complaints(find_errors(), json.loads(BASELINE.read_text()))
    assert not found, "\n" + "\n".join(found)


def test_the_baseline_only_shrinks(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "BASELINE", tmp_path / "baseline.json")
    errors = {"gradslam_ng/viz/a.py": ["1", "2"], "gradslam_ng/optim/b.py": ["3"]}
    update(errors)
    baseline = json.loads((tmp_path / "baseline.json").read_text())
    assert baseline == {"gradslam_ng/viz/a.py": 2}
    assert [line for line in complaints(errors, baseline) if line.endswith("3")]  # none may be known in `optim`
    assert "at most 2 errors, got 3" in complaints({"gradslam_ng/viz/a.py": ["1", "2", "4"]}, baseline)[0]
    assert "1 errors are left of 2" in complaints({"gradslam_ng/viz/a.py": ["1"]}, baseline)[0]
    for worse in ({"gradslam_ng/viz/a.py": ["1", "2", "4"]}, {"gradslam_ng/viz/c.py": ["1", "2", "4"]}):
        with pytest.raises(SystemExit, match="more errors"):
            update(worse)
    update({"gradslam_ng/viz/c.py": ["1"]})
    assert json.loads((tmp_path / "baseline.json").read_text()) == {"gradslam_ng/viz/c.py": 1}


if __name__ == "__main__":
    now = find_errors()
    if "--update" in sys.argv[1:]:
        update(now)
    found = complaints(now, json.loads(BASELINE.read_text()))
    print(*found, f"{sum(map(len, now.values()))} type errors", sep="\n")
    raise SystemExit(int(bool(found)))
