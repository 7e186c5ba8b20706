"""`gradslam-ng plan`: what it writes, and an error and exit status for each thing that cannot be."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.cli import main
from gradslam_ng.datasets.export import write_tum
from tests.planning.volumes import volume_of

GOOD = ("--start", "-0.9", "0.6", "--goal", "0.7", "0.9", "--radius", "0.15")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run's folder with a volume and surfels of the living room, in coarse voxels."""
    below = tmp_path_factory.mktemp("plan")
    sequence = gs.datasets.Synthetic("living_room", frames=288, size=(60, 80), path="orbit")[::18]
    source = write_tum(sequence, below / "recording", mesh=False)
    (below / "settings.toml").write_text("[mapping]\nvoxel_size = 0.05\ntruncation = 0.2\n")
    options = ["--system", "kinectfusion", "--odometry", "ground-truth", "--config", str(below / "settings.toml")]
    with pytest.MonkeyPatch.context() as patch:  # pictures take seconds
        for module, name in (("plots", "plot_trajectory"), ("snapshot", "snapshot")):
            module = importlib.import_module(f"gradslam_ng.viz.{module}")
            patch.setattr(module, name, lambda path, *_, **__: path.write_bytes(b""))
        assert main(["run", str(source), "--out", str(below / "run"), *options]) in (0, 3)
    return below / "run"


def test_a_path_its_picture_and_its_figures(folder, tmp_path, prints):
    assert main(["plan", str(folder), "--out", str(tmp_path), *GOOD]) == 0
    assert "length" in prints()
    assert {path.name for path in tmp_path.iterdir()} == {"path.txt", "plan.png", "plan.json"}
    figures = json.loads((tmp_path / "plan.json").read_text())
    points = np.loadtxt(tmp_path / "path.txt")
    assert points.shape[1] == 5
    np.testing.assert_allclose(points[[0, -1], :2], [[-0.9, 0.6], [0.7, 0.9]], atol=1e-4)
    np.testing.assert_allclose(points[:, 2:4], points[:, :2], atol=1e-4)  # z is up in this world
    assert figures["length_m"] == pytest.approx(np.linalg.norm(np.diff(points[:, :2], axis=0), axis=-1).sum(), abs=1e-2)
    assert figures["clearance_m"] >= 0.15 and figures["unknown_m"] == 0 and figures["cost"] >= 1.6
    assert abs(figures["floor_m"]) < 0.03
    room = gs.datasets.Synthetic("living_room", frames=1, size=(2, 2)).room
    for height in np.arange(0.15, 1.3, 0.1):  # against the true room, half a voxel granted
        p = torch.from_numpy(points[:, :2])
        clearance = room.clearance(torch.cat([p, torch.full_like(p[:, :1], height)], -1))
        assert clearance.min() > 0.15 - 0.03


def test_surfels_and_single_files_do_as_well(folder, tmp_path):
    for name in ("map.ply", "volume.npz"):
        assert main(["plan", str(folder / name), "--out", str(tmp_path / name), *GOOD, "--no-smooth"]) == 0
        assert not json.loads((tmp_path / name / "plan.json").read_text())["smoothed"]


def test_a_submap_is_seen_from_its_own_poses(folder, tmp_path):
    """Of the run's poses nothing would be carved, and up would be another direction."""
    shutil.copy(folder / "map.ply", tmp_path / "map_1.ply")
    shutil.copy(folder / "metrics.json", tmp_path / "metrics.json")
    shutil.copy(folder / "trajectory.txt", tmp_path / "trajectory_1.txt")
    tilted = gs.Trajectory.load(folder / "trajectory.txt")
    tilted.T_wc[:, :3] = tilted.T_wc[:, [2, 0, 1]]
    tilted.save(tmp_path / "trajectory.txt")
    for path in (folder / "map.ply", tmp_path / "map_1.ply"):
        assert main(["plan", str(path), "--out", str(tmp_path / path.stem), *GOOD]) == 0
    one, other = (json.loads((tmp_path / name / "plan.json").read_text()) for name in ("map", "map_1"))
    assert one == other


