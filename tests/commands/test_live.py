"""`gradslam-ng run` and `record` with a live camera, a software device of librealsense, and a recording at its pace."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from gradslam_ng import datasets
from gradslam_ng.cameras import camera, realsense
from gradslam_ng.cli import main
from gradslam_ng.structures import Trajectory

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def view(room):
    """What the software device sees: the room, along a walk, then from where it ended."""
    frames = room.view(room.walk(6))

    def look(number: int) -> tuple[np.ndarray, np.ndarray]:
        i = min(number // 4, 5)
        depth = (1000 * frames.depth[i, ..., 0]).round().numpy().astype(np.uint16)
        return depth, (255 * frames.color[i]).byte().numpy()

    return look


def test_a_camera_is_run(software, view, tmp_path, prints):
    software.plug_in(view)
    out = tmp_path / "out"
    assert main(["run", "realsense:", "--out", str(out), "--frames", ":20"]) == 0
    said = prints()
    assert "Software D400: realsense, live, frames of 80x60" in said and "frames, which came while" in said
    metrics = json.loads((out / "metrics.json").read_text())
    counts = metrics["frames"]
    assert counts["tracked"] + counts["dropped"] == 20 and counts["lost"] == 0 and counts["in_sequence"] >= 20
    assert 0 < metrics["latency_ms"]["median"] <= metrics["latency_ms"]["max"]
    assert metrics["settings"]["source"] == "realsense:" and metrics["reliable"]
    assert len(Trajectory.load(out / "trajectory.txt")) == counts["tracked"]
    assert main(["evaluate", str(out)]) == 1  # there is no recording to compare with


def test_a_camera_goes_on_in_the_map_of_another_day(software, view, tmp_path, says):
    software.plug_in(view)
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["run", "realsense:", "--out", str(first), "--frames", ":20"]) == 0
    assert main(["run", "realsense:", "--out", str(second), "--frames", ":20", "--map", str(first)]) == 0
    metrics = json.loads((second / "metrics.json").read_text())
    assert metrics["frames"]["lost"] == 0 and metrics["relocalized_at"] == [0]
    assert main(["resume", str(first)]) == 1 and "frames cannot be read again" in says()


def test_a_camera_that_is_unplugged_leaves_all(software, view, tmp_path, monkeypatch, says):
    monkeypatch.setattr(realsense, "PATIENCE", 0.5)
    monkeypatch.setattr(camera, "SILENCES", 2)
    software.plug_in(view, 12)
    assert main(["run", "realsense:", "--out", str(tmp_path / "out")]) == 1
    assert "Software D400: no frame for 0.5 s, is it still plugged in?" in says()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["frames"]["tracked"] >= 1 and (tmp_path / "out" / "map.ply").stat().st_size > 1000
    assert "no frame for 0.5 s" in (tmp_path / "out" / "run.log").read_text()


def test_what_means_nothing_to_a_camera_is_refused(software, view, tmp_path, says):
    software.plug_in(view)
    for options in (["--depth-scale", "1000"], ["--noise", "none"], ["--refine"], ["--frames", "-5:"]):
        assert main(["run", "realsense:", "--out", str(tmp_path / "out"), *options]) == 2
        assert options[0] in says() or options[0] == "--frames"
    assert not (tmp_path / "out").exists()


def test_a_recording_is_played_at_its_own_pace(recording, tmp_path, run, results):
    assert run(recording, tmp_path, "--realtime") in (0, 3)  # on a busy machine too few frames are left to rely on
    metrics, trajectory, _ = results(tmp_path)
    assert metrics["frames"]["tracked"] + metrics["frames"]["dropped"] == 6 == metrics["frames"]["in_sequence"]
    assert metrics["settings"]["realtime"] and "--realtime" in metrics["settings"]["command"]
    truth = Trajectory.load(recording / "groundtruth.txt").timestamps
    assert (trajectory.timestamps[:, None] - truth).abs().amin(1).max() < 1e-5


def test_what_is_recorded_can_be_run(software, view, tmp_path, prints, run):
    software.plug_in(view)
    folder = tmp_path / "room"
    assert main(["record", "realsense:", "--out", str(folder), "--seconds", "0.5"]) == 0
    count = len(list((folder / "color").iterdir()))
    assert count >= 5 and f"{count} frames" in prints()
    sequence = datasets.load(folder)
    assert len(sequence) == count and torch.allclose(sequence.K[0, 0], torch.tensor(64.0))
    assert run(folder, tmp_path / "out", "--frames", ":4") == 0


@pytest.mark.parametrize("ends", [KeyboardInterrupt, OSError])
def test_a_recording_that_is_ended_is_kept(software, view, tmp_path, monkeypatch, prints, ends):
    """By Ctrl-C, which is the usual end, or by a cable."""
    software.plug_in(view)
    grab, grabbed = realsense.RealSense.grab, []

    def until(self):
        if len(grabbed) == 3:
            raise ends("gone")
        grabbed.append(grab(self))
        return grabbed[-1]

    monkeypatch.setattr(realsense.RealSense, "grab", until)
    assert main(["record", "realsense:", "--out", str(tmp_path / "room")]) == (0 if ends is KeyboardInterrupt else 1)
    assert "3 frames" in prints() and len(datasets.load(tmp_path / "room")) == 3
