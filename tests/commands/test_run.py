"""`gradslam-ng run`: what it leaves, and what it says when something is wrong with what it was given."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.cli import main
from gradslam_ng.datasets.export import write_tum
from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.structures.ply import read_ply

FRAMES = 6
FILES = {"trajectory.txt", "map.ply", "metrics.json", "trajectory.png", "map.png"}


@pytest.fixture(scope="module")
def recording(room, tmp_path_factory) -> Path:
    """A clean sequence of 80x60 in the TUM layout."""
    return write_tum(room.InMemory(room.view(room.walk(FRAMES))), tmp_path_factory.mktemp("tum") / "room", mesh=False)


@pytest.fixture
def copy(recording, tmp_path) -> Path:
    """The recording, to be spoilt."""
    folder = tmp_path / "room"
    for path in recording.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(recording)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(recording)).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Pictures take seconds: they are drawn where a test looks at them, elsewhere their files are empty."""
    if "full" not in request.fixturenames:
        for module, name in (("plots", "plot_trajectory"), ("snapshot", "snapshot")):
            module = importlib.import_module(f"gradslam_ng.viz.{module}")
            monkeypatch.setattr(module, name, lambda path, *_: path.write_bytes(b""))


def run(source, out: Path, *options: str) -> int:
    return main(["run", str(source), "--out", str(out), *options])


def results(out: Path) -> tuple[dict, Trajectory, SurfelMap]:
    assert {path.name for path in out.iterdir()} == FILES
    metrics = json.loads((out / "metrics.json").read_text())
    return metrics, Trajectory.load(out / "trajectory.txt"), SurfelMap.load(out / "map.ply")


def depth_files(folder: Path) -> list[Path]:
    return sorted((folder / "depth").glob("*.png"))


def says(capsys) -> str:
    """What was written to the error stream, in one line."""
    return " ".join(capsys.readouterr().err.split())


