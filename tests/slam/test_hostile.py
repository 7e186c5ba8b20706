"""Nothing that a camera does breaks a run."""

from __future__ import annotations

import math

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.evaluation import ate
from gradslam_ng.geometry import se3
from gradslam_ng.structures import RGBDFrames

SYSTEMS = pytest.mark.parametrize("system", [gs.PointFusion, gs.ICPSLAM, gs.ICPOdometry], ids=lambda s: s.__name__)


def joined(*clips: RGBDFrames) -> RGBDFrames:
    """One clip after the other in time."""
    return RGBDFrames(*(torch.cat([getattr(c, name) for c in clips]) for name in ("color", "depth", "K", "T_wc")))


def test_frames_that_cannot_be_read_are_skipped(clip, room, quick):
    broken = dict.fromkeys((0, 3, 4))
    sequence = room.InMemory(clip, broken)
    result = quick().run(sequence)
    assert len(result.skipped) == 3 and "frame 3" in result.skipped[1]
    assert len(result.trajectory) == len(result.tracked) == 8 - 3 and result.tracked.all()
    assert torch.equal(result.trajectory.timestamps, sequence.timestamps[[1, 2, 5, 6, 7]])
    assert ate(sequence.ground_truth, result.trajectory, align="none").rmse < 3e-3


def test_no_frame_can_be_read(clip, room, quick):
    with pytest.raises(ValueError, match=r"clip: none of its 8 frames.*cannot be read"):
        quick().run(room.InMemory(clip, dict.fromkeys(range(8))))


def test_any_other_error_is_not_swallowed(clip, room, quick):
    with pytest.raises(RuntimeError, match="bug"):
        quick().run(room.InMemory(clip, {2: RuntimeError("a bug")}))


@pytest.mark.parametrize(
    ("system", "index", "value"),
    [(gs.PointFusion, 0, 0.0), (gs.PointFusion, 4, 0.0), (gs.PointFusion, 4, math.nan), (gs.ICPSLAM, 4, math.inf),
     (gs.ICPOdometry, 0, math.nan), (gs.ICPOdometry, 4, -1.0)],
)  # fmt: skip
def test_a_frame_without_any_depth_is_lost_and_the_next_ones_are_not(clip, room, system, index, value, quick, blanked):
    result = quick(system).run(room.InMemory(blanked(clip, index, value)))
    assert result.tracked.tolist() == [i != index for i in range(8)]
    assert result.trajectory.T_wc.isfinite().all() and result.map[0].points.isfinite().all()
    truth = room.InMemory(clip).ground_truth
    keep = result.tracked
    assert ate(truth, result.trajectory[keep], align="none").rmse < 6e-3


def test_depth_with_nan_holes_tracks_as_with_zeros(clip, room, quick, same_maps):
    holes = torch.rand(clip.depth.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    results = [
        quick().run(room.InMemory(RGBDFrames(clip.color, clip.depth.masked_fill(holes, v), clip.K, clip.T_wc)))
        for v in (0.0, math.nan)
    ]
    assert torch.equal(results[0].trajectory.T_wc, results[1].trajectory.T_wc)
    same_maps(results[0].map, results[1].map)


@SYSTEMS
def test_only_frames_without_depth(clip, room, system, quick):
    result = quick(system).run(room.InMemory(RGBDFrames(clip.color, torch.zeros_like(clip.depth), clip.K)))
    assert not result.tracked.any() and result.map.count.item() == 0
    assert torch.equal(result.trajectory.T_wc, torch.eye(4, dtype=torch.float64).expand(8, 4, 4))


@SYSTEMS
def test_a_view_from_elsewhere_is_lost_leaves_the_map_alone_and_is_recovered_from(clip, room, system, quick, same_maps):
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
        same_maps(map_, maps[4][1])
        assert torch.equal(T_wc, maps[4][2])
    found = torch.stack([T for _, _, T in maps[-3:]]).double()
    T_wc = clip.T_wc.double()
    expected = se3.inverse(T_wc[:1]) @ T_wc[5:]
    assert se3.log(found @ se3.inverse(expected)).abs().max() < 6e-3


def test_losing_one_sequence_of_a_batch_does_not_touch_the_others(clip, other, quick, blanked):
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


def test_ground_truth_gaps_do_not_matter_to_icp(clip, room, quick):
    T_wc = clip.T_wc.clone()
    T_wc[[2, 5]] = math.nan
    result = quick().run(room.InMemory(RGBDFrames(clip.color, clip.depth, clip.K, T_wc)))
    assert result.tracked.all()
    assert ate(room.InMemory(clip).ground_truth, result.trajectory, align="none").rmse < 3e-3


def test_the_first_frame_with_readings_is_where_its_pose_says(clip, room, quick, blanked):
    result = quick().run(room.InMemory(blanked(clip, 0, 0.0)))
    assert torch.allclose(result.trajectory.T_wc[1].float(), clip.T_wc[1], atol=1e-6)


def test_a_run_without_memory_keeps_what_it_has(clip, room, quick, monkeypatch):
    system = quick(gs.KinectFusion)
    fuse, fused = system.fuse, []

    def fuse_five(*args):
        if len(fused) == 5:
            raise MemoryError("volume: no memory")
        fused.append(fuse(*args))
        return fused[-1]

    monkeypatch.setattr(system, "fuse", fuse_five)
    result = system.run(room.InMemory(clip))
    assert result.interrupted and len(result.trajectory) == 5 and len(result.map.keys)
    with pytest.raises(MemoryError):
        system.run(room.InMemory(clip))


def test_a_path_is_no_sequence():
    with pytest.raises(
        TypeError, match=r"sequence: expected frames, such as datasets\.load\('my_room'\) gives, got a path"
    ):
        gs.PointFusion().run("my_room")
