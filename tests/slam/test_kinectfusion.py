"""KinectFusion on the closed-form room: tracked, of the right shape, differentiable."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.structures import RGBDFrames


def kinectfusion(**options) -> gs.KinectFusion:
    return gs.KinectFusion(
        voxel_size=0.04, truncation=0.16, **({"odometry": ProjectiveICP(iterations=(3, 2, 2))} | options)
    )


@pytest.fixture(scope="module")
def clip(room) -> RGBDFrames:
    return room.view(room.walk(6))


@torch.no_grad()
def test_the_camera_is_tracked(clip):
    grid, T_wc = kinectfusion()(clip)
    error = se3.log(se3.inverse(T_wc[0].double()) @ clip.T_wc.double())
    assert T_wc.shape == (1, 6, 4, 4) and isinstance(grid, gs.VoxelGrid)
    assert error[:, :3].norm(dim=-1).max() < 0.01 and error[:, 3:].norm(dim=-1).max() < 0.005


@torch.no_grad()
def test_streams_and_clips_agree(room, clip):
    grid, T_wc = kinectfusion()(clip)
    result = kinectfusion().run(room.InMemory(clip))
    assert result.tracked.all() and torch.allclose(result.trajectory.T_wc.float(), T_wc[0], atol=1e-5)
    assert result.map.keys.equal(grid.keys)


def test_gradients_reach_every_input(clip):
    depth, color, K = (x[:3].clone().requires_grad_() for x in (clip.depth, clip.color, clip.K))
    grid, T_wc = kinectfusion()(RGBDFrames(color, depth, K, clip.T_wc[:3]))
    (grid.sdf.square().sum() + grid.color.sum() + T_wc.square().sum()).backward()
    for x in (depth, color, K):
        assert x.grad.isfinite().all() and x.grad.abs().sum() > 0


@torch.no_grad()
def test_lost_frames_leave_the_volume_alone(clip):
    depth = clip.depth.clone()
    depth[3:5] = 0
    before, _ = kinectfusion()(clip[:3])
    after, T_wc = kinectfusion()(dataclasses.replace(clip[:5], depth=depth[:5]))
    assert T_wc[0, 4].equal(T_wc[0, 2])
    assert after.keys.equal(before.keys) and after.sdf[after.slots].equal(before.sdf[before.slots])


@torch.no_grad()
def test_batches_of_clips(room, clip):
    other = room.view(room.walk(6, seed=7))
    both, T_wc = kinectfusion()(RGBDFrames.stack([clip, other]))
    for b, one in enumerate((clip, other)):
        alone, poses = kinectfusion()(one)
        assert torch.allclose(poses[0], T_wc[b], atol=1e-4)
        assert both.batch == 2 and abs(len(both[b].keys) - len(alone.keys)) <= 2