def prints(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


# what it leaves


@pytest.fixture(scope="module")
def full(recording, tmp_path_factory) -> Path:
    """The folder that one whole run leaves."""
    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    assert run(recording, out) == 0
    return out


def test_trajectory_and_metrics(full, recording):
    metrics, trajectory, map_ = results(full)
    truth = Trajectory.load(recording / "groundtruth.txt")
    assert torch.allclose(trajectory.timestamps, truth.timestamps)
    assert (trajectory.T_wc - truth.T_wc)[:, :3, 3].norm(dim=-1).max() < 2e-3
    assert metrics["frames"] == {"in_sequence": FRAMES, "tracked": FRAMES, "lost": 0, "skipped": 0}
    assert metrics["settings"]["system"] == "pointfusion" and metrics["settings"]["odometry"] == "gradicp"
    assert metrics["settings"]["source"] == str(recording) and metrics["interrupted"] is False
    stages = metrics["milliseconds_per_frame"]
    assert set(stages) == {"read", "prepare", "predict", "localise", "map", "total"}
    assert stages["total"] == pytest.approx(sum(ms for name, ms in stages.items() if name != "total"), rel=1e-3)
    assert metrics["peak_memory_mb"] > 50
    assert metrics["map"]["surfels"] == int(map_.count)
    assert metrics["ate"]["rmse"] < 1e-3
    assert metrics["rpe"]["translation"]["rmse"] < 1e-3 and metrics["rpe"]["rotation"]["rmse"] < 0.05


def test_map_has_every_column(full):
    columns, faces = read_ply(full / "map.ply")
    assert faces is None
    assert set(columns) == {"x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "radius", "confidence"}
    assert len(columns["x"]) > 60 * 80 * 0.9
    normals = torch.stack([columns[name] for name in ("nx", "ny", "nz")], -1)
    assert (normals.norm(dim=-1) - 1).abs().max() < 1e-3
    assert columns["radius"].min() > 0 and columns["confidence"].min() > 0


def test_pictures_show_something(full):
    for name in ("trajectory.png", "map.png"):
        picture = iio.imread(full / name)
        assert picture.shape[0] > 500 and picture[..., :3].std() > 5
        assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 100


@pytest.mark.parametrize("system", ["icpslam", "icp-odometry"])
def test_other_systems(recording, tmp_path, system, capsys):
    assert run(recording, tmp_path / "out", "--system", system, "--odometry", "icp") == 0
    metrics, trajectory, map_ = results(tmp_path / "out")
    assert len(trajectory) == FRAMES and metrics["ate"]["rmse"] < 2e-3
    assert (int(map_.count) == 0) == (system == "icp-odometry")
    assert "6 tracked, 0 lost, 0 skipped" in prints(capsys)


def test_frames_scale_and_ground_truth(recording, tmp_path):
    assert run(recording, tmp_path, "--frames", "1:6:2", "--scale", "0.5", "--odometry", "ground-truth") == 0
    metrics, trajectory, map_ = results(tmp_path)
    truth = Trajectory.load(recording / "groundtruth.txt")
    assert torch.allclose(trajectory.timestamps, truth.timestamps[1:6:2])
    assert metrics["frames"]["in_sequence"] == 3 and metrics["settings"]["scale"] == 0.5
    assert metrics["ate"]["rmse"] < 1e-5 and int(map_.count) < 2 * 30 * 40


def test_a_sequence_without_ground_truth(copy, tmp_path):
    (copy / "groundtruth.txt").unlink()
    assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    assert "ate" not in metrics and len(trajectory) == FRAMES


def test_one_frame(recording, tmp_path, capsys):
    assert run(recording, tmp_path, "--frames", ":1") == 0
    metrics, trajectory, _ = results(tmp_path)
    assert "ate" not in metrics and len(trajectory) == 1


def test_synthetic_with_noise(tmp_path):
    assert run("synthetic:corner", tmp_path, "--frames", ":1", "--noise", "kinect") == 0
    assert results(tmp_path)[0]["settings"]["noise"] == "kinect"


def test_a_second_run_replaces_the_first(recording, tmp_path):
    for frames in (":3", ":2"):
        assert run(recording, tmp_path, "--frames", frames) == 0
    assert len(results(tmp_path)[1]) == 2


def test_names_that_look_like_markup(copy, tmp_path):
    folder = copy.rename(copy.parent / "[bold]odd[red]")
    assert run(folder, tmp_path / "[/out]") == 0
    assert results(tmp_path / "[/out]")[0]["sequence"] == folder.name


# settings in a file


def test_settings_from_a_file(recording, tmp_path):
    config = tmp_path / "settings.toml"
    config.write_text("[odometry]\niterations = [4, 2]\nmax_distance = 1\n[mapping]\nstable = 2.5\n")
    assert run(recording, tmp_path / "out", "--config", str(config)) == 0
    assert results(tmp_path / "out")[0]["settings"]["config"] == str(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[odometry\n", "not TOML"),
        ("[tracking]\n", "expected the tables [odometry] and [mapping], got 'tracking'"),
        ("odometry = 3\n", "expected the tables"),
        ("[odometry]\niteration = 3\n", "no setting 'iteration' here; it has iterations, max_distance"),
        ("[mapping]\nfilter = 3\n", "no setting 'filter'"),
        ("[odometry]\nmax_distance = 'far'\n", "max_distance: expected something like 0.1, got 'far'"),
        ("[odometry]\niterations = 10\n", "iterations: expected something like (10, 5, 4), got 10"),
        ("[odometry]\niterations = [1.5]\n", "iterations: expected something like"),
        ("[odometry]\nmax_distance = true\n", "max_distance: expected something like"),
        ("[mapping]\npatience = 1.5\n", "patience: expected something like 20"),
        ("[mapping]\nstable = 0\n", "stable: expected more than 0"),
        ("[odometry]\nrule = 'x'\n", "no setting 'rule'"),
    ],
)
def test_settings_that_are_not_understood(recording, tmp_path, capsys, text, message):
    (tmp_path / "settings.toml").write_text(text)
    assert run(recording, tmp_path / "out", "--config", str(tmp_path / "settings.toml")) == 1
    assert message in says(capsys) and not (tmp_path / "out").exists()


def test_settings_of_a_part_that_does_not_run(recording, tmp_path, capsys):
    (tmp_path / "settings.toml").write_text("[mapping]\nstable = 2\n")
    options = ("--config", str(tmp_path / "settings.toml"), "--system", "icpslam")
    assert run(recording, tmp_path / "out", *options) == 1
    assert "[mapping] has no setting 'stable' here; it has none" in says(capsys)


# what is wrong on the command line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--frames", "ten"), "frames: expected FIRST:LAST:STEP"),
        (("--frames", "3"), "frames: expected FIRST:LAST:STEP"),
        (("--frames", "::0"), "frames: expected FIRST:LAST:STEP"),
        (("--frames", "::-1"), "frames: expected FIRST:LAST:STEP"),
        (("--frames", "1:2:3:4"), "frames: expected FIRST:LAST:STEP"),
        (("--frames", "100:"), "leaves none"),
        (("--scale", "0.3"), "scale: expected one over a whole number"),
        (("--scale", "0"), "scale: expected one over"),
        (("--scale", "-1"), "scale: expected one over"),
        (("--scale", "nan"), "scale: expected one over"),
        (("--scale", "2"), "scale: expected one over"),
        (("--scale", "0.01"), "80x60 shrunk by 100"),
        (("--config", "nowhere.toml"), "config: no such file: nowhere.toml"),
        (("--intrinsics", "1,2,3"), "intrinsics"),
        (("--depth-scale", "0"), "depth_scale"),
        (("--noise", "kinect"), "TUM takes no option 'noise'"),
    ],
)
def test_options_out_of_range(recording, tmp_path, capsys, options, message):
    assert run(recording, tmp_path / "out", *options) == 1
    error = says(capsys)
    assert error.startswith("error: ") and message in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sytem", "pointfusion"), "--sytem"),
        (("--system", "kinectfusion"), "kinectfusion"),
        (("--odometry", "magic"), "magic"),
        (("--device", "abacus"), "abacus"),
        (("--scale", "half"), "half"),
        (("extra",), "extra"),
    ],
)
def test_unknown_options_and_names(recording, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        run(recording, tmp_path / "out", *options)
    assert stop.value.code == 2 and message in says(capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device(recording, tmp_path, capsys):
    assert run(recording, tmp_path / "out", "--device", "cuda") == 1
    assert "device: expected a CUDA device" in says(capsys)


# what is wrong with the folder for the results


def test_results_that_cannot_be_written_are_refused_before_the_run(recording, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run(recording, out) == 1
        assert f"out: cannot write to {out}" in says(capsys)


def test_one_result_that_cannot_be_written_costs_no_other(recording, tmp_path, capsys):
    for name in ("trajectory.txt", "map.png"):
        (tmp_path / "out" / name).mkdir(parents=True)
    assert run(recording, tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert "not written: trajectory.txt, map.png" in " ".join(printed.err.split())
    assert "map.ply, metrics.json, trajectory.png" in " ".join(printed.out.split())
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["ate"]["rmse"] < 1e-3
    assert int(SurfelMap.load(tmp_path / "out" / "map.ply").count) > 0


# what is wrong with the sequence


def test_no_such_folder(tmp_path, capsys):
    assert run(tmp_path / "nowhere", tmp_path / "out") == 1
    assert "nowhere: no such folder" in says(capsys)


def test_an_empty_folder(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "out") == 1
    error = says(capsys)
    assert "not a sequence" in error and "rgb.txt and depth.txt" in error


def test_unknown_synthetic_scene(tmp_path, capsys):
    assert run("synthetic:castle", tmp_path / "out") == 1
    error = says(capsys)
    assert "castle" in error and "living_room" in error


def test_a_missing_depth_file_and_a_truncated_one_are_skipped(copy, tmp_path, capsys):
    missing, cut = depth_files(copy)[1], depth_files(copy)[3]
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:300])
    assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    assert metrics["frames"] == {"in_sequence": 6, "tracked": 4, "lost": 0, "skipped": 2}
    assert len(trajectory) == 4 and metrics["ate"]["rmse"] < 2e-3
    assert missing.name in metrics["skipped"][0] and cut.name in metrics["skipped"][1]
    printed = prints(capsys)
    assert "no such file" in printed and "4 tracked, 0 lost, 2 skipped" in printed


def test_every_file_missing(copy, tmp_path, capsys):
    for path in depth_files(copy):
        path.unlink()
    assert run(copy, tmp_path / "out") == 1
    assert "none of its 6 frames can be read" in says(capsys)


def test_every_file_broken_but_for_its_header(copy, tmp_path, capsys):
    for path in depth_files(copy):
        path.write_bytes(path.read_bytes()[:300])
    assert run(copy, tmp_path / "out") == 1
    assert "none of its 6 frames could be read" in says(capsys)


def test_depth_of_8_bit(copy, tmp_path, capsys):
    for path in depth_files(copy):
        iio.imwrite(path, np.full((60, 80), 100, np.uint8))
    assert run(copy, tmp_path / "out") == 1
    assert "8" in (error := says(capsys)) and "16" in error and depth_files(copy)[0].name in error


def test_colour_and_depth_of_different_size(copy, tmp_path, capsys):
    for path in depth_files(copy):
        iio.imwrite(path, np.full((30, 40), 9000, np.uint16))
    assert run(copy, tmp_path / "out") == 1
    assert "colour is 80x60, depth is 40x30" in says(capsys)


def test_one_frame_of_another_size_is_skipped(copy, tmp_path):
    iio.imwrite(depth_files(copy)[2], np.full((30, 40), 9000, np.uint16))
    assert run(copy, tmp_path / "out") == 0
    assert "40x30" in results(tmp_path / "out")[0]["skipped"][0]


@pytest.mark.parametrize("index", [0, 2])
def test_a_frame_without_depth_is_lost(copy, tmp_path, capsys, index):
    iio.imwrite(depth_files(copy)[index], np.zeros((60, 80), np.uint16))
    assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    assert metrics["frames"] == {"in_sequence": 6, "tracked": 5, "lost": 1, "skipped": 0}
    assert len(trajectory) == FRAMES
    assert "5 tracked, 1 lost" in prints(capsys)


def test_no_overlap_between_two_frames(room, tmp_path):
    """From the third frame on the camera looks the other way."""
    T = room.walk(FRAMES)
    T[2:, :3, :3] = T[2:, :3, :3] @ torch.diag(torch.tensor([-1.0, 1, -1], dtype=torch.float64))
    folder = write_tum(room.InMemory(room.view(T)), tmp_path / "turned", mesh=False)
    assert run(folder, tmp_path / "out") == 0
    assert run(folder, tmp_path / "two", "--frames", ":2") == 0
    metrics, trajectory, map_ = results(tmp_path / "out")
    assert metrics["frames"]["tracked"] == 2 and metrics["frames"]["lost"] == 4
    assert torch.equal(map_.points, results(tmp_path / "two")[2].points)
    assert torch.equal(trajectory.T_wc[1:], trajectory.T_wc[1:2].expand(FRAMES - 1, 4, 4))


def test_nan_in_depth(room, tmp_path):
    """Plain layout, depth as .npy in metres with NaN for no reading."""
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
def test_a_camera_of_the_wrong_shape(copy, tmp_path, capsys, text):
    (copy / "intrinsics.txt").write_text(text)
    assert run(copy, tmp_path / "out") == 1
    assert "intrinsics.txt" in says(capsys)


def test_ground_truth_with_gaps(copy, tmp_path):
    lines = (copy / "groundtruth.txt").read_text().splitlines()
    (copy / "groundtruth.txt").write_text("\n".join(lines[:1] + lines[2:4] + lines[5:]) + "\n")
    assert run(copy, tmp_path / "icp") == 0
    metrics, trajectory, _ = results(tmp_path / "icp")
    assert metrics["frames"]["tracked"] == FRAMES and len(trajectory) == FRAMES and metrics["ate"]["rmse"] < 2e-3
    (copy / "groundtruth.txt").write_text("\n".join(lines[:1] + lines[3:]) + "\n")
    assert run(copy, tmp_path / "given", "--odometry", "ground-truth") == 0
    metrics, trajectory, _ = results(tmp_path / "given")
    assert metrics["frames"]["tracked"] == FRAMES - 2 and metrics["frames"]["lost"] == 2


def test_given_poses_that_are_not_there(copy, tmp_path, capsys):
    (copy / "groundtruth.txt").unlink()
    assert run(copy, tmp_path / "out", "--odometry", "ground-truth") == 1
    assert "needs frames with poses" in says(capsys)


def test_ground_truth_of_another_time(copy, tmp_path, capsys):
    """Nothing to compare with: the run goes on and says so."""
    lines = (copy / "groundtruth.txt").read_text().splitlines()[1:]
    late = [f"{float(line.split()[0]) + 1000:.6f} " + line.split(maxsplit=1)[1] for line in lines]
    (copy / "groundtruth.txt").write_text("\n".join(late) + "\n")
    assert run(copy, tmp_path / "out") == 0
    metrics, _, _ = results(tmp_path / "out")
    assert "ate" not in metrics and metrics["frames"]["tracked"] == FRAMES
    assert "no comparison with the ground truth" in prints(capsys)


def test_time_stamps_out_of_order(copy, recording, tmp_path):
    for name in ("rgb.txt", "depth.txt", "groundtruth.txt"):
        head, *lines = (copy / name).read_text().splitlines()
        (copy / name).write_text("\n".join([head, *lines[3:], *lines[:3]]) + "\n")
    with pytest.warns(UserWarning, match="out of order"):
        assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    assert metrics["frames"]["tracked"] == FRAMES and metrics["ate"]["rmse"] < 1e-3
    assert torch.allclose(trajectory.timestamps, Trajectory.load(recording / "groundtruth.txt").timestamps)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "rgb/../../secret.png"])
