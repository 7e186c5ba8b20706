"""A run that is taken up from its state on disk leaves the same, bit for bit, as one that was never interrupted."""

from __future__ import annotations

import errno
import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

import gradslam_ng as gs
from gradslam_ng.compute.tree import tree_leaves
from gradslam_ng.io import tensor_tree
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.slam import submap_tracking
from gradslam_ng.slam.saved_run import StateWriter

SYSTEMS = {
    "pointfusion": (gs.PointFusion, None),
    "pointfusion, loops": (gs.PointFusion, lambda: gs.LoopCloser(window=3, spacing=(0.01, 1.0))),
    "kinectfusion": (gs.KinectFusion, None),
    "kinectfusion, loops": (
        gs.KinectFusion,
        lambda: gs.VolumeLoopCloser(gs.LoopCloser(window=3, spacing=(0.01, 1.0))),
    ),
    "icpslam": (gs.ICPSLAM, None),
    "icp-odometry": (gs.ICPOdometry, None),
}


class Killed(BaseException):
    """Ends a run wherever it is, as no handler expects."""


@pytest.fixture
def sequence(room):
    """Eight frames there and back; one cannot be read, and two are covered, so that the camera is lost and found."""
    walk = room.walk(4)
    clip = room.view(torch.cat([walk, walk.flip(0)]))
    depth, color = clip.depth.clone(), clip.color.clone()
    depth[3:5], color[3:5] = 0, 0
    return room.InMemory(replace(clip, depth=depth, color=color), broken={1: None})


def make(name):
    kind, closer = SYSTEMS[name]
    size = {"voxel_size": 0.08, "truncation": 0.3} if kind is gs.KinectFusion else {}
    return kind(ProjectiveICP(iterations=(2, 1, 1)), **size), None if closer is None else closer()


def run(name, sequence, **options):
    system, loops = make(name)
    return system.run(sequence, loops=loops, compile=False, **options)


def run_until(name, sequence, path, count):
    """A run that is killed in frame `count`, whose state is saved after each."""

    def on_frame(index, state):
        if index == count:
            raise Killed

    with pytest.raises(Killed):
        run(name, sequence, on_frame=on_frame, state_writer=StateWriter(path, seconds=0))


def assert_same(result, expected):
    assert torch.equal(result.trajectory.T_wc, expected.trajectory.T_wc)
    assert torch.equal(result.trajectory.timestamps, expected.trajectory.timestamps)
    assert torch.equal(result.statuses, expected.statuses)
    torch.testing.assert_close(result.covariances, expected.covariances, rtol=0, atol=0, equal_nan=True)
    for one, other in zip(tree_leaves(result.map), tree_leaves(expected.map), strict=True):
        assert torch.equal(one, other)
    names = ("loops", "relocalized", "submaps", "loop_frames", "skipped")
    assert all(getattr(result, name) == getattr(expected, name) for name in names)
    assert len(result.others) == len(expected.others)


@pytest.mark.parametrize("name", SYSTEMS)
def test_resumed_runs_leave_the_same(sequence, tmp_path, name):
    expected = run(name, sequence)
    for count in (2, 6):
        path = tmp_path / f"{count}.safetensors"
        run_until(name, sequence, path, count)
        assert_same(run(name, sequence, resume=path), expected)


def test_a_run_that_is_done_leaves_the_same_once_more(sequence, tmp_path):
    path = tmp_path / "state.safetensors"
    expected = run("pointfusion, loops", sequence, state_writer=StateWriter(path))
    assert_same(run("pointfusion, loops", sequence, resume=path), expected)


def test_submaps_and_frames_that_wait(sequence, tmp_path, monkeypatch):
    """Lost for more than three frames, a new submap begins: with the frames that waited for it."""
    monkeypatch.setattr(submap_tracking, "LOST_SECONDS", 0.06)
    clip = sequence.clip
    depth, color = clip.depth.clone(), clip.color.clone()
    depth[4:], color[4:] = depth[4:].flip(-2), color[4:].flip(-2)  # another place
    sequence.clip = replace(clip, depth=depth, color=color)
    expected = run("pointfusion", sequence)
    assert expected.others
    run_until("pointfusion", sequence, tmp_path / "state.safetensors", 7)
    assert_same(run("pointfusion", sequence, resume=tmp_path / "state.safetensors"), expected)


