"""Far from the world's origin, at the coordinates of a map projection, all is as near it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.evaluation import ate
from gradslam_ng.structures import RGBDFrames

SYSTEMS = pytest.mark.parametrize(
    "system", [gs.PointFusion, gs.KinectFusion, gs.ICPSLAM, gs.ICPOdometry], ids=lambda s: s.__name__
)
SAME = 3e-5  # meters: in volumes rounding decides for a ray here and there which voxels it meets its surface between
PLACES = ([448000.0, 5411000.0, 120.0], [100_000.0, 0.0, 0.0])


def moved(frames: RGBDFrames, place: list[float]) -> RGBDFrames:
    """The same frames, seen from poses in float64 elsewhere in the world."""
    T_wc = frames.T_wc.double().clone()
    T_wc[..., :3, 3] += torch.tensor(place, dtype=torch.float64)
    return replace(frames, T_wc=T_wc)


@SYSTEMS
@pytest.mark.parametrize("odometry", ["gradicp", "ground-truth"])
@torch.no_grad()
def test_a_clip_has_the_same_poses_and_map_anywhere(clip, system, odometry):
    frames = moved(clip[:2], [0.0, 0.0, 0.0])
    map_, T_wc = system(odometry)(frames)
    assert T_wc.dtype == torch.float64 and map_.origin.eq(0).all()
    place = PLACES[0]
    there = moved(clip[:2], place)
    far, T_far = system(odometry)(there)
    off = (T_far - there.T_wc) - (T_wc - frames.T_wc)
    assert off.abs().max() < SAME and (far.origin - torch.tensor(place)).abs().max() <= 8
    if isinstance(map_, gs.VoxelGrid):
        assert abs(len(far.keys) - len(map_.keys)) <= 0.02 * len(map_.keys)
    elif int(map_.count):
        assert abs(int(far.count) - int(map_.count)) <= 0.01 * int(map_.count)
        low, high = ((m.world_points()[m.mask] - m.origin).aminmax(dim=0) for m in (map_, far))
        shift = torch.tensor(place, dtype=torch.float64) - far.origin[0]
        assert all((b - a - shift).abs().max() < 0.01 for a, b in zip(low, high, strict=True))


@pytest.mark.parametrize("system", [gs.PointFusion, gs.KinectFusion])
def test_a_run_has_the_same_error_anywhere(clip, room, system, quick):
    errors = []
    for place in ([0.0, 0.0, 0.0], *PLACES):
        there = moved(clip[:4], place)
        sequence = room.InMemory(there)
        result = quick(system).run(sequence)
        assert result.tracked.all() and result.map.origin.dtype == torch.float64
        errors.append(ate(sequence.ground_truth, result.trajectory, align="none").rmse)
    assert max(errors) - min(errors) < SAME and max(errors) < 5e-3


def test_the_origin_is_that_of_the_first_pose_that_is_known(clip):
    """Frames before it are lost, and enter no map."""
    there = moved(clip[:4], PLACES[0])
    T_wc = there.T_wc.clone()
    T_wc[:2] = math.nan
    map_, poses = gs.PointFusion("ground-truth")(replace(there, T_wc=T_wc))
    assert (map_.origin[0] - there.T_wc[2, :3, 3]).abs().max() <= 8
    assert (poses[0, 2:] - there.T_wc[2:]).abs().max() < 1e-6 and poses.isfinite().all()


def test_gradients_of_the_first_pose_are_those_near_the_origin(clip):
    """And those of differences, which a step of a tenth of a millimeter has in float64 alone."""
    gradients = []
    for place in ([0.0, 0.0, 0.0], PLACES[0]):
        there = moved(clip[:2].to(dtype=torch.float64), place)
        T_first = there.T_wc[:1].clone().requires_grad_()
        target = there.T_wc[1, :3, 3] + 0.1

        def loss(T_first, there=there, target=target):
            frames = replace(there, T_wc=torch.cat([T_first, there.T_wc[1:]]))
            return (gs.PointFusion()(frames)[1][0, 1, :3, 3] - target).square().sum()

        (gradient,) = torch.autograd.grad(loss(T_first), T_first)
        gradients.append(gradient[0, :3, 3])
        step = torch.zeros_like(T_first)
        step[0, 0, 3] = 1e-4
        with torch.no_grad():
            difference = (loss(T_first + step) - loss(T_first - step)) / 2e-4
        assert abs(float(difference - gradient[0, 0, 3])) < 2e-3
    assert torch.allclose(*gradients, atol=1e-6)


def test_images_of_more_pixels_than_float32_counts_are_refused():
    image = torch.zeros(1).expand(4097, 4096, 1)
    frame = RGBDFrames(image.expand(-1, -1, 3), image, torch.tensor([[4e3, 0, 2e3], [0, 4e3, 2e3], [0, 0, 1]]))
    with pytest.raises(ValueError, match="images of 4096x4097 shrunk by 1: expected at most 16777216 pixels"):
        gs.PointFusion(factor=1).preprocess(frame)