def test_a_list_whose_paths_leave_the_folder(copy, tmp_path, capsys, path):
    iio.imwrite(tmp_path / "secret.png", np.zeros((60, 80, 3), np.uint8))
    text = (copy / "rgb.txt").read_text().splitlines()
    text[2] = f"{text[2].split()[0]} {path}"
    (copy / "rgb.txt").write_text("\n".join(text) + "\n")
    assert run(copy, tmp_path / "out") == 1
    error = says(capsys)
    assert "rgb.txt" in error and path in error


# being interrupted


INTERRUPTED = """
import signal, sys
from gradslam_ng import PointFusion
from gradslam_ng.cli import main

fuse = PointFusion.fuse

def interrupted(self, map_, live, T_wc, ok, frame):
    if frame == 3:
        signal.raise_signal(signal.SIGINT)
    return fuse(self, map_, live, T_wc, ok, frame)

PointFusion.fuse = interrupted
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_writes_what_was_done(recording, tmp_path):
    """A real signal to a real process, while the fourth frame is mapped."""
    command = [sys.executable, "-c", INTERRUPTED, "run", str(recording), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 130, done.stderr
    metrics, trajectory, map_ = results(tmp_path)
    assert metrics["interrupted"] is True and metrics["frames"]["tracked"] == len(trajectory) == 3
    assert int(map_.count) > 0.9 * 60 * 80
    assert "interrupted after 3 of 6 frames" in " ".join(done.stdout.split()) and "Traceback" not in done.stderr


def test_ctrl_c_before_the_first_frame_leaves_nothing(recording, tmp_path, monkeypatch):
    def interrupted(self, frame):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradslam_ng.slam.system.System.prepare", interrupted)
    assert run(recording, tmp_path) == 130
    assert not list(tmp_path.iterdir())
