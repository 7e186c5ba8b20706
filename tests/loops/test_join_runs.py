"""Runs whose cameras saw the same places are joined, with the right pose between them, and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser
from gradslam_ng.loops.finished_submaps import read_finished_run
from gradslam_ng.loops.join_runs import JoinedRuns, RunJoiner
from gradslam_ng.slam.link_search import Link
from gradslam_ng.slam.saved_run import StateWriter
from gradslam_ng.structures import RGBDFrames
from tests import conftest
from tests.loops.test_loops_aliasing import past_the_wall
from tests.slam.test_recovery import texture
from tests.slam.test_submaps import clip, turn

HERE = torch.arange(0, 36, 6)  # degrees
ONWARD = torch.arange(18, 54, 6)  # from within that view to beyond it
ELSEWHERE = torch.arange(150, 174, 8)  # the other end of the room


@pytest.fixture(scope="module")
def state(room, tmp_path_factory) -> Callable[..., Path]:
    """Function (frames, ...) -> the state of a run over frames that come without poses."""

    def run(frames: RGBDFrames, system=None, **options) -> Path:
        path = tmp_path_factory.mktemp("run") / "state.safetensors"
        blind = frames if system and system.odometry.provides_pose else replace(frames, T_wc=None)
        system = system or gs.PointFusion()
        system.run(room.InMemory(blind), compile=False, state_writer=StateWriter(path), **options)
        return path

    return run


@pytest.fixture(scope="module")
def here(room, state) -> Path:
    """Of a run of one end of the room."""
    return state(clip(room, HERE))


@pytest.fixture(scope="module")
def onward(room, state) -> Path:
    """Of one that saw a part of it, and closes loops."""
    return state(clip(room, ONWARD), loops=LoopCloser())


@pytest.fixture(scope="module")
def elsewhere(room, state) -> Path:
    """Of one that saw another end of the room."""
    return state(clip(room, ELSEWHERE))


def join(*paths: Path) -> tuple[RunJoiner, JoinedRuns]:
    joiner = RunJoiner([read_finished_run(path, f"run {i}") for i, path in enumerate(paths)])
    return joiner, joiner.join()


def errors(found: Tensor, degrees: Tensor, first: float) -> Tensor:
    """Meters and radians (L,) of poses in the world that begins at a camera turned by so many degrees."""
    truth = se3.inverse(turn(torch.tensor([first]))) @ turn(degrees)
    return se3.log(se3.inverse(truth) @ found).norm(dim=-1)


@pytest.fixture(scope="module")
def joined(onward, here, elsewhere) -> tuple[RunJoiner, JoinedRuns]:
    return join(onward, here, elsewhere)


def test_runs_that_saw_one_place_are_joined_in_the_world_of_the_first(joined):
    first, second, _ = joined[1].runs
    assert joined[1].num_joined == 2 and joined[1].links >= 2 and "links with run 1" in first.why
    assert len(first.trajectory) == len(ONWARD) and len(second.trajectory) == len(HERE)
    assert errors(first.trajectory.T_wc, ONWARD, float(ONWARD[0])).max() < 0.01
    assert errors(second.trajectory.T_wc, HERE, float(ONWARD[0])).max() < 0.01


def test_one_map_lies_on_the_walls_of_the_room(joined, room):
    map_ = joined[1].map
    T_wr = turn(ONWARD[:1].double())[0]  # the world begins at the first camera
    points = se3.transform(T_wr, map_.world_points()[0])
    walls = torch.cat([(points - room.corners[0]).abs(), (points - room.corners[1]).abs()], -1).amin(-1)
    crate = torch.cat([(points - room.crate[0]).abs(), (points - room.crate[1]).abs()], -1).amin(-1)
    assert torch.minimum(walls, crate).quantile(0.95) < 0.03
    assert map_.created.max() < len(HERE) + len(ONWARD) and (map_.created >= len(ONWARD)).any()


def test_a_run_of_another_place_is_left_out_and_says_why(joined):
    assert joined[1].runs[2].trajectory is None and "0 verified" in joined[1].runs[2].why


def test_a_room_of_the_same_shape_and_other_wallpaper_is_not_joined(here, state, room):
    frames = clip(room, HERE)
    frames.color[:] = texture(room.view(turn(HERE), frames.size), seed=8).color
    _, joined = join(here, state(frames))
    assert joined.num_joined == 1 and joined.runs[1].trajectory is None


def test_runs_past_walls_that_repeat_are_not_joined_however_well_they_fit(state):
    """Every 1.5 m is like the last: links agree, one period off and two, and nothing else contradicts them."""
    joiner, joined = join(*(state(past_the_wall(first, 14)) for first in (0.0, 3.9)))
    T_ij, agreeing, otherwise = joiner.evidence[0, 1]
    assert agreeing >= 2 and 3 * otherwise > agreeing and (T_ij[:3, 3].norm() - 3.9).abs() > 1  # what is said is wrong
    assert joined.num_joined == 1 and all("repeats" in run.why for run in joined.runs)


def test_links_that_lay_a_wall_across_what_the_other_saw_are_given_up(here, state, room, monkeypatch):
    """However well they agree: one camera would have looked through a wall of the other's map."""
    longer = conftest.ROOM.clone()
    longer[1, 2] += 0.8
    monkeypatch.setattr(conftest, "ROOM", longer)
    frames = clip(room, HERE)
    monkeypatch.undo()
    joiner = RunJoiner([read_finished_run(path, path.parent.name) for path in (here, state(frames))])
    identity = torch.eye(4, dtype=torch.float64)
    monkeypatch.setattr(joiner, "find_links", lambda: [Link(0, k, 1, k, identity) for k in range(2)])
    joined = joiner.join()
    assert joined.num_joined == 1 and "contradicts" in joined.runs[1].why


