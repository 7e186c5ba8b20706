"""Refinement of whole runs: drift taken out, and what is not refined."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng import evaluation
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.refinement import refine
from gradslam_ng.structures import SurfelMap, Trajectory


@pytest.fixture(scope="module")
def finished(room):
    """A sequence, a system, and its result whose poses then drifted by 1 cm and half a degree, as they claim."""
    sequence, system = room.InMemory(room.view(room.walk(12))), gs.PointFusion(odometry="ground-truth")
    result = system.run(sequence)
    share = torch.linspace(0, 1, 12, dtype=torch.float64)[:, None]
    drift = se3.exp(share * torch.tensor([0.01, 0, 0.005, 0, 0.008, 0]))
    trajectory = Trajectory(result.trajectory.timestamps, drift @ result.trajectory.T_wc)
    return sequence, system, claim(replace(result, trajectory=trajectory), 0.01)


def claim(result, sigma):
    """The result with that standard deviation, meters and radians, for each of its poses."""
    covariance = sigma**2 * torch.eye(6, dtype=torch.float64)
    return replace(result, covariances=covariance.expand(len(result.tracked), 6, 6).clone())


def error(sequence, result) -> float:
    return evaluation.ate(sequence.ground_truth, result.trajectory, align="none").rmse


def test_drift_is_taken_out(finished):
    sequence, system, result = finished
    found = refine(system, sequence, result, max_keyframes=5)
    assert found.taken and found.keyframes == 5 and found.misfit[1] < found.misfit[0]
    assert error(sequence, found.result) < 0.4 * error(sequence, result)
    assert found.before is result and int(found.result.map.count) > 1000


def test_more_drift_than_claimed_needs_depth_and_brightness(finished, room):
    """Poses that were given claim no error. Where both say so drift is taken out, where depth alone does they stay."""
    sequence, system, result = finished
    given = claim(result, 0.0)
    found = refine(system, sequence, given, max_keyframes=5)
    assert found.taken and error(sequence, found.result) < 0.6 * error(sequence, result)
    for frames, brightness in ((sequence, False), (room.InMemory(gray(sequence)), True)):
        alone = refine(system, frames, given, max_keyframes=5, brightness=brightness)
        assert not alone.taken and alone.result.trajectory is result.trajectory and "do not agree" in alone.refused


def test_a_sensor_that_is_off_does_not_bend_a_good_path(finished, room):
    """Color that slides over the surface from frame to frame, as by another delay: depth says otherwise, and the run,
    which claims a millimeter and is exact, stays within that."""
    sequence, system, result = finished
    clip = sequence.clip
    color = torch.stack([torch.roll(each, i // 2, 1) for i, each in enumerate(clip.color)])
    exact = claim(replace(result, trajectory=sequence.ground_truth), 0.001)
    found = refine(system, room.InMemory(replace(clip, color=color)), exact, max_keyframes=5)
    assert error(sequence, found.result) < 0.001


def gray(sequence):
    return replace(sequence.clip, color=torch.full_like(sequence.clip.color, 0.5))


def test_lost_and_unreadable_frames(finished, room):
    """A lost frame follows its neighbors and enters no map; a frame that cannot be read a second time is left out."""
    sequence, system, result = finished
    statuses = result.statuses.clone()
    statuses[[5, 6]] = int(TrackingStatus.NO_OVERLAP)
    broken = room.InMemory(sequence.clip, broken={0: None})
    found = refine(system, broken, replace(result, statuses=statuses), max_keyframes=5)
    assert found.taken and found.keyframes == 4
    assert len(found.result.trajectory) == 12 and not found.result.tracked[[5, 6]].any()


def test_without_color_depth_alone_is_aligned(finished, room):
    sequence, system, result = finished
    found = refine(system, room.InMemory(gray(sequence)), result, max_keyframes=5)
    assert found.taken and error(sequence, found.result) < error(sequence, result)


def test_what_cannot_be_refined_stays(finished, room, caplog):
    sequence, system, result = finished
    few = replace(result, statuses=torch.full_like(result.statuses, int(TrackingStatus.NO_OVERLAP)))
    nothing = replace(result, map=SurfelMap.empty(1))
    dark = room.InMemory(replace(sequence.clip, depth=torch.zeros_like(sequence.clip.depth)))
    cases = ((few, sequence, "0 tracked frames"), (nothing, sequence, "0 surfels"), (result, dark, "share fewer"))
    for given, frames, why in cases:
        found = refine(system, frames, given)
        assert not found.taken and found.result is given and why in found.refused and why in caplog.text


def test_what_fits_no_better_is_not_taken(finished, monkeypatch):
    sequence, system, result = finished
    monkeypatch.setattr("gradslam_ng.refinement.global_refinement.compare", lambda *_: (0.1, 0.1))
    found = refine(system, sequence, result, max_keyframes=5)
    assert not found.taken and found.result is result and found.misfit == (0.1, 0.1) and "no better" in found.refused


def test_arguments_that_make_no_sense(finished, room):
    sequence, system, result = finished
    with pytest.raises(ValueError, match="max_keyframes: expected at least 3, got 2"):
        refine(system, sequence, result, max_keyframes=2)
    other = room.InMemory(sequence.clip[:3])
    with pytest.raises(ValueError, match="expected the one that was run"):
        refine(system, other, result)


def test_a_volume_is_refined_too(finished):
    sequence, _, result = finished
    system = gs.KinectFusion(odometry="ground-truth", voxel_size=0.04, truncation=0.16)
    run = system.run(sequence[:8])
    found = refine(system, sequence, replace(run, trajectory=result.trajectory[:8]), max_keyframes=4)
    assert isinstance(found.result.map, gs.VoxelGrid) and len(found.result.map.keys) > 10
