"""Runs killed at any moment are resumed to the same end."""

from __future__ import annotations

import pytest

from benchmarks import kills
from gradslam_ng.datasets.export import write_tum


@pytest.mark.slow
def test_a_killed_run_ends_as_one_left_alone(room, tmp_path, monkeypatch):
    recording = write_tum(room.InMemory(room.view(room.walk(5), (30, 40))), tmp_path / "room", mesh=False)
    saved = {}
    monkeypatch.setattr(kills, "save", lambda name, figures, **_: saved.update(figures))
    with pytest.raises(SystemExit) as ended:
        kills.main(cases=1, frames=5, source=str(recording))
    (row,) = saved["rows"]
    assert ended.value.code == 0 and row["same"] and row["kills"] >= 1 and row["poses"] == saved["poses"] == 5
