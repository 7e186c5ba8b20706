"""`gradslam-ng run`: what it leaves, and what it says to settings that make no sense."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.cli import main
from gradslam_ng.commands import config as config_files
from gradslam_ng.commands import settings
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.recording import load_recording
from gradslam_ng.commands.run_folder import clear_folder
from gradslam_ng.commands.run_options import ComputeOptions
from gradslam_ng.io.ply import read_ply
from gradslam_ng.structures import SurfelMap, Trajectory

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def full(recording, tmp_path_factory, run) -> Path:
    """The folder that one run leaves, pictures drawn: it comes before `no_pictures`."""
    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    assert run(recording, out) == 0
    return out


def test_trajectory_and_metrics(full, recording, results):
    metrics, trajectory, map_ = results(full)
    truth = Trajectory.load(recording / "groundtruth.txt")
    assert torch.allclose(trajectory.timestamps, truth.timestamps)
    assert (trajectory.T_wc - truth.T_wc)[:, :3, 3].norm(dim=-1).max() < 2e-3
    counts = {"in_sequence": 6, "tracked": 6}
    counts |= dict.fromkeys(("degenerate", "unconfirmed", "lost", "skipped", "relocalized"), 0)
    assert metrics["frames"].items() >= counts.items() and metrics["status_counts"] == {}
    assert metrics["settings"]["system"] == "pointfusion" and metrics["settings"]["odometry"] == "gradicp"
    assert metrics["settings"]["source"] == str(recording) and metrics["interrupted"] is False
    old = [key.rpartition(".")[2] for key in metrics["deprecated_keys"] if key.startswith("milliseconds")]
    stages = {name: ms for name, ms in metrics["milliseconds_per_frame"].items() if name not in old}
    assert set(stages) == {"read", "preprocess", "predict", "localize", "map", "save", "total"}
    assert stages["total"] == pytest.approx(sum(ms for name, ms in stages.items() if name != "total"), rel=1e-3)
    assert metrics["seconds_compiling"] == 0  # nothing is on disk
    assert metrics["peak_memory_mb"] > 50
    assert metrics["map"]["surfels"] == int(map_.count)
    assert (metrics["reliable"], metrics["unreliable_because"], metrics["exit_status"]) == (True, None, 0)
    assert metrics["findings"] == [] and metrics["relocalized_at"] == []
    assert stages["total"] == round(stages["total"], 3)
    assert metrics["ate"]["rmse"] < 1e-3
    assert metrics["rpe"]["translation"]["rmse"] < 1e-3 and metrics["rpe"]["rotation"]["rmse"] < 0.05


def test_files_of_a_run_are_found_from_other_folders(copy, tmp_path, run, no_pictures, monkeypatch):
    """The recording, and the file of its camera, though they were given as seen from one folder."""
    (tmp_path / "camera.json").write_text(json.dumps({"fx": 64, "fy": 64, "cx": 39.5, "cy": 29.5}))
    monkeypatch.chdir(tmp_path)
    assert run(copy.name, "out", "--camera", "camera.json") == 0
    monkeypatch.chdir("/")
    assert len(load_recording(tmp_path / "out")) == 6
    assert main(["evaluate", str(tmp_path / "out")]) == 0


def test_other_commands_take_the_folder(full, tmp_path, capsys):
    """evaluate compares with the ground truth of the recording; mesh takes the map."""
    assert main(["evaluate", str(full), "--json", "--out", str(tmp_path / "error.png")]) == 0
    found = json.loads(capsys.readouterr().out)
    known = json.loads((full / "metrics.json").read_text())["ate"]["rmse"]
    assert found["errors"]["ATE"]["rmse"] == pytest.approx(known, rel=1e-6)
    assert main(["mesh", str(full), "--out", str(tmp_path / "mesh.ply"), "--voxel-size", "0.05"]) == 0
    assert len(read_ply(tmp_path / "mesh.ply")[1]) > 100


def test_keys_of_earlier_versions_are_there_and_said_to_go(full, results):
    """A reader of the version before finds what it looks for."""
    metrics = results(full)[0]
    frames, stages = metrics["frames"], metrics["milliseconds_per_frame"]
    assert frames["weak"] == frames["degenerate"] and frames["relocalised"] == frames["relocalized"]
    assert metrics["reasons"] == metrics["status_counts"]
    assert stages["prepare"] == stages["preprocess"] and stages["localise"] == stages["localize"]
    expected = {"frames.weak", "frames.relocalised", "reasons"}
    expected |= {"milliseconds_per_frame.prepare", "milliseconds_per_frame.localise"}
    assert set(metrics["deprecated_keys"]) == expected  # no frame was relocalized


def test_the_run_says_what_it_wrote_and_nothing_of_keys(recording, tmp_path, run, prints):
    """Keys that will go are listed in metrics.json, for those who read it."""
    assert run(recording, tmp_path, "--frames", ":1") == 0
    printed = prints()
    assert "deprecated" not in printed
    written = printed.partition("written")[2]
    assert all(path.name in written for path in tmp_path.iterdir() if path.is_file())


def test_map_has_every_column(full):
    columns, faces = read_ply(full / "map.ply")
    assert faces is None
    measured = {"x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "radius", "confidence"}
    assert set(columns) == measured | {"created", "updated"}
    assert len(columns["x"]) > 60 * 80 * 0.9
    normals = torch.stack([columns[name] for name in ("nx", "ny", "nz")], -1)
    assert (normals.norm(dim=-1) - 1).abs().max() < 1e-3
    assert columns["radius"].min() > 0 and columns["confidence"].min() > 0


def test_pictures_show_something(full):
    for name in ("trajectory.png", "map.png"):
        picture = iio.imread(full / name)
        assert picture.shape[0] > 500 and picture[..., :3].std() > 5
        assert len(np.unique(picture[::4, ::4].reshape(-1, picture.shape[-1]), axis=0)) > 100


@pytest.mark.parametrize("system", ["icpslam", "icp-odometry"])
def test_other_systems(recording, tmp_path, system, run, results, prints):
    assert run(recording, tmp_path / "out", "--system", system, "--odometry", "icp") == 0
    if system == "icp-odometry":  # which makes no map
        assert not list((tmp_path / "out").glob("map.*"))
        trajectory = Trajectory.load(tmp_path / "out" / "trajectory.txt")
        assert len(trajectory) == 6
    else:
        metrics, trajectory, map_ = results(tmp_path / "out")
        assert len(trajectory) == 6 and metrics["ate"]["rmse"] < 2e-3 and int(map_.count) > 0
    assert "6 tracked, 0 lost, 0 skipped" in prints()


def test_a_system_without_the_module_resource(recording, tmp_path, run, results, monkeypatch):
    """As Windows is: all but the memory is told."""
    monkeypatch.setitem(sys.modules, "resource", None)
    assert run(recording, tmp_path, "--frames", ":2") == 0
    metrics, _, _ = results(tmp_path)
    assert metrics["peak_memory_mb"] == 0 and metrics["frames"]["tracked"] == 2


def test_frames_scale_and_ground_truth(recording, tmp_path, run, results):
    assert run(recording, tmp_path, "--frames", "1:6:2", "--scale", "0.5", "--odometry", "ground-truth") == 0
    metrics, trajectory, map_ = results(tmp_path)
    truth = Trajectory.load(recording / "groundtruth.txt")
    assert torch.allclose(trajectory.timestamps, truth.timestamps[1:6:2])
    assert metrics["frames"]["in_sequence"] == 3 and metrics["settings"]["scale"] == 0.5
    assert metrics["ate"]["rmse"] < 1e-5 and int(map_.count) < 2 * 30 * 40


def test_a_sequence_without_ground_truth(copy, tmp_path, run, results):
    (copy / "groundtruth.txt").unlink()
    assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    assert "ate" not in metrics and len(trajectory) == 6


def test_one_frame(recording, tmp_path, run, results):
    assert run(recording, tmp_path, "--frames", ":1") == 0
    metrics, trajectory, _ = results(tmp_path)
    assert "ate" not in metrics and len(trajectory) == 1


def test_synthetic_with_noise(tmp_path, run, results):
    assert run("synthetic:corner", tmp_path, "--frames", ":1", "--noise", "kinect") == 0
    assert results(tmp_path)[0]["settings"]["noise"] == "kinect"


def test_a_second_run_replaces_the_first_where_it_is_told_to(recording, tmp_path, run, results, says):
    assert run(recording, tmp_path, "--frames", ":3") == 0
    before = (tmp_path / "metrics.json").read_bytes()
    assert run(recording, tmp_path, "--frames", ":2") == 2
    assert "holds the results of another run (covariance.txt, frames.csv, map.ply, ...)" in says()
    assert (tmp_path / "metrics.json").read_bytes() == before
    for name in ("trajectory_1.txt", "map_12.ply", "mesh.glb", "volume.npz", "map_1_cut.ply", "notes.txt"):
        (tmp_path / name).touch()
    assert run(recording, tmp_path, "--frames", ":2", "--overwrite") == 0
    for name in ("map_1_cut.ply", "notes.txt"):
        (tmp_path / name).unlink()  # not ours, and still there
    assert len(results(tmp_path)[1]) == 2


def test_the_log_of_a_run(copy, tmp_path, run):
    """What is odd before it, and what was said during it."""
    sorted((copy / "depth").glob("*.png"))[4].write_bytes(b"")
    run(copy, tmp_path / "out", "--preset", "fast")
    text = (tmp_path / "out" / "run.log").read_text()
    assert text.startswith(f"gradslam-ng run {copy} --out {tmp_path / 'out'} --preset=fast\n")
    assert "compiled functions: those on disk" in text
    assert " WARNING skipped: " in text
    assert text.rstrip().endswith(
        "INFO 5 of 6 frames were tracked; 1 could not be read; the trajectory is 0.02 cm off the ground truth (RMSE)."
    )


def test_a_folder_with_other_files_is_no_run(tmp_path):
    (tmp_path / "metrics.json").mkdir()
    (tmp_path / "run.log").touch()
    (tmp_path / "photo.png").touch()
    clear_folder(tmp_path, overwrite=False)
    (tmp_path / "volume.npz").touch()
    with pytest.raises(UsageError, match=r"another run \(volume.npz\)"):
        clear_folder(tmp_path, overwrite=False)


def test_names_that_look_like_markup(copy, tmp_path, run, results):
    folder = copy.rename(copy.parent / "[bold]odd[red]")
    assert run(folder, tmp_path / "[/out]") == 0
    assert results(tmp_path / "[/out]")[0]["sequence"] == folder.name


# settings in a file


@pytest.mark.parametrize("system", ["pointfusion", "kinectfusion", "icpslam"])
@pytest.mark.parametrize("odometry", ["icp", "ground-truth"])
def test_dumped_settings_can_be_read_back(tmp_path, capsys, system, odometry):
    """What is printed has every setting, builds the same system, and is printed again."""
    options = ["--system", system, "--odometry", odometry, "--preset", "accurate"]
    assert main(["run", "--dump-config", *options]) == 0
    text = capsys.readouterr().out
    config = tmp_path / "settings.toml"
    config.write_text(text)
    tables = tomllib.loads(text)
    assert set(tables) == {"odometry", "mapping"}
    if odometry == "icp":
        assert tables["odometry"]["iterations"] == [6, 4, 4, 4] and tables["odometry"]["photometric"] is True
    assert ("sigma" in tables["mapping"]) == (system == "pointfusion")
    assert ("voxel_size" in tables["mapping"]) == (system == "kinectfusion")
    assert settings.make_system(system, odometry, None, config).odometry is not None
    assert main(["run", "--dump-config", "--config", str(config), "--system", system, "--odometry", odometry]) == 0
    assert tomllib.loads(capsys.readouterr().out) == tables


def test_changed_settings_are_dumped(tmp_path, capsys):
    (tmp_path / "settings.toml").write_text("[odometry]\niterations = [4, 2]\nmax_distance = 1\n")
    assert main(["run", "--dump-config", "--config", str(tmp_path / "settings.toml")]) == 0
    odometry = tomllib.loads(capsys.readouterr().out)["odometry"]
    assert odometry["iterations"] == [4, 2] and odometry["max_distance"] == 1


def test_without_a_sequence_or_a_folder_for_the_results(recording, says):
    for arguments in ([], [str(recording)], ["--out", "out"]):
        assert main(["run", *arguments]) == 2
        assert "error: run: expected the file or folder of a sequence" in says()


@pytest.mark.parametrize("table", ["odometry", "mapping"])
def test_names_of_earlier_versions_are_taken_with_a_warning(table, caplog):
    assert set(config_files.RENAMED[table].values()) < set(
        settings.component(table, "pointfusion", "gradicp").defaults()
    )
    for old, new in config_files.RENAMED[table].items():
        caplog.clear()
        assert config_files.validate_table(table, {old: 3}, {new: 2}) == {new: 3}
        (warning,) = caplog.messages
        assert old in warning and new in warning
        with pytest.raises(ValueError, match="given twice"):
            config_files.validate_table(table, {old: 3, new: 3}, {new: 2})


def test_candidates_of_an_earlier_version_become_the_width_of_their_window():
    for candidates, width in ((1, 1), (4, 2), (9, 3)):
        given = {"candidates": candidates}
        assert config_files.validate_table("odometry", given, {"association_window": 1}) == {
            "association_window": width
        }


def test_settings_from_a_file(recording, tmp_path, run, results):
    config = tmp_path / "settings.toml"
    config.write_text("[odometry]\niterations = [4, 2]\nmax_distance = 1\n[mapping]\nstable_confidence = 2.5\n")
    assert run(recording, tmp_path / "out", "--config", str(config)) == 0
    assert results(tmp_path / "out")[0]["settings"]["config"] == str(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[odometry\n", "not TOML"),
        ("[tracking]\n", "expected the tables [odometry] and [mapping], got 'tracking'"),
        ("odometry = 3\n", "expected the tables"),
        ("[odometry]\niteration = 3\n", "no setting 'iteration' here; it has iterations, rotation_iterations"),
        ("[mapping]\nfilter = 3\n", "no setting 'filter'"),
        ("[odometry]\nmax_distance = 'far'\n", "max_distance: expected something like 0.1, got 'far'"),
        ("[odometry]\niterations = 10\n", "iterations: expected something like (4, 3, 2), got 10"),
        ("[odometry]\niterations = [1.5]\n", "iterations: expected something like"),
        ("[odometry]\nmax_distance = true\n", "max_distance: expected something like"),
        ("[mapping]\nmax_unseen_frames = 1.5\n", "max_unseen_frames: expected something like 20"),
        ("[mapping]\nstable_confidence = 0\n", "stable_confidence: expected more than 0"),
        ("[odometry]\nrule = 'x'\n", "no setting 'rule'"),
    ],
)
def test_settings_that_are_not_understood(recording, tmp_path, text, message, run, says):
    (tmp_path / "settings.toml").write_text(text)
    assert run(recording, tmp_path / "out", "--config", str(tmp_path / "settings.toml")) == 1
    assert message in says() and not (tmp_path / "out").exists()


def test_settings_of_a_part_that_does_not_run(recording, tmp_path, run, says):
    (tmp_path / "settings.toml").write_text("[mapping]\nstable_confidence = 2\n")
    options = ("--config", str(tmp_path / "settings.toml"), "--system", "icpslam")
    assert run(recording, tmp_path / "out", *options) == 1
    assert "[mapping] has no setting 'stable_confidence' here; it has none" in says()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--frames", "5:2"), "frames: expected LAST after FIRST, got '5:2'"),
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
        (("--intrinsics", "1,2,3"), "intrinsics"),
        (("--depth-scale", "0"), "depth_scale"),
        (("--max-depth", "-1"), "max_depth"),
        (("--noise", "kinect"), "noise: expected a rendered scene"),
    ],
)
def test_options_out_of_range(recording, tmp_path, options, message, run, says):
    assert run(recording, tmp_path / "out", *options) == 2
    assert not (tmp_path / "out").exists()
    error = says()
    assert error.startswith("error: ") and message in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scale", "0.01"), "80x60 shrunk by 100"),
        (("--config", "nowhere.toml"), "config: no such file: nowhere.toml"),
        (("--intrinsics", "525,525,319.5,239.5"), "expected a principal point inside of the images, which are 80x60"),
    ],
)
def test_options_that_do_not_go_with_the_recording(recording, tmp_path, options, message, run, says):
    assert run(recording, tmp_path / "out", *options) == 1
    error = says()
    assert error.startswith("error: ") and message in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--system", "orbslam"), "orbslam"),
        (("--odometry", "magic"), "magic"),
        (("--device", "abacus"), "abacus"),
        (("--scale", "half"), "half"),
        (("extra",), "extra"),
    ],
)
def test_unknown_names(recording, tmp_path, options, message, run, says):
    with pytest.raises(SystemExit) as stop:
        run(recording, tmp_path / "out", *options)
    assert stop.value.code == 2 and message in says()


def test_an_unknown_option(recording, tmp_path, run, says):
    assert run(recording, tmp_path / "out", "--sytem", "pointfusion") == 2
    assert "no option --sytem; perhaps you meant --system" in says()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device(recording, tmp_path, run, says):
    assert run(recording, tmp_path / "out", "--device", "cuda") == 1
    assert "device: expected a CUDA device" in says()


@pytest.mark.parametrize(("has_gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch, has_gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert ComputeOptions().choose_device() == device


# what is wrong with the folder for the results


def test_results_that_cannot_be_written_are_refused_before_the_run(recording, tmp_path, run, says):
    (tmp_path / "file").write_text("")
    for out, reason in ((tmp_path / "file", "expected a folder"), (tmp_path / "file" / "below", "Not a directory")):
        assert run(recording, out) == 1
        assert f"out: cannot write to {out}: {reason}" in says()


def test_one_result_that_cannot_be_written_costs_no_other(recording, tmp_path, capsys, run):
    for name in ("trajectory.txt", "map.png"):
        (tmp_path / "out" / name).mkdir(parents=True)
    assert run(recording, tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert "not written: trajectory.txt, map.png" in " ".join(printed.err.split())
    assert "map.ply, metrics.json, trajectory.png" in " ".join(printed.out.split())
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["ate"]["rmse"] < 1e-3
    assert int(SurfelMap.load(tmp_path / "out" / "map.ply").count) > 0


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # processes in the background may be started without
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


def test_ctrl_c_writes_what_was_done(recording, tmp_path, results):
    """A real signal to a real process, while the fourth frame is mapped, which is done first."""
    command = [sys.executable, "-c", INTERRUPTED, "run", str(recording), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 130, done.stderr
    metrics, trajectory, map_ = results(tmp_path)
    assert metrics["interrupted"] is True and metrics["frames"]["tracked"] == len(trajectory) == 4
    assert int(map_.count) > 0.9 * 60 * 80
    assert "interrupted after 4 of 6 frames" in " ".join(done.stdout.split()) and "Traceback" not in done.stderr


def test_ctrl_c_before_the_first_frame_leaves_nothing(recording, tmp_path, monkeypatch, run):
    def interrupted(self, frame):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradslam_ng.slam.system.System.preprocess", interrupted)
    assert run(recording, tmp_path) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["run.log"]


def test_loops_are_closed_in_long_sequences_unless_refused(recording, tmp_path, run, results, capsys, monkeypatch):
    assert run(recording, tmp_path / "short") == 0
    assert results(tmp_path / "short")[0]["settings"]["loops"] is False
    assert " closed" not in capsys.readouterr().out
    monkeypatch.setattr("gradslam_ng.commands.run_options.LONG", 6)  # frames, as many as these
    assert run(recording, tmp_path / "on") == 0
    metrics = results(tmp_path / "on")[0]
    assert metrics["settings"]["loops"] is True and metrics["loops"] == 0  # six frames see nothing again
    assert "0 closed" in capsys.readouterr().out
    assert run(recording, tmp_path / "volume", "--system", "kinectfusion") == 0
    assert json.loads((tmp_path / "volume" / "metrics.json").read_text())["settings"]["loops"] is True
    for name, options in (("refused", ("--no-loops",)), ("no surfels tracked", ("--system", "icpslam"))):
        assert run(recording, tmp_path / name, *options) == 0
        assert results(tmp_path / name)[0]["settings"]["loops"] is False


@pytest.mark.parametrize(("options", "compiler", "told"), [
    ([], "sh", "those on disk, others once they are compiled"),
    ([], "no-such-compiler", "those on disk alone, there is no C++ compiler (no-such-compiler)"),
    (["--no-compile"], "sh", "not used, as --no-compile says"),
])  # fmt: skip
def test_what_is_compiled_is_told(recording, tmp_path, run, monkeypatch, capsys, options, compiler, told):
    asked = []

    def track(stream, *others, **more):
        asked.append(stream.compile)
        raise ValueError("enough")

    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setattr("gradslam_ng.commands.run.run_with_progress", track)
    assert run(recording, tmp_path / "out", *options) == 1 and asked == [not options]
    assert f"compiled functions: {told}" in capsys.readouterr().out


def test_the_option_of_before_is_refused_by_name(recording, tmp_path, run, capsys):
    assert run(recording, tmp_path / "out", "--compile-from", "150") == 2
    assert "--compile-from" in capsys.readouterr().err
