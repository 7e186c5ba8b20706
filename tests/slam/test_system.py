"""What every system promises: three ways in give one answer, and nothing that a camera does breaks a run."""

from __future__ import annotations

import math

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.datasets import FrameError
from gradslam_ng.evaluation import ate
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ICPOdometer
from gradslam_ng.slam.system import System, odometer
from gradslam_ng.structures import RGBDFrames

SYSTEMS = pytest.mark.parametrize("system", [gs.PointFusion, gs.ICPSLAM, gs.ICPOdometry], ids=lambda s: s.__name__)
FRAMES = 8


@pytest.fixture(scope="module")
def clip(room) -> RGBDFrames:
    return room.view(room.walk(FRAMES))


@pytest.fixture(scope="module")
def other(room) -> RGBDFrames:
    return room.view(room.walk(FRAMES, seed=7))


def quick(system: type[System] = gs.PointFusion) -> System:
    """With fewer iterations: the steps between frames are small."""
    return system(ICPOdometer(iterations=(3, 2, 2)))


def joined(*clips: RGBDFrames) -> RGBDFrames:
    """One clip after the other in time."""
    return RGBDFrames(*(torch.cat([getattr(c, name) for c in clips]) for name in ("color", "depth", "K", "T_wc")))


def assert_same_maps(first: gs.SurfelMap, second: gs.SurfelMap, atol: float = 0.0) -> None:
    assert first.count.tolist() == second.count.tolist()
    for b in range(first.batch):
        for name, value in first[b].attributes().items():
            assert torch.allclose(value, getattr(second[b], name), rtol=0, atol=atol), name


@SYSTEMS
def test_step_forward_and_run_agree(clip, room, system):
    slam = quick(system)
    result = slam.run(room.InMemory(clip))
    with torch.no_grad():
        map_, poses = slam(clip)
        state = None
        for i in range(FRAMES):
            state = slam.step(state, clip[i])
    functional, differentiable_poses = slam(clip)
    assert poses.shape == (1, FRAMES, 4, 4) and state.frames == FRAMES
    for T in (poses[0], differentiable_poses[0]):
        assert torch.allclose(result.trajectory.T_wc, T.double(), atol=1e-6)
    assert torch.allclose(result.trajectory.T_wc[-1], state.T_wc[0].double(), atol=1e-6)
    for other_map in (map_, state.map, functional):
        assert_same_maps(result.map, other_map, atol=1e-5)


@pytest.mark.parametrize(("system", "grad"), [(gs.PointFusion, True), (gs.PointFusion, False), (gs.ICPSLAM, False)])
def test_a_batch_of_clips_is_as_each_alone(clip, other, system, grad):
    slam = quick(system)
    with torch.set_grad_enabled(grad):
        maps, poses = slam(RGBDFrames.stack([clip, other]))
        for b, alone in enumerate((clip, other)):
            map_, T_wc = slam(alone)
            assert torch.allclose(poses[b], T_wc[0], atol=1e-5)
            # a last bit of the pose may move a reading across the rim of a pixel
            assert abs(int(maps.count[b]) - int(map_.count[0])) <= 3
            if maps.count[b] == map_.count[0] > 0:
                assert (maps[b].points - map_.points[:, : maps[b].capacity]).abs().median() < 1e-5


def test_clips_need_no_poses_and_then_begin_at_the_origin(clip):
    with torch.no_grad():
        _, free = quick()(RGBDFrames(clip.color, clip.depth, clip.K))
        _, posed = quick()(clip)
    assert torch.equal(free[0, 0], torch.eye(4))
    assert torch.allclose(posed[0, :1] @ free[0], posed[0], atol=1e-4)


@pytest.mark.parametrize("lead", [(), (1, 2, 3), (0,), (2, 0)])
def test_clips_of_other_shapes_are_refused(lead):
    frames = RGBDFrames(torch.zeros(*lead, 16, 16, 3), torch.zeros(*lead, 16, 16, 1), torch.eye(3))
    with pytest.raises(ValueError, match="leading axes"):
        quick()(frames)


