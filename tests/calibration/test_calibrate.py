"""Self-calibration of rendered rooms: what is off is found, what cannot be told is said to be open."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.calibration import Calibration, calibrate_sequence
from gradslam_ng.calibration.calibrate import Level, Refinement, rounds
from gradslam_ng.calibration.camera_file import describe_cameras
from gradslam_ng.calibration.cameras import DEPTH, NAMES
from gradslam_ng.calibration.keyframes import read_keyframes, told_cameras
from gradslam_ng.calibration.observability import open_unknowns
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.datasets.camera_files import read_camera
from gradslam_ng.datasets.synthetic import Corrupted, Miscalibrated
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.slam import Result
from gradslam_ng.structures import Trajectory

LEVELS = Level(80, 300, 3), Level(160, 400, 4)


def tracked(timestamps: Tensor, T_wc: Tensor) -> Result:
    """What a run leaves that found these poses to half a centimeter and a quarter of a degree."""
    noise = torch.randn(len(T_wc), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    trajectory = Trajectory(timestamps, se3.exp(0.005 * noise.cumsum(0) / len(noise) ** 0.5) @ T_wc)
    statuses = torch.full((len(T_wc),), int(TrackingStatus.TRACKED))
    return Result(gs.SurfelMap.empty(1), trajectory, statuses, torch.zeros(len(T_wc), 6, 6))


@functools.cache
def recording() -> Miscalibrated:
    return Miscalibrated("living_room", frames=70, size=(120, 160), path="fast", shift=(1.0, -0.5))


def calibrated(
    sequence: RGBDSequence, levels: tuple[Level, ...] = LEVELS, on_round: Callable[[], None] = lambda: None
) -> Calibration:
    T_wc = recording().T_w_depth.clone()
    T_wc[:, :3, 3] *= recording().scale
    run = tracked(sequence.timestamps, T_wc)
    return calibrate_sequence(sequence, keyframes=8, track=lambda system, frames: run, levels=levels, on_round=on_round)


@functools.cache
def found() -> Calibration:
    return calibrated(recording())


def test_finds_what_is_off() -> None:
    """From 3%, 3% of the width and 20 ms, on eight views of 160x120: within a tenth of that."""
    room, cameras = recording(), found().cameras
    told, right = (K[[0, 1, 0, 1], [0, 1, 2, 2]] for K in (room.K.double(), room.K_depth))
    off = (cameras.K_depth[[0, 1, 0, 1], [0, 1, 2, 2]] - right).abs()
    assert ((told - right).abs() > 1.7).all() and (off < 0.5).all(), off
    assert abs(float(cameras.time_offset) - room.time_offset) < 0.002
    assert found().is_better
    told_misfit, misfit = found().misfit["brightness"]
    assert misfit < 0.7 * told_misfit


def test_the_same_cameras_fit_alike() -> None:
    """Poses are refined as far with the cameras as told as with those found: what they gain by that is no one's."""
    room, levels = recording(), (Level(80, 150, 5),)
    views = read_keyframes(room, tracked(room.timestamps, room.T_w_depth), 6)
    refinement, everything = Refinement(views, told=told_cameras(room)), torch.ones(len(NAMES), dtype=torch.bool)
    x, _ = refinement.refine_without(everything, (views.T_wc, refinement.told), levels)
    misfits, certainty = refinement.compare(x, levels)
    assert all(told == pytest.approx(found, rel=1e-3) for told, found in misfits.values())
    assert abs(certainty) < 0.5


def test_color_alone_is_open_without_texture() -> None:
    """One color: the depth camera is found, color stays registered as it was, and that is said. Rounds that this adds
    are none of those that a bar was told of."""
    gray = Corrupted(recording(), lambda index, color, depth: (torch.full_like(color, 0.5), depth))
    levels, told = (Level(80, 200, 3),), []
    result = calibrated(gray, levels, lambda: told.append(1))
    assert len(told) == rounds(levels)
    assert set(NAMES[len(DEPTH) :]) <= set(result.open)
    assert result.sigma[:2].isfinite().all() and not result.open[: len(DEPTH)].count("fx")
    off = (result.cameras.K_depth[0, 0] / recording().K_depth[0, 0] - 1).abs()
    assert off < 0.01
    torch.testing.assert_close(result.cameras.K_color, result.cameras.K_depth)


def test_file_is_read_as_written(tmp_path) -> None:
    path = tmp_path / "camera.json"
    path.write_text(json.dumps(describe_cameras(found(), recording())))
    camera, cameras = read_camera(path), found().cameras
    torch.testing.assert_close(camera.K, cameras.K_depth)
    torch.testing.assert_close(camera.color.K, cameras.K_color)
    torch.testing.assert_close(camera.color.T_color_depth, cameras.T_color_depth)
    assert camera.depth_distortion == tuple(cameras.depth_distortion.tolist())
    assert camera.time_offset == pytest.approx(-float(cameras.time_offset), abs=1e-9)
    assert not camera.findings


def test_camera_that_stands_still_is_refused() -> None:
    poses = Trajectory(recording().timestamps, recording().T_w_depth[:1].expand(70, 4, 4))
    result = Result(gs.SurfelMap.empty(1), poses, torch.zeros(70, dtype=torch.long), torch.zeros(70, 6, 6))
    with pytest.raises(ValueError, match="expected 4 views or more"):
        calibrate_sequence(recording(), track=lambda system, frames: result)


def test_of_two_that_are_only_together_open_one_is_held() -> None:
    n = 6 + len(NAMES)
    H = torch.eye(n, dtype=torch.float64) * 1e6
    H[-1, -1] = H[-2, -2] = 1e6
    H[-1, -2] = H[-2, -1] = 1e6 - 1  # their difference has next to no information
    H[6, 6] = 1.0  # as much as was known before
    is_open = open_unknowns(H, torch.ones(len(NAMES), dtype=torch.bool))
    assert is_open[0] and is_open[-2:].sum() == 1 and is_open.sum() == 2
