"""`gradslam-ng sweep`: a folder each, a table of all, nothing done twice, and crashes that cost one retry."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from gradslam_ng.cli import main
from gradslam_ng.commands.recording import RecordingOptions
from gradslam_ng.commands.run_options import ComputeOptions, SystemOptions
from gradslam_ng.commands.sweep import as_arguments
from gradslam_ng.commands.sweep_runs import Run, attempt, read_outcome, unique_names


@pytest.fixture
def recordings(recording, tmp_path):
    """Two of the same name in different folders, and one that is none."""
    for name in ("a", "b"):
        shutil.copytree(recording, tmp_path / "data" / name / "room")
    (tmp_path / "data" / "empty").mkdir()
    return [str(tmp_path / "data" / name) for name in ("a/room", "b/room", "empty")]


def table(root) -> dict[str, dict[str, str]]:
    with (root / "results.csv").open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_two_at_a_time_and_what_is_done_is_not_done_again(recordings, tmp_path, capsys):
    root = tmp_path / "out"
    arguments = ["sweep", *recordings, "--out", str(root), "--preset", "fast", "--jobs", "2"]
    assert main(arguments) == 1
    printed, said = capsys.readouterr()
    assert "2 of 3 done" in printed and "no results of empty" in said
    rows = table(root)
    assert [rows[name]["state"] for name in ("a_room", "b_room", "empty")] == ["done", "done", "failed"]
    assert rows["a_room"]["tracked"] == "6" and float(rows["a_room"]["ate_m"]) < 0.02
    assert "not a sequence" in (root / ".sweep" / "empty.log").read_text()
    remark = rows["empty"]["remark"]  # the first line of what went wrong
    assert remark.startswith("error:") and "not a sequence" in remark
    page = (root / "results.html").read_text()
    assert page.count("/report.html") == 2 and (root / "b_room" / "report.html").is_file()
    assert page.count("<img") == 4 and (root / "b_room" / "map.png").is_file()

    before = {name: (root / name / "metrics.json").stat().st_mtime_ns for name in ("a_room", "b_room")}
    assert main(["sweep", *recordings[:2], "--out", str(root), "--preset", "fast"]) == 0
    assert "2 with results from before" in capsys.readouterr().out
    assert before == {name: (root / name / "metrics.json").stat().st_mtime_ns for name in before}


def a_run(tmp_path, name: str = "x") -> Run:
    (tmp_path / name).mkdir()
    (tmp_path / name / "metrics.json").write_text("{}")
    return Run(name, f"/data/{name}", tmp_path, ("--preset", "fast"))


@pytest.mark.parametrize(
    "statuses, tries, status",
    [([0], 1, 0), ([3], 1, 3), ([1], 1, 1), ([-9, 0], 2, 0), ([-11, -11], 2, -11), ([130], 1, 130)],
)
def test_a_crash_costs_one_retry(tmp_path, statuses, tries, status):
    run, left = a_run(tmp_path), list(statuses)
    outcome = attempt(run, lambda: left.pop(0))
    assert (outcome.tries, outcome.exit_status, left) == (tries, status, [])
    assert read_outcome(run) == (outcome if status in (0, 3) else None)


def test_results_of_other_options_or_cut_records_are_not_taken(tmp_path):
    run = a_run(tmp_path)
    attempt(run, lambda: 0)
    assert read_outcome(Run(run.name, run.source, run.root, ())) is None
    run.record.write_text(run.record.read_text()[:20])
    assert read_outcome(run) is None
    attempt(run, lambda: 0)
    (run.out / "metrics.json").unlink()
    assert read_outcome(run) is None


@pytest.mark.parametrize(
    "sources, names",
    [
        (["/d/room", "synthetic:room"], ["room", "synthetic_room"]),
        (["/a/x/room", "/b/x/room", "/c"], ["a_x_room", "b_x_room", "c"]),
        (["/a/b", "/a_b", "/c/b"], ["a_b_0", "a_b_1", "c_b"]),
    ],
)
def test_names_tell_recordings_apart(sources, names):
    assert unique_names(sources) == names


@pytest.mark.parametrize(
    "options", [("--jobs", "0"), ("--gpus-per-run", "-1"), ("--scale", "0.3", "--config", "x.toml")], ids=" ".join
)
def test_options_that_mean_nothing(tmp_path, monkeypatch, options, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.toml").write_text("")
    assert main(["sweep", str(tmp_path), "--out", str(tmp_path / "out"), *options]) in (1, 2)
    assert capsys.readouterr().err.startswith("error: ")


def test_a_recording_given_twice(tmp_path, capsys):
    assert main(["sweep", str(tmp_path), f"{tmp_path}/", "--out", str(tmp_path / "out")]) == 2
    assert "each recording once" in capsys.readouterr().err


def test_options_go_on_to_each_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.toml").write_text("")
    method = SystemOptions(config=Path("x.toml"), loops=False, preset="fast")
    found = as_arguments(RecordingOptions(frames=":9", strict=True), method, ComputeOptions())
    assert found == ("--frames=:9", "--strict", "--preset=fast", f"--config={tmp_path / 'x.toml'}", "--no-loops")