def test_steps_of_other_shapes_are_refused(clip):
    slam = quick()
    with pytest.raises(ValueError, match="leading axes"):
        slam.step(None, RGBDFrames.stack([clip, clip]))
    state = slam.step(None, clip[0])
    with pytest.raises(ValueError, match=r"1 of 80x60.*1 of 40x30"):
        slam.step(state, RGBDFrames(clip.color[1, ::2, ::2], clip.depth[1, ::2, ::2], clip.K[1]))
    with pytest.raises(ValueError, match="2 of 80x60"):
        slam.step(state, clip[:2])


@pytest.mark.parametrize("shape", [(3, 4), (4, 4), (9,), (2, 3, 3), (4,)])
def test_a_camera_of_the_wrong_shape_is_refused(clip, shape):
    with pytest.raises(ValueError, match=r"^K: expected shape"):
        RGBDFrames(clip.color, clip.depth, torch.ones(shape))


def test_images_too_small_for_the_factor_are_refused(clip):
    with pytest.raises(ValueError, match="80x60 shrunk by 10"):
        gs.PointFusion(factor=10).step(None, clip[0])
    with pytest.raises(ValueError, match="factor"):
        gs.PointFusion(factor=0)


def test_unknown_odometry_is_refused_with_the_names_known():
    for name in ("gradicp", "icp", "ground-truth"):
        assert odometer(name) is not None
    with pytest.raises(ValueError, match=r"gradicp, icp or ground-truth.*'magic'"):
        gs.PointFusion("magic")


def test_large_images_are_shrunk_to_about_320_pixels(clip):
    slam = quick()
    for width, working in ((640, 320), (320, 320), (80, 80), (1296, 324)):
        frame = RGBDFrames(torch.zeros(32, width, 3), torch.ones(32, width, 1), torch.eye(3))
        assert slam.prepare(frame).surface.size[1] == working
    assert gs.PointFusion(factor=2).prepare(clip[0]).surface.size == (30, 40)


# hostile streams


def test_frames_that_cannot_be_read_are_skipped(clip, room):
    broken = dict.fromkeys((0, 3, 4))
    sequence = room.InMemory(clip, broken)
    result = quick().run(sequence)
    assert len(result.skipped) == 3 and "frame 3" in result.skipped[1]
    assert len(result.trajectory) == len(result.tracked) == FRAMES - 3 and result.tracked.all()
    assert torch.equal(result.trajectory.timestamps, sequence.timestamps[[1, 2, 5, 6, 7]])
    assert ate(sequence.ground_truth, result.trajectory, align="none").rmse < 3e-3


def test_no_frame_can_be_read(clip, room):
    with pytest.raises(ValueError, match=r"clip: none of its 8 frames.*cannot be read"):
        quick().run(room.InMemory(clip, dict.fromkeys(range(FRAMES))))


def test_any_other_error_is_not_swallowed(clip, room):
    with pytest.raises(RuntimeError, match="bug"):
        quick().run(room.InMemory(clip, {2: RuntimeError("a bug")}))


def blanked(clip: RGBDFrames, index: int, value: float) -> RGBDFrames:
    depth = clip.depth.clone()
    depth[index] = value
    return RGBDFrames(clip.color, depth, clip.K, clip.T_wc)


@pytest.mark.parametrize(
    ("system", "index", "value"),
    [(gs.PointFusion, 0, 0.0), (gs.PointFusion, 4, 0.0), (gs.PointFusion, 4, math.nan), (gs.ICPSLAM, 4, math.inf),
     (gs.ICPOdometry, 0, math.nan), (gs.ICPOdometry, 4, -1.0)],
)  # fmt: skip
def test_a_frame_without_any_depth_is_lost_and_the_next_ones_are_not(clip, room, system, index, value):
    result = quick(system).run(room.InMemory(blanked(clip, index, value)))
    assert result.tracked.tolist() == [i != index for i in range(FRAMES)]
    assert result.trajectory.T_wc.isfinite().all() and result.map[0].points.isfinite().all()
    truth = room.InMemory(clip).ground_truth
    keep = result.tracked
    assert ate(truth, result.trajectory[keep], align="none").rmse < 3e-3


