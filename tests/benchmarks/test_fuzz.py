"""A hundred damaged recordings and files: each is read, has frames skipped, or is refused in one clear error."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import fuzz

pytest.importorskip("rosbags")
pytest.importorskip("liblzfse")


@pytest.mark.slow
def test_damaged_files_cost_frames_or_one_error(tmp_path):
    results, most = fuzz.run(fuzz.prepare(tmp_path), list(range(100)))
    assert [result for result in results if result[2].startswith("failure")] == [] and most < 4096
    came = Counter(result[2] for result in results)
    assert sum(came.values()) == 100 and all(came[kind] for kind in ("read", "frames skipped", "error"))


def test_what_a_reader_raises_is_told(tmp_path, monkeypatch):
    """The check would see a traceback."""
    samples = json.loads((fuzz.prepare(tmp_path / "samples") / "samples.json").read_text())
    (tmp_path / "case").mkdir()

    def broken(name, path):
        raise IndexError("no such row")

    monkeypatch.setattr(fuzz, "read", broken)
    _, came, told = fuzz.one(0, {name: Path(path) for name, path in samples.items()}, tmp_path / "case")
    assert came == "failure" and "IndexError: no such row" in told