def test_maps_agree_where_they_lie_right_and_not_where_they_are_moved(joined):
    search = joined[0].search
    first, second = search.submaps[:2]
    truth = se3.inverse(turn(ONWARD[:1])) @ turn(HERE[:1])
    right = second.transform(truth @ second.T_oc[second.vertices])
    wrong = second.transform(turn(torch.tensor([90.0])) @ truth @ second.T_oc[second.vertices])
    assert search.agreement(first, right) > 0.95 and search.agreement(first, wrong) < 0.8


def test_frames_and_surfels_move_with_their_vertices(onward):
    submap = read_finished_run(onward, "").submaps[0]
    T = se3.exp(torch.tensor([0.3, -0.2, 0.1, 0.2, 0.5, -0.1], dtype=torch.float64))
    moved = submap.transform(T @ submap.T_oc[submap.vertices])
    torch.testing.assert_close(moved.T_oc, T @ submap.T_oc, atol=1e-6, rtol=0)  # poses are rotations to float32
    torch.testing.assert_close(moved.map.points, se3.transform(T.float(), submap.map.points), atol=1e-5, rtol=0)


def test_links_that_disagree_are_met_half_way(joined):
    """Two that differ by 2 cm, between maps that are stiff over so short a path."""
    joiner, _ = joined
    poses = [submap.T_oc for submap in joiner.submaps]
    motion = se3.inverse(turn(ONWARD[:1])[0]) @ turn(HERE[:1])[0]
    off = se3.exp(torch.tensor([0.02, 0, 0, 0, 0, 0], dtype=torch.float64))
    links = [Link(0, 0, 1, b, se3.inverse(poses[0][0]) @ motion @ poses[1][b]) for b in (0, len(HERE) - 1)]
    apart = [links[0], replace(links[1], T_ab=links[1].T_ab @ off)]
    motions = {0: torch.eye(4, dtype=torch.float64), 1: motion}
    agreed, between = (joiner.correct(motions, each)[1].T_oc for each in (links, apart))
    torch.testing.assert_close(agreed, motion @ poses[1], atol=1e-6, rtol=0)
    moved = (agreed - between)[:, :3, 3].norm(dim=-1)
    torch.testing.assert_close(moved, torch.full_like(moved, 0.01), atol=0.002, rtol=0)


@pytest.mark.parametrize("system", ["KinectFusion", "ICPOdometry", "known poses"])
def test_runs_that_cannot_be_joined_are_refused(room, state, system):
    """Volumes do not move, odometry has no map, and a run whose poses are given keeps no places."""
    frames = clip(room, HERE[:2])
    if system == "known poses":
        path = state(frames, gs.PointFusion("ground-truth"))
    else:
        options = {"voxel_size": 0.08, "truncation": 0.24} if system == "KinectFusion" else {}
        path = state(frames, getattr(gs, system)(**options))
    with pytest.raises(ValueError, match=str(path)):
        read_finished_run(path, "")


def test_states_that_are_damaged_are_refused(here, tmp_path):
    data = here.read_bytes()
    for damaged in (data[: len(data) // 2], data[:100], b"", data.replace(b"relocalizer", b"relocaliser")):
        path = tmp_path / "state.safetensors"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"state\.safetensors"):
            read_finished_run(path, "")