def test_poses_that_nobody_trusts_say_nothing_is_free(folder, tmp_path, prints, says):
    """Where no frame was tracked, earlier versions wrote poses at which frames were looked for in vain: they do not say
    what is up either."""
    for name in ("map.ply", "trajectory.txt", "metrics.json"):
        shutil.copy(folder / name, tmp_path / name)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    metrics["frames"]["tracked"] = 0
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    arguments = ["plan", str(tmp_path / "map.ply"), "--out", str(tmp_path), *GOOD]
    assert main(arguments) == 1 and "trajectory.txt would tell what is up; give --up" in says()
    assert main([*arguments, "--up", "0", "0", "1"]) != 0
    assert "no frame has a pose in this map" in prints()


def test_the_turn_at_the_start(folder, tmp_path):
    for yaw in (30, 350):
        options = ["--start", "-0.9", "0.6", str(yaw), "--goal", "0.7", "0.6", "--radius", "0.1"]
        assert main(["plan", str(folder), "--out", str(tmp_path), *options, "--no-smooth"]) == 0
        turn = json.loads((tmp_path / "plan.json").read_text())["turn_at_start_deg"]
        assert -180 <= turn < 180 and abs(turn + yaw - 360 * (yaw > 180)) <= 90


def test_a_goal_at_the_start_is_a_path_of_no_length(folder, tmp_path):
    ends = ["--start", "-0.9", "0.6", "45", "--goal", "-0.9", "0.6", "--radius", "0.15"]
    assert main(["plan", str(folder), "--out", str(tmp_path), *ends]) == 0
    figures = json.loads((tmp_path / "plan.json").read_text())
    assert figures["length_m"] == 0 and figures["cost"] == 0 and figures["clearance_m"] >= 0.15
    assert figures["turn_at_start_deg"] is None


def test_without_ends_it_draws_where_one_could_go(folder, tmp_path, prints):
    assert main(["plan", str(folder), "--out", str(tmp_path)]) == 0
    assert "give --start and --goal" in prints()
    assert [path.name for path in tmp_path.iterdir()] == ["plan.png"]
    assert main(["plan", str(folder), "--out", str(tmp_path), "--radius", "3"]) == 0
    assert "nowhere are 3 m of room; the most is" in prints()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--start", "-0.9", "0.6", "--goal", "40", "0.9"], 5, "goal: expected a place on the map"),
        (["--start", "-9", "0.6", "--goal", "0.7", "0.9"], 5, "start: expected a place on the map"),
        (["--start", "-0.9", "0.6", "--goal", "0.1", "-0.2"], 6, "goal: 0.10 -0.20 is"),
        (["--start", "-0.2", "-1.7", "--goal", "0.7", "0.9"], 6, "nearest place with room is"),
        (
            ["--start", "-0.9", "0.6", "--goal", "0.7", "0.9", "--radius", "3"],
            6,
            "no place on the map with so much room",
        ),
        (["--start", "-0.9", "0.6", "--goal", "0.7", "0.9", "--radius", "-1"], 2, "radius: expected"),
        (["--start", "-0.9", "0.6", "--goal", "0.7", "0.9", "--radius", "nan"], 2, "radius: expected"),
        (["--start", "-0.9", "nan", "--goal", "0.7", "0.9"], 2, "start: expected x y"),
        (["--start", "-0.9", "0.6", "--goal", "0.7", "inf"], 2, "goal: expected x y"),
        (["--start", "-0.9", "--goal", "0.7", "0.9"], 2, "start: expected x y"),
        (["--start", "-0.9", "0.6", "--goal", "0.7", "0.9", "1.0"], 2, "goal: expected x y"),
        (["--start", "-0.9", "0.6"], 2, "expected both, or neither"),
        ([*GOOD, "--cell", "0"], 2, "cell: expected"),
        ([*GOOD, "--heights", "1", "0.5"], 2, "heights: expected"),
        ([*GOOD, "--up", "0", "0", "0"], 2, "up: expected"),
    ],
)
def test_each_thing_that_cannot_be_has_its_error_and_status(folder, tmp_path, says, options, status, message):
    assert main(["plan", str(folder), "--out", str(tmp_path), *options]) == status
    worked_on, _, error = says().partition("error: ")
    assert message in error and "Traceback" not in worked_on + error
    assert worked_on == "" or (worked_on.startswith("what ") and status in (5, 6))  # of a map that was looked at


