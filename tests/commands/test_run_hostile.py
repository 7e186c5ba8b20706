"""`gradslam-ng run` on sequences that are not as they should be."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.datasets.export import write_tum
from gradslam_ng.structures import Trajectory

pytestmark = pytest.mark.usefixtures("no_pictures")


def depth_files(folder: Path) -> list[Path]:
    return sorted((folder / "depth").glob("*.png"))


def test_no_such_folder(tmp_path, run, says):
    assert run(tmp_path / "nowhere", tmp_path / "out") == 1
    assert "nowhere: no such file or folder" in says()


@pytest.mark.parametrize("source", ["ros2:", "kinect:0", "synthetics:living_room"])
def test_a_kind_of_source_that_there_is_not(source, tmp_path, run, says):
    assert run(source, tmp_path / "out") == 2
    error = says()
    assert "synthetic:SCENE" in error and "realsense:" in error and source in error


def test_an_empty_folder(tmp_path, run, says):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "out") == 1
    error = says()
    assert "not a sequence" in error and "rgb.txt and depth.txt" in error


def test_unknown_synthetic_scene(tmp_path, run, says):
    assert run("synthetic:castle", tmp_path / "out") == 1
    error = says()
    assert "castle" in error and "living_room" in error


def test_a_missing_depth_file_and_a_truncated_one_are_skipped(copy, tmp_path, run, results, prints):
    missing, cut = depth_files(copy)[1], depth_files(copy)[3]
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:300])
    assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    assert (metrics["frames"]["tracked"], metrics["frames"]["lost"], metrics["frames"]["skipped"]) == (4, 0, 2)
    assert len(trajectory) == 4 and metrics["ate"]["rmse"] < 2e-3
    assert missing.name in metrics["skipped"][0] and cut.name in metrics["skipped"][1]
    printed = prints()
    assert "no such file" in printed and "4 tracked, 0 lost, 2 skipped" in printed


def test_the_bar_reaches_its_end_without_the_last_frame(copy, tmp_path, run, prints):
    depth_files(copy)[-1].unlink()
    assert run(copy, tmp_path / "out") == 0
    assert "6/6" in prints()


def test_a_long_run_says_how_far_it_is_where_there_is_no_bar(recording, tmp_path, run, prints, monkeypatch):
    monkeypatch.setattr("gradslam_ng.commands.console.PRINTED_EVERY", 0.0)
    assert run(recording, tmp_path / "out") == 0
    assert re.search(r"frame 4 of 6: \d+ surfels, ", prints())


def test_every_file_missing(copy, tmp_path, run, says):
    for path in depth_files(copy):
        path.unlink()
    assert run(copy, tmp_path / "out") == 1
    assert "none of its 6 frames can be read" in says()


def test_every_file_broken_but_for_its_header(copy, tmp_path, run, says):
    for path in depth_files(copy):
        path.write_bytes(path.read_bytes()[:300])
    assert run(copy, tmp_path / "out") == 1
    assert "none of its 6 frames could be read" in says()


def test_depth_of_8_bit(copy, tmp_path, run, says):
    for path in depth_files(copy):
        iio.imwrite(path, np.full((60, 80), 100, np.uint8))
    assert run(copy, tmp_path / "out") == 1
    assert "8" in (error := says()) and "16" in error and depth_files(copy)[0].name in error


def test_color_and_depth_of_different_size(copy, tmp_path, run, says):
    for path in depth_files(copy):
        iio.imwrite(path, np.full((30, 40), 9000, np.uint16))
    assert run(copy, tmp_path / "out") == 1
    assert "color is 80x60, depth is 40x30" in says()


def test_one_frame_of_another_size_is_skipped(copy, tmp_path, run, results):
    iio.imwrite(depth_files(copy)[2], np.full((30, 40), 9000, np.uint16))
    assert run(copy, tmp_path / "out") == 0
    assert "40x30" in results(tmp_path / "out")[0]["skipped"][0]


@pytest.mark.parametrize("index", [0, 2])
def test_a_frame_without_depth_is_lost(copy, tmp_path, index, run, results, prints):
    iio.imwrite(depth_files(copy)[index], np.zeros((60, 80), np.uint16))
    assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    frames = metrics["frames"]
    assert (frames["tracked"], frames["lost"], frames["skipped"], frames["relocalized"]) == (5, 1, 0, int(index > 0))
    assert metrics["status_counts"] == {"no_depth": 1}
    assert len(trajectory) == 5 and metrics["relocalized_at"] == ([index + 1] if index else [])
    assert "5 tracked, 1 lost" in prints()


def test_no_overlap_between_two_frames(room, tmp_path, run, results, capsys):
    """From the third frame on the camera looks the other way."""
    T = room.walk(6)
    T[2:, :3, :3] = T[2:, :3, :3] @ torch.diag(torch.tensor([-1.0, 1, -1], dtype=torch.float64))
    folder = write_tum(room.InMemory(room.view(T)), tmp_path / "turned", mesh=False)
    assert run(folder, tmp_path / "out") == 3
    printed = capsys.readouterr()
    reason = "4 of 6 frames have no pose, 4 lost and 0 skipped"
    assert printed.out.splitlines()[-1] == f"unreliable: {reason}" and printed.err == f"error: {reason}\n"
    assert run(folder, tmp_path / "two", "--frames", ":2") == 0
    metrics, trajectory, map_ = results(tmp_path / "out")
    assert metrics["frames"]["tracked"] == 2 and metrics["frames"]["lost"] == 4
    assert (metrics["reliable"], metrics["unreliable_because"], metrics["exit_status"]) == (False, reason, 3)
    assert torch.equal(map_.points, results(tmp_path / "two")[2].points)
    assert len(trajectory) == 2  # a frame that was lost has no pose


def test_nan_in_depth(room, tmp_path, run, results):
    """Plain layout, depth as .npy in meters with NaN for no reading."""
    frames = room.view(room.walk(3))
    for name in ("color", "depth"):
        (tmp_path / "plain" / name).mkdir(parents=True)
    for i in range(3):
        depth = frames.depth[i, ..., 0].numpy().copy()
        depth[10:20, 10:20] = np.nan
        np.save(tmp_path / "plain" / "depth" / f"{i}.npy", depth)
        iio.imwrite(tmp_path / "plain" / "color" / f"{i}.png", (frames.color[i].numpy() * 255).astype(np.uint8))
    np.savetxt(tmp_path / "plain" / "intrinsics.txt", frames.K[0].numpy())
    assert run(tmp_path / "plain", tmp_path / "out") == 0
    metrics, trajectory, map_ = results(tmp_path / "out")
    assert metrics["frames"]["tracked"] == 3 and map_.points.isfinite().all() and trajectory.T_wc.isfinite().all()
    assert int(map_.count) > 0.9 * (60 * 80 - 100)


@pytest.mark.parametrize("text", ["1 2 3", "1 2 3 4 5 6", "a b c d", ""])
def test_a_camera_of_the_wrong_shape(copy, tmp_path, text, run, says):
    (copy / "intrinsics.txt").write_text(text)
    assert run(copy, tmp_path / "out") == 1
    assert "intrinsics.txt" in says()


def test_ground_truth_with_gaps(copy, tmp_path, run, results):
    lines = (copy / "groundtruth.txt").read_text().splitlines()
    (copy / "groundtruth.txt").write_text("\n".join(lines[:1] + lines[2:4] + lines[5:]) + "\n")
    assert run(copy, tmp_path / "icp") == 0
    metrics, trajectory, _ = results(tmp_path / "icp")
    assert metrics["frames"]["tracked"] == 6 and len(trajectory) == 6 and metrics["ate"]["rmse"] < 2e-3
    (copy / "groundtruth.txt").write_text("\n".join(lines[:1] + lines[3:]) + "\n")
    assert run(copy, tmp_path / "given", "--odometry", "ground-truth") == 0
    metrics, trajectory, _ = results(tmp_path / "given")
    assert metrics["frames"]["tracked"] == 6 - 2 and metrics["frames"]["lost"] == 2


def test_given_poses_that_are_not_there(copy, tmp_path, run, says):
    (copy / "groundtruth.txt").unlink()
    assert run(copy, tmp_path / "out", "--odometry", "ground-truth") == 1
    assert "needs frames with poses" in says()


def test_ground_truth_of_another_time(copy, tmp_path, run, results, prints):
    """Nothing to compare with: the run goes on and says so."""
    lines = (copy / "groundtruth.txt").read_text().splitlines()[1:]
    late = [f"{float(line.split()[0]) + 1000:.6f} " + line.split(maxsplit=1)[1] for line in lines]
    (copy / "groundtruth.txt").write_text("\n".join(late) + "\n")
    assert run(copy, tmp_path / "out") == 0
    metrics, _, _ = results(tmp_path / "out")
    assert "ate" not in metrics and metrics["frames"]["tracked"] == 6
    assert "no comparison with the ground truth" in prints()


def test_time_stamps_out_of_order(copy, recording, tmp_path, run, results, prints):
    for name in ("rgb.txt", "depth.txt", "groundtruth.txt"):
        head, *lines = (copy / name).read_text().splitlines()
        (copy / name).write_text("\n".join([head, *lines[3:], *lines[:3]]) + "\n")
    assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    assert "warning: " in prints() and [each["code"] for each in metrics["findings"]] == ["files.lines"] * 3
    assert metrics["frames"]["tracked"] == 6 and metrics["ate"]["rmse"] < 1e-3
    assert torch.allclose(trajectory.timestamps, Trajectory.load(recording / "groundtruth.txt").timestamps)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "rgb/../../secret.png"])
def test_a_list_whose_paths_leave_the_folder(copy, tmp_path, path, run, says):
    iio.imwrite(tmp_path / "secret.png", np.zeros((60, 80, 3), np.uint8))
    text = (copy / "rgb.txt").read_text().splitlines()
    text[2] = f"{text[2].split()[0]} {path}"
    (copy / "rgb.txt").write_text("\n".join(text) + "\n")
    assert run(copy, tmp_path / "out") == 1
    error = says()
    assert "rgb.txt" in error and path in error


# what is odd about the recording


def spoil(folder: Path, kind: str) -> None:
    """Give a recording one fault that does not keep it from being run."""
    if kind == "camera":
        (folder / "intrinsics.txt").write_text("64 64 20 29.5\n")
    elif kind == "unit":
        for path in depth_files(folder):
            iio.imwrite(path, (iio.imread(path) / 50).astype(np.uint16))
    elif kind == "stamps":
        for name in ("rgb.txt", "depth.txt"):
            lines = (folder / name).read_text().splitlines()
            lines[3] = f"{lines[2].split()[0]} {lines[3].split()[1]}"
            (folder / name).write_text("\n".join(lines))
    elif kind == "missing":
        depth_files(folder)[4].unlink()


@pytest.mark.parametrize(
    ("kind", "code", "sentence"),
    [
        ("camera", "camera.center", "principal point (20.0, 29.5) is off the center of 80x60"),
        ("unit", "depth.unit", "is unusual; is the depth unit 1/5000 m"),
        ("stamps", "time.repeated", "1 frames have the time stamp of the frame before"),
        ("missing", "files.missing", "1 depth files are missing"),
    ],
)
def test_what_is_odd_is_said_before_the_run_and_kept(copy, tmp_path, run, capsys, kind, code, sentence):
    """Or refused, with a status of its own, before anything is written."""
    spoil(copy, kind)
    assert run(copy, tmp_path / "refused", "--strict", "--frames", ":6") == 4
    assert sentence in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "refused").exists()
    assert run(copy, tmp_path / "out", "--system", "icp-odometry") in (0, 3)
    printed = capsys.readouterr().out
    assert sentence in " ".join(printed.split()) and printed.index(sentence[:20]) < printed.index("6/6")
    findings = json.loads((tmp_path / "out" / "metrics.json").read_text())["findings"]
    assert code in [finding["code"] for finding in findings]
    assert all(finding.keys() == {"severity", "code", "message"} for finding in findings)


def test_strict_runs_what_nothing_is_odd_about(recording, tmp_path, run, results):
    assert run(recording, tmp_path, "--strict") == 0
    assert results(tmp_path)[0]["settings"]["strict"] is True


def test_degenerate_frames_make_a_run_unreliable(room, tmp_path, run, results, prints):
    """A flat wall of one color tells three of the six directions of motion."""
    frames = room.view(room.walk(4))
    frames = dataclasses.replace(
        frames, depth=torch.full_like(frames.depth, 2.0), color=torch.full_like(frames.color, 0.5)
    )
    folder = write_tum(room.InMemory(frames), tmp_path / "wall", mesh=False)
    assert run(folder, tmp_path / "out") == 3
    metrics = results(tmp_path / "out")[0]
    assert "tracked frames are degenerate" in metrics["unreliable_because"] and not metrics["reliable"]
    printed = prints()
    assert "unreliable: 3 of 4 tracked frames are degenerate" in printed and "3 of those tracked" in printed


def test_most_frames_skipped(copy, tmp_path, run, results):
    for path in depth_files(copy)[2:]:
        path.write_bytes(path.read_bytes()[:300])
    assert run(copy, tmp_path / "out") == 3
    assert results(tmp_path / "out")[0]["unreliable_because"] == "4 of 6 frames have no pose, 0 lost and 4 skipped"


NAMES = ["kamera_\u6f22\u5b57", "e\u0301t\u00e9 \U0001f600", "cost $5 \\frac", "no\udcfftext"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_that_the_output_cannot_show(copy, tmp_path, encoding):
    """Of a folder, of a file that is skipped, of what `info` shows; in one process, which takes seconds to start."""
    folders = [shutil.copytree(copy, tmp_path / name) for name in NAMES]
    for folder in folders:
        depth_files(folder)[1].unlink()
    code = (
        "import sys, pathlib; from gradslam_ng.cli import main\n"
        "base = pathlib.Path(sys.argv[1])\n"
        "for i, folder in enumerate(sorted(path for path in base.iterdir() if path.name not in ('room', 'out'))):\n"
        "    out = base / 'out' / folder.name\n"
        "    assert main(['info', str(folder)]) == 0\n"
        "    assert main(['run', str(folder), '--out', str(out), '--frames', ':3', '--system', 'icp-odometry']) == 0\n"
        "    assert main(['info', str(folder / 'nowhere')]) == 1\n"
    )
    env = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "200"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, env=env, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert {path.name for path in (tmp_path / "out" / name).iterdir()} >= {"metrics.json", "trajectory.png"}