def test_it_holds_tensors_and_json_alone(sequence, tmp_path):
    path = tmp_path / "state.safetensors"
    run("pointfusion", sequence, state_writer=StateWriter(path, about={"note": "mine"}))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        assert all(isinstance(file.get_tensor(name), torch.Tensor) for name in file.keys())
    assert json.loads(metadata["about"])["note"] == "mine" and json.loads(metadata["structure"])
    assert tensor_tree.load_about(path)["system"] == "PointFusion"
    assert [each.name for each in tmp_path.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize(("name", "message"), [
    ("kinectfusion", "system was PointFusion, and is KinectFusion"),
    ("pointfusion, loops", "loops was None, and is LoopCloser"),
    ("iterations", r"settings, odometry\.iterations was \(2, 1, 1\), and is \(2, 1, 2\)"),
    ("preset", "settings, .* was .*, and is"),
    ("sequence", "sequence, frames was 8, and is 7"),
    ("version", "version was .*, and is 99"),
])  # fmt: skip
def test_states_of_other_runs_are_refused(sequence, tmp_path, monkeypatch, name, message):
    path = tmp_path / "state.safetensors"
    run("pointfusion", sequence, state_writer=StateWriter(path))
    system, loops = make(name if name in SYSTEMS else "pointfusion")
    if name == "iterations":
        system = gs.PointFusion(ProjectiveICP(iterations=(2, 1, 2)))
    if name == "preset":
        system = gs.PointFusion(ProjectiveICP(iterations=(2, 1, 1)), settings="fast")
    if name == "version":
        monkeypatch.setattr("importlib.metadata.version", lambda name: "99")
    with pytest.raises(ValueError, match=rf"state\.safetensors: the state of another run: {message}"):
        system.run(sequence[:7] if name == "sequence" else sequence, loops=loops, resume=path)


def test_files_that_are_no_state(sequence, tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(FileNotFoundError, match="no such file"):
        run("pointfusion", sequence, resume=path)
    run("pointfusion", sequence, state_writer=StateWriter(path))
    data = path.read_bytes()
    for broken in (b"", b"PK\3\4" + bytes(100), data[:100], data[: len(data) // 2]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"state\.safetensors: not a saved state"):
            run("pointfusion", sequence, resume=path)


def test_a_full_disk_costs_a_warning_and_not_the_run(sequence, tmp_path, monkeypatch, caplog):
    path = tmp_path / "state.safetensors"
    state_writer = StateWriter(path, seconds=0)
    run("pointfusion", sequence, state_writer=state_writer)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    expected = run("pointfusion", sequence)
    assert_same(run("pointfusion", sequence, state_writer=state_writer), expected)
    assert not state_writer.is_written and path.read_bytes() == before
    assert f"the state of the run was not saved: {path}: cannot be written: No space left on device" in caplog.text
    assert [each.name for each in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_folder_that_is_not_there(sequence, tmp_path, caplog):
    run("pointfusion", sequence, state_writer=StateWriter(tmp_path / "nowhere" / "state.safetensors"))
    assert "cannot be written: No such file or directory" in caplog.text


@pytest.mark.parametrize("name", ["pointfusion", "kinectfusion", "icp-odometry"])
def test_states_and_maps_go_through_torch_save(sequence, tmp_path, name):
    """And are loaded by torch's default, which takes data alone."""
    states = []
    result = run(name, sequence[:2], on_frame=lambda index, state: states.append(state))
    torch.save({"state": states[-1], "map": result.map}, tmp_path / "saved.pt")
    loaded = torch.load(tmp_path / "saved.pt", weights_only=True)
    for one, other in ((loaded["state"], states[-1]), (loaded["map"], result.map)):
        assert type(one) is type(other)
        for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
