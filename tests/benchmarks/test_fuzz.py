"""A hundred damaged recordings and files: each is read, has frames skipped, or is refused in one clear error."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import fuzz

for module in ("rosbags", "liblzfse", "av", "webdataset"):
    pytest.importorskip(module)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    return fuzz.prepare(tmp_path_factory.mktemp("fuzz") / "samples")


@pytest.mark.slow
def test_damaged_files_cost_frames_or_one_error(samples):
    results, most = fuzz.run(samples, list(range(100)))
    assert [result for result in results if result[2].startswith("failure")] == [] and most < 4096
    came = Counter(result[2] for result in results)
    assert sum(came.values()) == 100 and all(came[kind] for kind in ("read", "frames skipped", "error"))


@pytest.mark.slow
def test_samples_that_are_whole_are_read(samples, tmp_path):
    """Else damage would be none of what is seen."""
    found = json.loads((samples / "samples.json").read_text())
    assert len(found) > 30
    for name, path in found.items():
        if name == "resume DIR":  # which writes there
            path = shutil.copytree(path, tmp_path / "run")
        if not name.endswith(" DIR") or name in ("view DIR", "resume DIR"):
            assert fuzz.read(name, Path(path)) == "read", name


@pytest.mark.slow
def test_what_a_reader_raises_is_told(samples, tmp_path, monkeypatch):
    """The check would see a traceback."""

    def broken(name, path):
        raise IndexError("no such row")

    monkeypatch.setattr(fuzz, "read", broken)
    found = json.loads((samples / "samples.json").read_text())
    _, came, told = fuzz.one(0, {name: Path(path) for name, path in found.items()}, tmp_path)
    assert came == "failure" and "IndexError: no such row" in told
