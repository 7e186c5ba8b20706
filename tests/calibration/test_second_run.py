"""The second run: late color registered to its depth, which system it takes, and the scale by poses in meters."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.calibration import CameraPair
from gradslam_ng.calibration.corrected import CorrectedSequence
from gradslam_ng.calibration.scale import scale_of_depth
from gradslam_ng.calibration.second_run import run_again
from gradslam_ng.datasets import RGBDSequence, Synthetic
from gradslam_ng.datasets.synthetic import Miscalibrated
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.slam import Result
from gradslam_ng.slam.stream import StreamingSystem
from gradslam_ng.structures import Trajectory

FRAMES = 13


@pytest.fixture(scope="module")
def room() -> Miscalibrated:
    return Miscalibrated("living_room", frames=FRAMES, size=(120, 160), path="fast", scale=1.0)


def exact(room: Miscalibrated) -> CameraPair:
    zero = torch.zeros(2, dtype=torch.float64)
    offset = torch.tensor(room.time_offset, dtype=torch.float64)
    return CameraPair(room.K_depth, room.K_color, room.T_color_depth, zero, offset)


def result(sequence: RGBDSequence, T_wc: torch.Tensor, uncertain: int = 0) -> Result:
    statuses = torch.full((len(T_wc),), int(TrackingStatus.TRACKED))
    statuses[:uncertain] = int(TrackingStatus.DEGENERATE)
    return Result(gs.SurfelMap.empty(1), Trajectory(sequence.timestamps, T_wc), statuses, torch.zeros(len(T_wc), 6, 6))


def test_late_color_lies_on_its_depth(room: Miscalibrated) -> None:
    """As one camera at one time would have seen both; with the time left as it is, color lies beside."""
    right = Synthetic("living_room", frames=FRAMES, size=(120, 160), path="fast")
    cameras = exact(room)
    late = cameras._replace(time_offset=torch.zeros(()).double())
    trajectory, k = Trajectory(room.timestamps, room.T_w_depth), FRAMES // 2
    errors = []
    for each in (cameras, late):
        frame = CorrectedSequence(room, cameras=each, trajectory=trajectory)[k]
        there = (frame.depth > 0).expand(-1, -1, 3)
        torch.testing.assert_close(frame.depth[there[..., :1]], right[k].depth[there[..., :1]])
        assert there.double().mean() > 0.8
        errors.append(float((frame.color - right[k].color).abs()[there].mean()))
    assert errors[0] < 0.5 * errors[1], errors


@pytest.mark.parametrize(("uncertain", "runs"), [(0, 1), (3, 2)])
def test_depth_alone_unless_it_finds_less(room: Miscalibrated, uncertain: int, runs: int) -> None:
    taken = []

    def track(system: StreamingSystem, frames: RGBDSequence) -> Result:
        taken.append(system.odometry.photometric)
        return result(frames, room.T_w_depth, uncertain if len(taken) == 1 else 0)

    found = run_again(room, exact(room), result(room, room.T_w_depth), track)
    assert taken == [False, True][:runs]
    assert int(TrackingStatus.is_uncertain(found.statuses).sum()) == 0


def test_scale_by_poses_in_meters(room: Miscalibrated) -> None:
    """Depth a tenth too long: a way of nine tenths in meters, known to the noise of what tells it."""
    T_long = room.T_w_depth.clone()
    T_long[:, :3, 3] *= 1.1
    noisy = room.T_w_depth.clone()
    noise = torch.randn(FRAMES, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy[:, :3, 3] += 2e-4 * noise
    posed = room.with_prior(Trajectory(room.timestamps, noisy))
    scale = scale_of_depth(posed, torch.arange(FRAMES), T_long)
    assert scale is not None and scale.sigma < 0.004
    assert abs(scale.factor - 1 / 1.1) < 3 * scale.sigma
    assert scale_of_depth(room, torch.arange(FRAMES), T_long) is None  # without such poses
    still = room.with_prior(Trajectory(room.timestamps, room.T_w_depth[:1].expand(FRAMES, 4, 4)))
    assert scale_of_depth(still, torch.arange(FRAMES), T_long) is None  # of a body that stands
    noisy[:, :3, 3] += 0.05 * noise
    astray = room.with_prior(Trajectory(room.timestamps, noisy))
    assert scale_of_depth(astray, torch.arange(FRAMES), T_long) is None  # no better than what is told
    turning = room.with_prior(Trajectory(room.timestamps, room.T_w_depth), translates=False)
    assert scale_of_depth(turning, torch.arange(FRAMES), T_long) is None
