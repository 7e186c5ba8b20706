"""Frames moved in a volume after a correction of their poses."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser, Reintegration, VolumeLoopCloser
from gradslam_ng.mapping import TSDFFuser


@pytest.fixture(scope="module")
def frames(room):
    """Three live frames of the closed-form room, and their poses (3, 4, 4)."""
    T_wc = room.walk(30)[::10]
    clip, system = room.view(T_wc), gs.KinectFusion()
    with torch.no_grad():
        return [system.preprocess(clip[i]) for i in range(3)], T_wc


def volume(frames, T_wc):
    grid, fused = gs.VoxelGrid.empty(voxel_size=0.04, truncation=0.16), Reintegration()
    with torch.no_grad():
        for live, pose in zip(frames, T_wc.float(), strict=True):
            grid = TSDFFuser()(grid, live, pose[None], torch.tensor([True]), torch.tensor(0))
            fused.add(live, pose)
    return grid, fused


def test_frames_moved_are_as_if_they_had_never_been_elsewhere(frames):
    live, T_wc = frames
    drift = se3.exp(torch.tensor([[0.0] * 6, [0.05, 0, -0.04, 0, 0.03, 0], [0.1, 0, -0.08, 0, 0.06, 0]]).double())
    (drifted, fused), (right, _) = volume(live, drift @ T_wc), volume(live, T_wc)
    drifted = fused.reintegrate(drifted, T_wc)
    points = se3.transform(T_wc.float(), live[0].surface.vertices.flatten(1, 2))[:1, ::7]
    sdf, _, weight = drifted.query(points)
    expected, _, known = right.query(points)
    assert (known > 0).float().mean() > 0.5
    both = (known > 0) & (weight > 0)
    assert both.sum() > 0.98 * (known > 0).sum()
    assert (sdf - expected)[both].abs().quantile(0.99) < 2e-3
    assert (sdf - volume(live, drift @ T_wc)[0].query(points)[0])[both].abs().quantile(0.9) > 0.01  # it did matter
    assert fused.reintegrate(drifted, T_wc) is drifted


def test_poses_must_be_those_of_the_frames(frames):
    live, T_wc = frames
    with pytest.raises(ValueError, match="one for each of 3 frames, got 2"):
        volume(live, T_wc)[1].reintegrate(gs.VoxelGrid.empty(), T_wc[:2])
    with pytest.raises(ValueError, match="batch of one, got 2"):
        volume(live, T_wc)[1].reintegrate(gs.VoxelGrid.empty(2), T_wc)


@pytest.mark.parametrize(("meters", "moves"), [(0.015, False), (0.03, True)])
def test_frames_move_by_half_a_voxel_or_stay(frames, meters, moves):
    """Voxels of 4 cm tell no less than 2 cm, and a frame costs two integrations to move."""
    live, T_wc = frames
    grid, fused = volume(live, T_wc)
    shifted = T_wc.clone()
    shifted[:, 0, 3] += meters
    closer = VolumeLoopCloser(SimpleNamespace(loops=["one"], finalize=lambda surfels: (surfels, shifted)))
    closer.fused, closer.fused_frames = fused, [0, 1, 2]
    after, poses = closer.finalize(grid)
    assert torch.equal(poses, shifted) and (after is grid) == (not moves)
    at = torch.stack([frame.T_wc for frame in fused.frames]).double()
    assert torch.allclose(at, shifted if moves else T_wc, atol=1e-6)


@pytest.mark.slow
def test_a_volume_follows_its_loops(room):
    """There and back with noise: loops are found, and frames lie in the volume where the trajectory has them."""
    yaw = 0.1 + 0.65 * (1 - torch.cos(torch.arange(48, dtype=torch.float64) / 48 * 2 * math.pi))
    way = [se3.exp(torch.tensor([0.1 * float(a), 0, 0, 0, float(a), 0], dtype=torch.float64)) for a in yaw]
    tilt = se3.exp(torch.tensor([0, 0, 0, -0.4, 0, 0], dtype=torch.float64))
    clip = room.view(torch.stack(way) @ tilt)
    clip.depth.mul_(1 + 0.004 * torch.randn(clip.depth.shape, generator=torch.Generator().manual_seed(0)))
    sequence, errors = room.InMemory(clip), {}
    for name, loops in (("without", None), ("with", VolumeLoopCloser(LoopCloser(20)))):
        result = gs.KinectFusion(voxel_size=0.04, truncation=0.16).run(sequence, loops=loops)
        assert len(result.trajectory) == len(sequence) and bool(result.tracked.all())
        errors[name] = gs.evaluation.ate(sequence.ground_truth, result.trajectory).rmse
    assert len(loops.loops) > 0
    fused = torch.stack([frame.T_wc for frame in loops.fused.frames]).double()
    assert len(fused) == len(sequence)
    meters, radians = se3.distance(fused, result.trajectory.T_wc)
    assert meters.max() < 0.003 and radians.max() < 0.003
    assert errors["with"] < 1.1 * errors["without"] + 0.002
