"""Transforms of torch.func, forward mode and second derivatives through whole systems."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.odometry import ProjectiveICP

D = torch.float64
SYSTEMS = {
    "ICPOdometry": lambda mode: gs.ICPOdometry(icp(mode), factor=1),
    "ICPSLAM": lambda mode: gs.ICPSLAM(icp(mode), factor=1),
    "PointFusion": lambda mode: gs.PointFusion(icp(mode), factor=1),
    "PointFusion, known poses": lambda mode: gs.PointFusion("ground-truth", factor=1),
    "KinectFusion, known poses": lambda mode: gs.KinectFusion("ground-truth", factor=1, voxel_size=0.1, truncation=0.3),
}


def icp(mode):
    rest = {} if mode in ("unroll", "truncated") else {"photometric": False}
    return ProjectiveICP(optim.LevenbergMarquardt(), backward=mode, backward_iterations=1, iterations=(1, 2), **rest)


@pytest.fixture(scope="module")
def clip(room):
    return gs.RGBDFrames.stack([room.view(room.walk(7)[::6], (24, 32), D)])


def loss_of(system, clip, mode="unroll", checkpoint=False):
    """A loss of map and poses as a function of the focal length ()."""

    def loss(f):
        scale = torch.stack([f, f.new_ones(()), f.new_ones(())])
        map_, T_wc = SYSTEMS[system](mode)(dataclasses.replace(clip, K=clip.K * scale[:, None]), checkpoint=checkpoint)
        value = map_.sdf if isinstance(map_, gs.structures.VoxelGrid) else map_.points
        return 1e-3 * value.square().sum() + T_wc[..., :3, 3].sum() + T_wc.square().sum()

    return loss


ONE = torch.ones((), dtype=D)


def slope(loss, at):
    at = at.detach().requires_grad_()
    return torch.autograd.grad(loss(at), at)[0]


@pytest.mark.parametrize("system", SYSTEMS)
def test_transforms_give_the_usual_gradient(clip, system):
    loss = loss_of(system, clip)
    expected = slope(loss, ONE)
    found = {
        "grad": torch.func.grad(loss)(ONE),
        "jvp": torch.func.jvp(loss, (ONE,), (ONE,))[1],
        "checkpoint": torch.func.grad(loss_of(system, clip, checkpoint=True))(ONE),
    }
    for transform, value in found.items():
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12, msg=f"{transform}: {value} {expected}")


@pytest.mark.parametrize("system", ["ICPOdometry", "PointFusion, known poses"])
def test_second_derivatives(clip, system, monkeypatch):
    # with brightness, central differences of this clip cross borders of pixels
    strategy, steps = optim.LevenbergMarquardt(), {"backward_iterations": 1, "iterations": (1, 2)}
    shape = lambda mode: ProjectiveICP(strategy, backward=mode, photometric=False, **steps)  # noqa: E731
    monkeypatch.setitem(SYSTEMS, "ICPOdometry", lambda mode: gs.ICPOdometry(shape(mode), factor=1))
    h = 1e-6
    for checkpoint in (False, True):
        loss = loss_of(system, clip, "unroll", checkpoint)
        expected = (slope(loss, ONE + h) - slope(loss, ONE - h)) / (2 * h)
        found = torch.autograd.functional.hessian(loss, ONE)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["truncated", "implicit-gn", "direct"])
def test_second_derivatives_that_would_be_wrong_are_refused(clip, mode):
    for checkpoint in (False, True):
        with pytest.raises(RuntimeError, match=r"has no second derivatives: use (backward=)?'unroll'"):
            torch.autograd.functional.hessian(loss_of("ICPOdometry", clip, mode, checkpoint), ONE)
    loss = loss_of("ICPOdometry", clip, mode)
    if mode == "truncated":
        torch.testing.assert_close(torch.func.grad(loss)(ONE), slope(loss, ONE), rtol=1e-9, atol=1e-12)
        with pytest.raises(RuntimeError, match="has no second derivatives: use 'unroll'"):
            torch.func.hessian(loss)(ONE)
        return
    with pytest.raises(RuntimeError, match=r"is not for transforms of torch\.func: use 'unroll'"):
        torch.func.grad(loss)(ONE)


def test_vmap_over_clips_says_that_there_is_a_batch(clip):
    depth = torch.stack([clip.depth, clip.depth])
    with pytest.raises(RuntimeError, match=r"vmap: a system takes a batch of sequences"):
        torch.vmap(lambda x: gs.PointFusion(factor=1)(dataclasses.replace(clip, depth=x))[1])(depth)
