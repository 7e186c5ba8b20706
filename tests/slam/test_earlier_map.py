"""A run that goes on in an earlier run's map: found in it at once, later, or never."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.slam.saved_run import StateWriter
from gradslam_ng.structures import RGBDFrames
from tests.slam.test_recovery import texture
from tests.slam.test_saved_run import Killed, assert_same
from tests.slam.test_submaps import clip

THERE = torch.arange(0, 44, 4)  # degrees: one end of the room
ONWARD = torch.arange(30, 74, 4)  # from within that view to beyond it
ELSEWHERE = torch.arange(150, 190, 4)  # the other end
BACK = torch.arange(186, 366, 6)  # from the other end to the first one
VOLUME = {"voxel_size": 0.08, "truncation": 0.24}


def run(room, frames: RGBDFrames, system=None, **options) -> gs.slam.Result:
    """Of frames that come without poses; the world of the results is that of the first one."""
    blind = replace(frames, T_wc=None)
    return (system or gs.PointFusion()).run(room.InMemory(blind), compile=False, **options)


def misses(result, frames: RGBDFrames) -> Tensor:
    """Meters and radians (L,) in a world that begins where the frame at 0 degrees is: not aligned."""
    xi = se3.log(se3.inverse(frames.T_wc.double()) @ result.trajectory.T_wc)
    return xi[:, :3].norm(dim=-1) + xi[:, 3:].norm(dim=-1)


@pytest.fixture(scope="module")
def earlier(room, tmp_path_factory) -> Path:
    """The state of a run of one end of the room."""
    path = tmp_path_factory.mktemp("earlier") / "state.safetensors"
    run(room, clip(room, THERE), state_writer=StateWriter(path))
    return path


def test_found_at_once_and_gone_on_with(room, earlier):
    frames = clip(room, ONWARD)
    result = run(room, frames, earlier=earlier)
    assert len(result.trajectory) == len(result.statuses) == len(result.covariances) == len(ONWARD)
    assert result.tracked.all() and result.relocalized == [0] and result.submaps == [len(ONWARD)] and not result.others
    assert misses(result, frames).max() < 0.01
    assert torch.equal(result.trajectory.timestamps, frames.timestamps)
    created = result.map.created[result.map.mask]  # the map has both
    assert (created < 0).sum() > 1000 and (created > 0).sum() > 1000 and created.max() < len(ONWARD)


def test_begun_where_the_map_does_not_reach(room, earlier):
    """A submap that is joined once the camera comes to what is known: its frames are in the earlier world too."""
    frames = clip(room, torch.cat([ELSEWHERE, BACK]))
    result = run(room, frames, earlier=earlier)
    assert result.tracked.all() and result.submaps == [len(frames)] and not result.others
    assert misses(result, frames).max() < 0.03


def test_never_found(room, earlier):
    """The map and its world are the earlier one's, though the run is longer; what is new is kept apart."""
    frames = clip(room, torch.cat([ELSEWHERE, ELSEWHERE.flip(0)]))
    result = run(room, frames, earlier=earlier)
    assert not result.tracked.any() and (result.statuses == TrackingStatus.UNCONNECTED).all()
    assert result.submaps == [0, len(frames)] and (result.map.created[result.map.mask] < 0).all()
    ((_, own),) = result.others
    assert len(own) == len(frames) and torch.allclose(own.T_wc[0], torch.eye(4, dtype=torch.float64), atol=1e-6)


SYSTEMS = {
    "kinectfusion": (lambda: gs.KinectFusion(**VOLUME), None),
    "loops": (gs.PointFusion, LoopCloser),
    "volume, loops": (lambda: gs.KinectFusion(**VOLUME), gs.VolumeLoopCloser),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_other_systems(room, tmp_path, name):
    make, closer = SYSTEMS[name]
    path = tmp_path / "state.safetensors"
    options = lambda: {"system": make(), "loops": closer and closer()}  # noqa: E731
    run(room, clip(room, THERE), state_writer=StateWriter(path), **options())
    frames = clip(room, ONWARD)
    result = run(room, frames, earlier=path, **options())
    assert result.tracked.all() and misses(result, frames).max() < 0.03


def test_another_camera(room, earlier):
    frames = texture(room.view(clip(room, ONWARD).T_wc, (96, 144)))
    result = run(room, frames, earlier=earlier)
    assert result.tracked.all() and misses(result, frames).max() < 0.02


def test_one_after_the_other(room, earlier, tmp_path):
    """The state of such a run is an earlier map as well, in the first one's world; it can be taken up, too."""
    path, onward = tmp_path / "state.safetensors", clip(room, ONWARD)
    expected = run(room, onward, earlier=earlier, state_writer=StateWriter(path))
    third = clip(room, ONWARD.flip(0))
    result = run(room, third, earlier=path)
    assert result.tracked.all() and result.relocalized == [0] and misses(result, third).max() < 0.015

    def on_frame(index, state):
        if index == 5:
            raise Killed

    with pytest.raises(Killed):
        run(room, onward, earlier=earlier, state_writer=StateWriter(path, seconds=0), on_frame=on_frame)
    assert_same(run(room, onward, resume=path), expected)


def test_poses_that_are_given(room, tmp_path):
    """Nothing is looked for: frames are where their poses say."""
    path = tmp_path / "state.safetensors"
    first, second = (room.InMemory(clip(room, each)) for each in (THERE, ELSEWHERE))
    gs.PointFusion("ground-truth").run(first, compile=False, state_writer=StateWriter(path))
    result = gs.PointFusion("ground-truth").run(second, compile=False, earlier=path)
    assert result.tracked.all() and misses(result, second.clip).max() < 1e-5
    created = result.map.created[result.map.mask]
    assert (created < 0).any() and (created >= 0).any()


def test_what_cannot_be(room, earlier):
    frames = clip(room, ONWARD)
    with pytest.raises(ValueError, match="system was PointFusion, and is KinectFusion"):
        run(room, frames, gs.KinectFusion(**VOLUME), earlier=earlier)
    with pytest.raises(ValueError, match="earlier: expected a system that finds a lost camera, got ICPSLAM"):
        run(room, frames, gs.ICPSLAM(), earlier=earlier)
    with pytest.raises(ValueError, match="loops was None, and is LoopCloser"):
        run(room, frames, loops=LoopCloser(), earlier=earlier)
    with pytest.raises(FileNotFoundError, match="no such file"):
        run(room, frames, earlier=earlier.with_name("nothing"))