def test_depth_with_nan_holes_tracks_as_with_zeros(clip, room):
    holes = torch.rand(clip.depth.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    results = [
        quick().run(room.InMemory(RGBDFrames(clip.color, clip.depth.masked_fill(holes, v), clip.K, clip.T_wc)))
        for v in (0.0, math.nan)
    ]
    assert torch.equal(results[0].trajectory.T_wc, results[1].trajectory.T_wc)
    assert_same_maps(results[0].map, results[1].map)


@SYSTEMS
def test_only_frames_without_depth(clip, room, system):
    result = quick(system).run(room.InMemory(RGBDFrames(clip.color, torch.zeros_like(clip.depth), clip.K)))
    assert not result.tracked.any() and result.map.count.item() == 0
    assert torch.equal(result.trajectory.T_wc, torch.eye(4, dtype=torch.float64).expand(FRAMES, 4, 4))


@SYSTEMS
def test_a_view_from_elsewhere_is_lost_leaves_the_map_alone_and_is_recovered_from(clip, room, system):
    """Someone turns the camera to the other wall for three frames: no overlap with anything seen."""
    turn = se3.exp(torch.tensor([0, 0, 0, 0, 2.2, 0], dtype=torch.float64))
    elsewhere = room.view(room.walk(3) @ turn)
    slam, state, maps = quick(system), None, []
    frames = joined(clip[:5], elsewhere, clip[5:])
    with torch.no_grad():
        for i in range(len(frames)):
            state = slam.step(state, RGBDFrames(frames.color[i], frames.depth[i], frames.K[i]))
            maps.append((bool(state.tracking.ok), state.map[0].map(torch.clone), state.T_wc[0].clone()))
    assert [ok for ok, _, _ in maps] == [True] * 5 + [False] * 3 + [True] * 3
    for _, map_, T_wc in maps[5:8]:
        assert_same_maps(map_, maps[4][1])
        assert torch.equal(T_wc, maps[4][2])
    found = torch.stack([T for _, _, T in maps[-3:]]).double()
    T_wc = clip.T_wc.double()
    expected = se3.inverse(T_wc[:1]) @ T_wc[5:]
    assert se3.log(found @ se3.inverse(expected)).abs().max() < 3e-3


def test_losing_one_sequence_of_a_batch_does_not_touch_the_others(clip, other):
    frames = RGBDFrames.stack([clip, blanked(other, 4, 0.0)])
    with torch.no_grad():
        _, together = quick()(frames)
        _, alone = quick()(clip)
    assert torch.allclose(together[0], alone[0], atol=1e-5)
    assert torch.equal(together[1, 4], together[1, 3]) and not torch.equal(together[1, 5], together[1, 3])


@pytest.mark.parametrize("unknown", [[0, 1], [3, 4], [7]])
def test_ground_truth_with_gaps(clip, room, unknown):
    """Frames without a pose are lost and join no map, also at the beginning, when there is none yet."""
    T_wc = clip.T_wc.clone()
    T_wc[unknown] = math.nan
    result = gs.PointFusion("ground-truth").run(room.InMemory(RGBDFrames(clip.color, clip.depth, clip.K, T_wc)))
    assert (~result.tracked).nonzero()[:, 0].tolist() == unknown
    assert torch.allclose(result.trajectory.T_wc[result.tracked].float(), clip.T_wc[result.tracked], atol=1e-5)
    whole = gs.PointFusion("ground-truth").run(room.InMemory(clip))
    apart = torch.cdist(result.map[0].points[0], whole.map[0].points[0]).amin(-1)
    assert apart.max() < 0.1  # not one reading of a frame without a pose anywhere else


def test_ground_truth_gaps_do_not_matter_to_icp(clip, room):
    T_wc = clip.T_wc.clone()
    T_wc[[2, 5]] = math.nan
    result = quick().run(room.InMemory(RGBDFrames(clip.color, clip.depth, clip.K, T_wc)))
    assert result.tracked.all()
    assert ate(room.InMemory(clip).ground_truth, result.trajectory, align="none").rmse < 3e-3


def test_the_first_frame_with_readings_is_where_its_pose_says(clip, room):
    result = quick().run(room.InMemory(blanked(clip, 0, 0.0)))
    assert torch.allclose(result.trajectory.T_wc[1].float(), clip.T_wc[1], atol=1e-6)


# being interrupted, and being told


def test_ctrl_c_keeps_what_was_done(clip, room):
    def on_frame(index, state):
        if index == 4:
            raise KeyboardInterrupt

    result = quick().run(room.InMemory(clip), on_frame)
    assert result.interrupted
    assert len(result.trajectory) == len(result.tracked) == 5
    shorter = quick().run(room.InMemory(clip)[:5])
    assert torch.equal(result.trajectory.T_wc, shorter.trajectory.T_wc)
    assert_same_maps(result.map, shorter.map)


def test_ctrl_c_while_a_frame_is_read_or_mapped(clip, room, monkeypatch):
    slam = quick()
    fuse = slam.fuse

    def interrupted(map_, live, T_wc, ok, frame):
        if frame == 3:
            raise KeyboardInterrupt
        return fuse(map_, live, T_wc, ok, frame)

    monkeypatch.setattr(slam, "fuse", interrupted)
    result = slam.run(room.InMemory(clip))
    assert result.interrupted and len(result.trajectory) == 3 and result.map.count.item() > 0


def test_ctrl_c_before_anything_was_done_is_raised(clip, room, monkeypatch):
    slam = quick()

    def interrupted(state, frame):
        raise KeyboardInterrupt

    monkeypatch.setattr(slam, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        slam.run(room.InMemory(clip))


def test_on_frame_sees_every_frame_done(clip, room):
    seen = []
    quick(gs.ICPOdometry).run(room.InMemory(clip, {2: None}), lambda i, state: seen.append((i, state.frames)))
    assert seen == [(0, 1), (1, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7)]


def test_stages_are_timed_afresh_in_every_run(clip, room):
    slam = quick()
    for _ in range(2):
        result = slam.run(room.InMemory(clip))
        assert set(result.milliseconds) == {"read", "prepare", "predict", "localise", "map"}
        assert all(ms > 0 for ms in result.milliseconds.values())
    assert sum(slam.seconds.values()) == pytest.approx(sum(result.milliseconds.values()) * FRAMES / 1e3)


def test_a_stream_without_time_stamps_runs_at_30_hz(clip, room):
    class Untimed(room.InMemory):
        def __getitem__(self, index):
            frame = super().__getitem__(index)
            return RGBDFrames(frame.color, frame.depth, frame.K) if isinstance(index, int) else frame

    result = quick(gs.ICPOdometry).run(Untimed(clip, {1: FrameError(1, "1.png", "broken")}))
    expected = torch.tensor([0, 2, 3, 4, 5, 6, 7], dtype=torch.float64) / 30
    assert torch.allclose(result.trajectory.timestamps, expected)


def test_an_odometer_of_ones_own(clip, room):
    class Shy(ICPOdometer):
        """Trusts nothing."""

        def forward(self, live, model, T_wm, T_wc):
            found = super().forward(live, model, T_wm, T_wc)
            return type(found)(T_wc, torch.zeros_like(found.ok), found.overlap, found.error)

    result = gs.PointFusion(Shy()).run(room.InMemory(clip))
    assert result.tracked.tolist() == [True] + [False] * (FRAMES - 1)
