"""A camera that is not found again begins a new submap; submaps are joined where they meet, and only there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.places import Relocalizer
from gradslam_ng.slam.link_search import Link, LinkSearch, connect, mean_of_agreeing
from gradslam_ng.slam.recovery import Recovery
from gradslam_ng.structures import RGBDFrames
from tests.loops.test_loops_aliasing import past_the_wall, placed
from tests.slam.test_recovery import SIZE, texture


def turn(degrees: Tensor) -> Tensor:
    """Poses (L, 4, 4) float64 that look around from the middle of the room, and up and down a little."""
    angle = torch.deg2rad(degrees.double())
    twist = torch.zeros(len(angle), 6, dtype=torch.float64)
    twist[:, 4], twist[:, 3] = angle, 0.05 * torch.sin(3 * angle)
    return se3.exp(twist)


def clip(room, degrees: Tensor, covered: slice = slice(0)) -> RGBDFrames:
    """What they see at 30 frames a second; nothing while covered."""
    frames = texture(room.view(turn(degrees), SIZE))
    depth, color = frames.depth.clone(), frames.color.clone()
    depth[covered], color[covered] = 0.0, 0.0
    return RGBDFrames(color, depth, frames.K, frames.T_wc, torch.arange(len(degrees), dtype=torch.float64) / 5)


def errors(result, frames: RGBDFrames) -> Tensor:
    """Meters (L,), all poses relative to the first."""
    xi = se3.log(se3.inverse(frames.T_wc.double()) @ result.trajectory.T_wc)
    return xi[:, :3].norm(dim=-1) + xi[:, 3:].norm(dim=-1)


THERE = torch.arange(0, 40, 4)  # degrees: one end of the room
ELSEWHERE = torch.arange(150, 190, 4)  # the other
BACK = torch.arange(186, 360, 6)  # from the other end to the first one


@pytest.fixture(scope="module")
def carried(room) -> tuple[RGBDFrames, gs.slam.Result]:
    """Two seconds in view of one end of the room, two covered, then from the other end back to the first."""
    degrees = torch.cat([THERE, torch.full((10,), 40), ELSEWHERE, BACK, torch.arange(0, 20, 4)])
    frames = clip(room, degrees, slice(10, 20))
    return frames, gs.PointFusion().run(room.InMemory(frames))


def test_a_camera_carried_elsewhere_begins_a_submap_that_is_joined(carried):
    frames, result = carried
    seen = torch.ones(len(frames), dtype=torch.bool)
    seen[10:20] = False
    assert torch.equal(result.tracked, seen) and result.submaps == [int(seen.sum())] and not result.others
    assert errors(result, frames)[seen].max() < 0.03


def test_joined_maps_are_one(carried, room):
    _, result = carried
    points = result.map.points[result.map.mask].double()
    walls = torch.cat([(points - room.corners[0]).abs(), (points - room.corners[1]).abs()], -1).amin(-1)
    crate = torch.cat([(points - room.crate[0]).abs(), (points - room.crate[1]).abs()], -1).amin(-1)
    assert torch.minimum(walls, crate).quantile(0.95) < 0.03


def test_a_camera_carried_past_a_wall_that_repeats_is_not_found_where_it_was(room):
    """It fits there as well as it does two periods on, and the map has shown that it repeats."""
    before, dark, after = past_the_wall(0.0, 14), past_the_wall(0.0, 2), past_the_wall(3.0, 4)
    dark.depth[:], dark.color[:] = 0.0, 0.0
    frames = RGBDFrames(*(torch.cat([getattr(x, n) for x in (before, dark, after)]) for n in ("color", "depth", "K")))
    result = gs.PointFusion().run(room.InMemory(frames), compile=False)
    assert result.tracked[:14].all() and not result.tracked[14:].any() and not result.relocalized


def test_places_never_seen_together_stay_apart(room):
    frames = clip(room, torch.cat([THERE, torch.full((10,), 40), ELSEWHERE[:8]]), slice(10, 20))
    result = gs.PointFusion().run(room.InMemory(frames))
    assert result.submaps == [10, 8] and len(result.others) == 1
    assert (result.statuses[20:] == TrackingStatus.UNCONNECTED).all() and not result.tracked[10:].any()
    map_, trajectory = result.others[0]
    assert len(trajectory) == 8 and int(map_.count[0]) > 1000
    apart = se3.inverse(trajectory.T_wc[0]) @ trajectory.T_wc
    truth = se3.inverse(frames.T_wc[20].double()) @ frames.T_wc[20:].double()
    assert se3.log(se3.inverse(truth) @ apart).norm(dim=-1).max() < 0.01
    assert len(result.localized) == 10


def test_a_room_of_the_same_shape_is_not_taken_for_the_one_known(room):
    """Carried from one room to another that differs in its wallpaper alone."""
    frames = clip(room, torch.cat([THERE, torch.full((10,), 40), THERE[:8]]), slice(10, 20))
    other = texture(room.view(turn(THERE[:8]), SIZE), seed=8)
    frames.color[20:] = other.color
    result = gs.PointFusion().run(room.InMemory(frames))
    assert result.submaps == [10, 8] and not result.relocalized and not result.tracked[10:].any()


def test_poses_that_come_with_frames_do_not_join_submaps(room):
    """A new submap begins in a world of its own, though its frames have poses in that of the recording."""
    frames = clip(room, torch.cat([THERE, torch.full((10,), 40), ELSEWHERE[:8]]), slice(10, 20))
    result = gs.PointFusion().run(room.InMemory(frames))
    first = result.others[0][1].T_wc[0]
    assert torch.allclose(first, torch.eye(4, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("loops", [None, LoopCloser], ids=["alone", "with loops"])
def test_frames_since_the_camera_was_lost_belong_to_the_submap(room, loops):
    """What is seen while the lost camera is looked for is not thrown away; each submap closes its own loops."""
    frames = clip(room, torch.cat([THERE, ELSEWHERE]))
    result = gs.PointFusion().run(room.InMemory(frames), loops=None if loops is None else loops())
    assert result.submaps == [10, 10] and len(result.others[0][1]) == 10


def test_volumes_and_odometry_begin_no_submap(room):
    frames = clip(room, torch.cat([THERE, torch.full((10,), 40), ELSEWHERE[:8]]), slice(10, 20))
    for system in (gs.KinectFusion(voxel_size=0.08, truncation=0.24), gs.ICPOdometry()):
        result = system.run(room.InMemory(frames))
        assert len(result.submaps) == 1 and result.tracked[:10].all() and not result.tracked[10:20].any()


def test_one_link_alone_joins_nothing():
    T = se3.exp(torch.tensor([0.3, 0.1, -0.2, 0.1, 0.2, 0.0], dtype=torch.float64))
    near = se3.exp(torch.tensor([0.02, 0, 0, 0, 0, 0.01], dtype=torch.float64)) @ T
    far = se3.exp(torch.tensor([0.5, 0, 0, 0, 0, 0], dtype=torch.float64)) @ T
    assert mean_of_agreeing(T[None]) is None and mean_of_agreeing(torch.stack([T, far])) is None
    mean = mean_of_agreeing(torch.stack([T, far, near]))
    assert torch.allclose(se3.log(mean @ se3.inverse(T)), 0.5 * se3.log(near @ se3.inverse(T)), atol=1e-6)


@pytest.mark.parametrize(("otherwise", "is_joined"), [(1, True), (2, False)])
def test_links_that_agree_join_nothing_where_many_say_another_place(otherwise, is_joined):
    """Whether those are verified or not: what repeats fits wherever it is laid."""
    T_ij, other = (placed(x, 0.1) for x in (0.0, 3.0))
    links = [Link(0, 0, 1, 0, T_ij)] * 3 + [Link(0, 0, 1, 0, other, verified=False)] * otherwise
    T_oc = torch.eye(4, dtype=torch.float64)[None]
    assert bool(connect(links, [T_oc, T_oc])) == is_joined


def test_links_go_with_the_frames_that_they_are_between():
    """Loops closed after a link was found move both of its frames; what it says of them stays."""
    generator = torch.Generator().manual_seed(3)
    T_a, T_b = (se3.exp(0.3 * torch.randn(4, 6, generator=generator, dtype=torch.float64)) for _ in range(2))
    T_ij = se3.exp(torch.tensor([0.3, 0.1, -0.2, 0.1, 0.2, 0.0], dtype=torch.float64))
    search = LinkSearch(gs.PointFusion())
    for a, b in ((0, 1), (3, 2)):
        search.links.append(Link(0, a, 1, b, se3.inverse(T_a[a]) @ T_ij @ T_b[b]))
    torch.testing.assert_close(search.connections([T_a, T_b])[0, 1], T_ij)
    moved = turn(torch.tensor([20.0]))[0]  # a loop that moves all of the second submap
    torch.testing.assert_close(search.connections([T_a, moved @ T_b])[0, 1], T_ij @ se3.inverse(moved))
    T_b[2] = moved @ T_b[2]  # or only one of the frames, so that links no longer agree
    assert not search.connections([T_a, T_b])


def test_a_camera_is_found_where_it_has_not_been_for_long(room):
    """Surfels that wait in the archive of loops are looked into, and tracked against again."""
    there, elsewhere = torch.full((4,), 0), torch.arange(0, 96, 6)
    degrees = torch.cat([there, elsewhere, torch.full((3,), 90), torch.full((3,), 2)])
    frames = clip(room, degrees, slice(20, 23))
    result = gs.PointFusion().run(room.InMemory(frames), loops=LoopCloser(window=5, asynchronous=False))
    assert result.relocalized == [23] and result.tracked[23:].all() and result.submaps == [23]
    assert errors(result, frames)[result.tracked].max() < 0.02


ASIDE = se3.exp(torch.tensor([0.4, 0, 0, 0, 0, 0], dtype=torch.float64))


class MovesAll(LoopCloser):
    """Closes one loop, which moves the map."""

    def process(self, system, state, live, in_map=True):
        state = super().process(system, state, live, in_map)
        self.loops += [None] if state.frames == 3 else []
        return state

    def poses(self):
        return ASIDE @ super().poses()

    def loop_frames(self):
        return []

    def finalize(self, map_):
        return map_, self.poses()


def test_places_move_with_the_loops_that_move_the_map(room):
    """Where a lost camera is looked for must be where the map shows it."""
    relocalizer = Relocalizer()
    gs.PointFusion().run(room.InMemory(clip(room, THERE[:3])), loops=MovesAll(), relocalizer=relocalizer)
    torch.testing.assert_close(relocalizer.keyframes.T_wk[0], ASIDE)


def test_frames_lost_in_a_smaller_submap_say_why(room):
    frames = clip(room, torch.cat([THERE[:4], torch.full((10,), 40), ELSEWHERE[:8]]), slice(4, 14))
    result = gs.PointFusion().run(room.InMemory(frames))
    assert result.submaps == [8, 4] and result.tracked.tolist() == [False] * 14 + [True] * 8
    assert (result.statuses[:4] == TrackingStatus.UNCONNECTED).all()
    assert (result.statuses[4:14] == TrackingStatus.NO_DEPTH).all()


def test_frames_of_noise_begin_a_submap_a_second_at_most(room, caplog):
    """A palm before the camera, whose frames fit no other: submaps of one frame, which are not kept."""
    caplog.set_level("INFO", "gradslam_ng")
    frames = clip(room, torch.cat([THERE[:4], torch.full((20,), 20)]))
    noise = torch.randn(20, *SIZE, 1, generator=torch.Generator().manual_seed(0))
    frames.depth[4:], frames.color[4:] = 0.15 + 0.01 * noise, 0.3 + 0.05 * noise
    result = gs.PointFusion().run(room.InMemory(frames))
    assert 1 <= caplog.text.count("a new submap begins") <= 20 // 5
    assert result.submaps == [4] and not result.others
    assert (result.statuses[4:] != TrackingStatus.UNCONNECTED).all() and not result.tracked[4:].any()


def run_apart(room) -> gs.slam.Result:
    frames = clip(room, torch.cat([THERE, torch.full((10,), 40), ELSEWHERE[:8]]), slice(10, 20))
    return gs.PointFusion().run(room.InMemory(replace(frames, T_wc=None)))


def test_a_recorded_step_leaves_the_maps_of_other_submaps_alone(room, monkeypatch, same_maps):
    plain = run_apart(room)
    record = lambda function, buffers: lambda: function(*buffers)  # noqa: E731
    monkeypatch.setattr(gs.PointFusion, "graph_recorder", lambda self: record)
    result = run_apart(room)
    assert result.submaps == plain.submaps == [10, 8] and "replay" in result.milliseconds
    same_maps(result.map, plain.map, 1e-5)
    same_maps(result.others[0][0], plain.others[0][0], 1e-5)


def test_what_is_beyond_max_depth_begins_no_submap(room):
    """A camera that saw nothing within reach is found again where it was."""
    frames = clip(room, torch.cat([THERE, torch.full((10,), 40), THERE.flip(0)]))
    depth = frames.depth.clone()
    depth[10:20] = 50.0
    result = gs.PointFusion(max_depth=5.0).run(room.InMemory(replace(frames, depth=depth)))
    assert result.relocalized == [20] and result.submaps == [20] and result.tracked[20:].all()


@pytest.mark.parametrize("seconds", ["equal", "decreasing", "nanoseconds"])
def test_time_stamps_without_order_or_in_other_units(room, monkeypatch, seconds):
    """A submap begins nonetheless, and frames do not pile up until it does."""
    monkeypatch.setattr("gradslam_ng.slam.submap_tracking.MAX_WAITING", 5)
    frames = clip(room, torch.cat([THERE, ELSEWHERE]))
    order = torch.arange(len(frames), dtype=torch.float64)
    times = {"equal": 0 * order, "decreasing": -order / 30, "nanoseconds": 1e9 * order / 30}[seconds]
    result = gs.PointFusion().run(room.InMemory(replace(frames, timestamps=times)))
    assert result.submaps == [10, 10] and len(result.others[0][1]) == 10


def test_interrupted_while_a_submap_begins(room, monkeypatch):
    """What was done stays: every frame has a pose and a status."""
    usual, done = Recovery.add_tracked, []

    def interrupt(self, state, frame):
        usual(self, state, frame)
        done.append(state.frames)
        if len(done) == 13:
            raise KeyboardInterrupt

    monkeypatch.setattr(Recovery, "add_tracked", interrupt)
    result = gs.PointFusion().run(room.InMemory(clip(room, torch.cat([THERE, ELSEWHERE]))))
    assert result.interrupted and result.submaps == [10, 2]
    assert len(result.trajectory) == len(result.statuses) == 17
