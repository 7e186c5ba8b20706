"""`gradslam-ng resume`: runs that are killed, at any frame or while they write, go on as if they had not been."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys

import pytest

from gradslam_ng.cli import main
from gradslam_ng.commands.run_folder import STATE
from gradslam_ng.structures import Trajectory

KILLS = {  # a program that kills itself, with no chance to clean up
    "in a frame": """
from gradslam_ng.slam import stream
process, numbers = stream.Stream.process, iter(range(9))
def killed(self, *args):
    process(self, *args)
    if next(numbers) == {count}:
        os.kill(os.getpid(), signal.SIGKILL)
stream.Stream.process = killed
""",
    "while it writes": """
fsync, numbers = os.fsync, iter(range(9))
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL) if next(numbers) == {count} else fsync(file)
""",
}
RESULTS = ("trajectory.txt", "map.ply", "covariance.txt", "frames.csv")


@pytest.fixture
def killed(recording, tmp_path):
    """Function (when, options) -> the folder of a run that is killed at a random frame, with its state in it."""

    def kill(when, *options):
        out = tmp_path / "killed"
        count = random.randint(1, 4)
        code = f"import os, signal, sys\n{KILLS[when].format(count=count)}\nfrom gradslam_ng.cli import main\n"
        arguments = ["run", str(recording), "--out", str(out), "--save-every", "0", "--no-compile", *options]
        command = [sys.executable, "-c", f"{code}main({arguments!r})"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (out / "trajectory.txt").exists() and (out / STATE).is_file()
        return out

    return kill


@pytest.mark.parametrize("when", KILLS)
def test_a_killed_run_goes_on_and_leaves_the_same(recording, killed, tmp_path, run, no_pictures, when):
    expected = tmp_path / "whole"
    assert run(recording, expected, "--no-compile") == 0
    out = killed(when)
    assert main(["resume", str(out)]) == 0
    for name in RESULTS:
        assert (out / name).read_bytes() == (expected / name).read_bytes(), name
    assert {path.name for path in out.iterdir()} - {f".{STATE}.part"} == {path.name for path in expected.iterdir()}
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (out, expected)]
    assert metrics[0]["frames"] == metrics[1]["frames"] and metrics[0]["ate"] == metrics[1]["ate"]


def test_another_run_does_not_mix_with_a_state(recording, tmp_path, run, no_pictures, capsys):
    out = tmp_path / "out"
    assert run(recording, out, "--preset", "fast") == 0
    for path in out.iterdir():
        if path.name != STATE:
            path.unlink()
    assert run(recording, out) == 2
    assert f"holds the results of another run ({STATE}); take another folder, or --overwrite" in said(capsys)
    assert run(recording, out, "--overwrite") == 0
    assert main(["resume", str(out)]) == 0  # of the new run


def test_what_cannot_be_resumed(copy, tmp_path, run, no_pictures, monkeypatch, capsys):
    assert main(["resume", str(tmp_path / "nowhere")]) == 1
    assert "expected the folder of a run that has saved its state" in said(capsys)
    out = tmp_path / "out"
    assert run(copy, out, "--frames", ":4") == 0
    data = (out / STATE).read_bytes()
    (out / STATE).write_bytes(data[:1000])
    assert main(["resume", str(out)]) == 1
    assert "not a saved state" in said(capsys)
    (out / STATE).write_bytes(data)
    (copy / "intrinsics.txt").write_text("70 70 39.5 29.5\n")  # it is no longer what it was
    assert main(["resume", str(out)]) == 1
    assert "the state of another run: sequence, K was" in said(capsys)
    assert run(copy, out, "--save-every", "-1") == 2
    monkeypatch.setattr("gradslam_ng.slam.saved_run.FORMAT", 99)
    for command in ["resume", str(out)], ["run", str(copy), "--out", str(tmp_path / "in"), "--map", str(out)]:
        assert main(command) == 1
        assert "expected a state of this version, format 99, got " in said(capsys)


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_a_run_goes_on_in_the_map_of_an_earlier_one(recording, tmp_path, run, no_pictures, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(recording, first, "--frames", ":4") == 0
    assert run(recording, second, "--frames", "2:", "--map", str(first)) == 0
    metrics = json.loads((second / "metrics.json").read_text())
    assert metrics["frames"]["tracked"] == 4 and metrics["relocalized_at"] == [0]
    assert f"--map {first}" in metrics["settings"]["command"] and metrics["settings"]["map"] == str(first)
    truth = Trajectory.load(recording / "groundtruth.txt").T_wc  # where the first frame of the earlier run was
    found = Trajectory.load(second / "trajectory.txt").T_wc
    assert (found[:, :3, 3] - truth[2:, :3, 3]).norm(dim=-1).max() < 0.01
    before = (second / "trajectory.txt").read_bytes()
    assert main(["resume", str(second)]) == 0 and (second / "trajectory.txt").read_bytes() == before
    assert main(["evaluate", str(second), "--out", str(tmp_path / "plot.png")]) == 0


def test_what_cannot_go_on_in_a_map(recording, tmp_path, run, no_pictures, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(recording, second, "--map", str(first)) == 1
    assert "map: " in (text := said(capsys)) and "expected the folder of a run that saved its state" in text
    assert run(recording, first, "--frames", ":4") == 0
    assert run(recording, first, "--map", str(first), "--overwrite") == 2
    assert "expected another folder than that of --map" in said(capsys)
    assert run(recording, second, "--map", str(first), "--refine") == 2
    assert run(recording, second, "--map", str(first), "--system", "icpslam") == 1
    assert "expected a system that finds a lost camera, got ICPSLAM" in said(capsys)
    assert not list(second.glob("*.txt"))
