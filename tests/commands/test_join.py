"""`gradslam-ng join`: what it writes, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.cli import main
from gradslam_ng.commands.run_folder import STATE
from gradslam_ng.slam.saved_run import StateWriter
from gradslam_ng.structures import SurfelMap, Trajectory
from tests.slam.test_submaps import clip


@pytest.fixture(scope="module")
def folders(room, tmp_path_factory):
    """Of two runs that saw one end of a room, and of one that saw another."""
    found = []
    for first in (0, 15, 150):
        folder = tmp_path_factory.mktemp("run")
        frames = replace(clip(room, torch.arange(first, first + 30, 5)), T_wc=None)
        gs.PointFusion().run(room.InMemory(frames), compile=False, state_writer=StateWriter(folder / STATE))
        found.append(folder)
    return found


def test_what_is_written(folders, tmp_path, prints):
    out = tmp_path / "joined"
    assert main(["join", *map(str, folders), "--out", str(out), "--no-compile"]) == 0
    told = prints()
    assert "not joined" in told and "2 of 3 runs" in told
    metrics = json.loads((out / "metrics.json").read_text())
    assert [run["joined"] for run in metrics["runs"]] == [True, True, False] and metrics["reliable"]
    assert [run["tracked"] for run in metrics["runs"]] == [6, 6, 0] and metrics["runs"][2]["why"]
    assert int(SurfelMap.load(out / "map.ply").count[0]) == metrics["map"]["surfels"]
    assert len(Trajectory.load(out / "trajectory_1.txt")) == len(Trajectory.load(out / "trajectory_2.txt")) == 6
    assert not (out / "trajectory_3.txt").exists()


def test_nothing_in_common(folders, tmp_path, says):
    out = tmp_path / "joined"
    out.mkdir()
    (out / "map.ply").write_text("of another run")
    words = ["join", str(folders[0]), str(folders[2]), "--out", str(out), "--no-compile"]
    assert main(words) == 2 and "holds the results of another run" in says()
    assert main([*words, "--overwrite"]) == 3
    assert "no two of the runs are joined" in says()
    assert not json.loads((out / "metrics.json").read_text())["reliable"]


def test_folders_that_are_refused(folders, tmp_path, says):
    first, second, out = str(folders[0]), str(folders[1]), str(tmp_path / "joined")
    assert main(["join", first, "--out", out]) == 2 and "two runs at least" in says()
    assert main(["join", first, first, "--out", out]) == 2 and "twice" in says()
    assert main(["join", first, second, "--out", first]) == 2 and "another folder" in says()
    assert main(["join", first, str(tmp_path), "--out", out]) == 1 and "not there" in says()
    (tmp_path / STATE).write_bytes(b"nothing")
    assert main(["join", first, str(tmp_path), "--out", out]) == 1 and "not a saved state" in says()
    assert not any(path.name != STATE for path in tmp_path.glob("*.*"))
