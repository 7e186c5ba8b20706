"""What every system promises: three ways in give one answer, Ctrl-C keeps what was done, and the caller is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.datasets import FrameError
from gradslam_ng.odometry import ProjectiveICP, TrackingStatus
from gradslam_ng.slam import runtime
from gradslam_ng.structures import RGBDFrames

SYSTEMS = pytest.mark.parametrize("system", [gs.PointFusion, gs.ICPSLAM, gs.ICPOdometry], ids=lambda s: s.__name__)


@SYSTEMS
def test_step_forward_and_run_agree(clip, room, system, quick, same_maps):
    slam = quick(system)
    result = slam.run(room.InMemory(clip))
    with torch.no_grad():
        map_, poses = slam(clip)
        state = None
        for i in range(8):
            state = slam.step(state, clip[i])
    functional, differentiable_poses = slam(clip)
    assert poses.shape == (1, 8, 4, 4) and state.frames == 8
    for T in (poses[0], differentiable_poses[0]):
        assert torch.allclose(result.trajectory.T_wc, T.double(), atol=1e-6)
    assert torch.allclose(result.trajectory.T_wc[-1], state.T_wc[0].double(), atol=1e-6)
    for other_map in (map_, state.map, functional):
        same_maps(result.map, slam.mapper.finalize(other_map), atol=1e-5)


@pytest.mark.parametrize(("system", "grad"), [(gs.PointFusion, True), (gs.PointFusion, False), (gs.ICPSLAM, False)])
def test_a_batch_of_clips_is_as_each_alone(clip, other, system, grad, quick):
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


def test_clips_need_no_poses_and_then_begin_at_the_origin(clip, quick):
    with torch.no_grad():
        _, free = quick()(RGBDFrames(clip.color, clip.depth, clip.K))
        _, posed = quick()(clip)
    assert torch.equal(free[0, 0], torch.eye(4))
    assert torch.allclose(posed[0, :1] @ free[0], posed[0], atol=1e-4)


@pytest.mark.parametrize("lead", [(), (1, 2, 3), (0,), (2, 0)])
def test_clips_of_other_shapes_are_refused(lead, quick):
    frames = RGBDFrames(torch.zeros(*lead, 16, 16, 3), torch.zeros(*lead, 16, 16, 1), torch.eye(3))
    with pytest.raises(ValueError, match="leading axes"):
        quick()(frames)


def test_steps_of_other_shapes_are_refused(clip, quick):
    slam = quick()
    with pytest.raises(ValueError, match="leading axes"):
        slam.step(None, RGBDFrames.stack([clip, clip]))
    state = slam.step(None, clip[0])
    with pytest.raises(ValueError, match=r"1 of 80x60.*1 of 40x30"):
        slam.step(state, RGBDFrames(clip.color[1, ::2, ::2], clip.depth[1, ::2, ::2], clip.K[1]))
    with pytest.raises(ValueError, match="2 of 80x60"):
        slam.step(state, clip[:2])
    with pytest.raises(ValueError, match=r"float32 on cpu, got torch.float64 on cpu.*frame\.to"):
        slam.step(state, clip[1].to(dtype=torch.float64))


@pytest.mark.parametrize("shape", [(3, 4), (9,), (2, 3, 3), (4,)])
def test_a_camera_of_the_wrong_shape_is_refused(clip, shape):
    with pytest.raises(ValueError, match=r"^K: expected shape"):
        RGBDFrames(clip.color, clip.depth, torch.ones(shape))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("color", lambda x: 255 * x, r"\[0, 1\], got .* to 2\d\d.*; divide by 255"),
        ("color", lambda x: (x - 0.45) / 0.22, "undo its normalization"),
        ("depth", lambda x: x.numpy(), "depth: expected a tensor, got ndarray"),
        ("depth", lambda x: x[..., 0], "depth: expected shape"),
        ("K", lambda x: 0 * x, "positive focal lengths"),
        ("K", lambda x: x * float("nan"), "positive focal lengths"),
        ("K", lambda x: x.mT, "positive focal lengths"),
        ("K", lambda x: x / torch.tensor([80.0, 60, 1])[:, None], "in pixels"),
        ("T_wc", lambda x: 2 * x, "rigid"),
        ("T_wc", lambda x: 0 * x, "rigid"),
        ("T_wc", lambda x: x * torch.tensor([-1.0, 1, 1, 1]), "rigid"),
        ("T_wc", lambda x: x * torch.tensor([1.0, 1, 1, 2])[:, None], "rigid"),
    ],
)
def test_images_cameras_and_poses_that_make_no_sense_are_refused(clip, name, value, message):
    fields = {"color": clip.color, "depth": clip.depth, "K": clip.K, "T_wc": clip.T_wc}
    with pytest.raises(ValueError, match=message):
        gs.PointFusion()(RGBDFrames(**(fields | {name: value(fields[name])})))


def test_camera_and_poses_take_on_the_precision_of_the_images_but_for_poses_in_float64(clip, quick):
    with torch.no_grad():
        _, expected = quick()(clip[:2])
        _, poses = quick()(RGBDFrames(clip.color[:2], clip.depth[:2], clip.K[:2].double(), clip.T_wc[:2].double()))
        _, half = quick()(clip[:2].to(dtype=torch.float16))
    assert expected.dtype == half.dtype == torch.float32
    assert poses.dtype == torch.float64 and torch.equal(poses.float(), expected)
    assert torch.allclose(half, expected, atol=2e-2)


def test_images_too_small_for_the_factor_are_refused(clip):
    with pytest.raises(ValueError, match="80x60 shrunk by 10"):
        gs.PointFusion(factor=10).step(None, clip[0])
    with pytest.raises(ValueError, match="factor"):
        gs.PointFusion(factor=0)


def test_unknown_odometry_is_refused_with_the_names_known():
    for name in ("gradicp", "icp", "ground-truth"):
        assert gs.Settings().make_odometry(name) is not None
    with pytest.raises(ValueError, match=r"gradicp, icp or ground-truth.*'magic'"):
        gs.PointFusion("magic")


def test_large_images_are_shrunk_to_about_320_pixels(clip, quick):
    slam = quick()
    for width, working in ((640, 320), (320, 320), (80, 80), (1296, 324)):
        frame = RGBDFrames(torch.zeros(32, width, 3), torch.ones(32, width, 1), torch.eye(3))
        assert slam.preprocess(frame).surface.size[1] == working
    assert gs.PointFusion(factor=2).preprocess(clip[0]).surface.size == (30, 40)


def test_ctrl_c_keeps_what_was_done(clip, room, quick, same_maps):
    def on_frame(index, state):
        if index == 4:
            raise KeyboardInterrupt

    result = quick().run(room.InMemory(clip), on_frame)
    assert result.interrupted
    assert len(result.trajectory) == len(result.tracked) == 5
    shorter = quick().run(room.InMemory(clip)[:5])
    assert torch.equal(result.trajectory.T_wc, shorter.trajectory.T_wc)
    same_maps(result.map, shorter.map)


def test_ctrl_c_while_a_frame_is_read_or_mapped(clip, room, monkeypatch, quick):
    slam = quick()
    fuse = slam.fuse

    def interrupted(map_, live, T_wc, ok, frame):
        if frame == 3:
            raise KeyboardInterrupt
        return fuse(map_, live, T_wc, ok, frame)

    monkeypatch.setattr(slam, "fuse", interrupted)
    result = slam.run(room.InMemory(clip))
    assert result.interrupted and len(result.trajectory) == 3 and result.map.count.item() > 0


def test_ctrl_c_before_anything_was_done_is_raised(clip, room, monkeypatch, quick):
    slam = quick()

    def interrupted(state, live, model, T_init):
        raise KeyboardInterrupt

    monkeypatch.setattr(slam, "localize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        slam.run(room.InMemory(clip))


def test_on_frame_sees_every_frame_done(clip, room, quick):
    seen = []
    quick(gs.ICPOdometry).run(room.InMemory(clip, {2: None}), lambda i, state: seen.append((i, state.frames)))
    assert seen == [(0, 1), (1, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7)]


@pytest.mark.parametrize(("threads", "cores", "inside"), [(1, 4, 1), (3, 4, 3), (3, 3, 2), (3, 2, 1), (3, 1, 1)])
def test_a_core_is_left_to_those_who_read_ahead(clip, room, quick, monkeypatch, threads, cores, inside):
    class Machine:  # on which nothing else runs
        def __init__(self):
            self.cores = range(cores)

        def free_cores(self):
            return float(cores)

    monkeypatch.setattr(runtime, "CoreWatch", Machine)
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        quick().run(room.InMemory(clip), lambda *_: seen.append(torch.get_num_threads()))
        assert set(seen) == {inside} and torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_stages_are_timed_afresh_in_every_run(clip, room, quick):
    slam = quick()
    for _ in range(2):
        result = slam.run(room.InMemory(clip))
        assert set(result.milliseconds) == {"read", "preprocess", "predict", "localize", "map"}
        assert all(ms > 0 for ms in result.milliseconds.values())
    assert sum(slam.timer.seconds.values()) == pytest.approx(sum(result.milliseconds.values()) * 8 / 1e3)


def test_a_stream_without_time_stamps_runs_at_30_hz(clip, room, quick):
    class Untimed(room.InMemory):
        def __getitem__(self, index):
            frame = super().__getitem__(index)
            return RGBDFrames(frame.color, frame.depth, frame.K) if isinstance(index, int) else frame

    result = quick(gs.ICPOdometry).run(Untimed(clip, {1: FrameError(1, path="1.png", reason="broken")}))
    expected = torch.tensor([0, 2, 3, 4, 5, 6, 7], dtype=torch.float64) / 30
    assert torch.allclose(result.trajectory.timestamps, expected)


def test_an_odometer_of_ones_own(clip, room):
    class Shy(ProjectiveICP):
        """Trusts nothing."""

        def forward(self, live, model, T_wc_init, T_wc_last=None):
            found = super().forward(live, model, T_wc_init, T_wc_last)
            return replace(found, status=torch.full_like(found.status, TrackingStatus.NO_OVERLAP))

    result = gs.PointFusion(Shy()).run(room.InMemory(clip))
    assert result.tracked.tolist() == [True, False] * 4  # a camera that it lost is found by the relocalizer
    assert result.relocalized == [2, 4, 6]