def test_a_direction_by_which_cameras_were_upside_down_is_told(folder, tmp_path, prints):
    assert main(["plan", str(folder), "--out", str(tmp_path), "--up", "0", "0", "-1"]) == 0
    assert "most cameras were upside down" in prints()
    assert main(["plan", str(folder), "--out", str(tmp_path), "--up", "0", "0.1", "1"]) == 0
    assert "upside down" not in prints()


def test_a_corner_that_nobody_has_seen(folder, tmp_path, says):
    corner = gs.planning.Occupancy.of(gs.VoxelGrid.load(folder / "volume.npz"), up=(0, 0, 1)).origin[:2].tolist()
    options = ["--start", "-0.9", "0.6", "--goal", *(f"{x:.3f}" for x in corner)]
    assert main(["plan", str(folder), "--out", str(tmp_path), *options]) == 7
    error = says()
    assert "goal: nobody has seen" in error and "nearest place with room is" in error and "--unknown" in error


def test_a_goal_without_a_way_is_drawn_and_said(tmp_path, says):
    """Two rooms of known free space with a wall between them."""
    volume = volume_of(lambda p: torch.minimum((p[..., 0] - 0.01).abs() - 0.11, p[..., 2] + 0.513), voxel=0.1)
    volume.map(lambda value: value.float() if value.is_floating_point() else value).save(tmp_path / "volume.npz")
    options = ["--up", "0", "0", "1", "--heights", "0.2", "0.8", "--cell", "0.1", "--radius", "0.2"]
    ends = ["--start", "-0.6", "0", "--goal", "0.6", "0"]
    assert main(["plan", str(tmp_path / "volume.npz"), "--out", str(tmp_path / "a"), *options, *ends]) == 8
    assert "there is no way to it" in says()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"plan.png"}


def test_a_folder_that_is_no_run_and_a_recording_that_is_gone(folder, tmp_path, says):
    assert main(["plan", str(tmp_path), "--out", str(tmp_path / "out"), *GOOD]) == 1
    assert "expected volume.npz or map.ply" in says()
    assert main(["plan", str(tmp_path / "no.ply"), "--out", str(tmp_path / "out"), *GOOD]) == 1
    assert "no such file" in says()
    (tmp_path / "no.txt").write_text("")
    assert main(["plan", str(tmp_path / "no.txt"), "--out", str(tmp_path / "out"), *GOOD]) == 1
    assert "expected the folder of a run, or volume.npz or map.ply in it" in says()
    shutil.copytree(folder, tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["settings"]["source"] = str(tmp_path / "gone")
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    assert main(["plan", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *GOOD]) == 1
    assert "give --recording" in says()
    found = str(folder.parent / "recording")
    assert main(["plan", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *GOOD, "--recording", found]) == 0
    (tmp_path / "run" / "metrics.json").write_text("{")
    assert main(["plan", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *GOOD]) == 1
    assert "metrics.json" in says()
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "run" / "trajectory.txt").unlink()
    assert main(["plan", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *GOOD]) == 1
    assert "give --up" in says()
    (tmp_path / "file").write_text("")
    assert main(["plan", str(folder), "--out", str(tmp_path / "file"), *GOOD]) == 1
    assert "expected a folder" in says()
