"""What later frames say that makes no sense costs those frames, or those pixels, and nothing else; in every system."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import gradslam_ng as gs
from gradslam_ng.odometry import ProjectiveICP, TrackingStatus
from gradslam_ng.structures import RGBDFrames, SurfelMap

SIZE = (36, 48)
SAME = 2e-3  # meters: rays end a little elsewhere where gradients are recorded


def make(name: str, odometry: str = "gradicp", **options):
    tracker = ProjectiveICP(iterations=(2, 1), max_distance=0.3) if odometry == "gradicp" else odometry
    options |= {"voxel_size": 0.06, "truncation": 0.18} if name == "KinectFusion" else {}
    return getattr(gs, name)(tracker, factor=1, **options)


SYSTEMS = pytest.mark.parametrize("name", ["ICPOdometry", "ICPSLAM", "PointFusion", "KinectFusion"])


@pytest.fixture(scope="module")
def clip(room) -> RGBDFrames:
    return room.view(room.walk(4), SIZE)


def statuses(slam, frames: RGBDFrames) -> tuple[list[list[int]], list[Tensor], object]:
    """Of every frame status and pose, and the map."""
    state, status, poses = None, [], []
    for i in range(len(frames)):
        state = slam.step(state, frames[i])
        status.append(state.tracking.status.tolist())
        poses.append(state.T_wc.detach())
    return status, poses, state.map


def values(map_) -> list[Tensor]:
    names = ("points", "normals", "colors", "radii", "confidences") if isinstance(map_, SurfelMap) else (
        "sdf", "weight", "color", "color_weight")  # fmt: skip
    return [getattr(map_, name) for name in names]


def changed(frames: RGBDFrames, name: str, index: int, change) -> RGBDFrames:
    value = getattr(frames, name).clone()
    value[index] = change(value[index].clone())
    return replace(frames, **{name: value})


@SYSTEMS
@torch.no_grad()
@pytest.mark.parametrize("change", [
    lambda K: K * math.nan, lambda K: 0 * K, lambda K: K * math.inf, lambda K: -K, lambda K: K.mT, lambda K: K / 80,
])  # fmt: skip
def test_a_frame_without_a_camera_is_lost(clip, name, change):
    status, poses, map_ = statuses(make(name), changed(clip, "K", 2, change))
    assert status == [[0], [0], [TrackingStatus.NO_CAMERA], [0]] and torch.equal(poses[2], poses[1])
    _, _, without = statuses(make(name), clip[[0, 1]])
    _, _, lost = statuses(make(name), changed(clip[:3], "K", 2, change))
    for found, expected in zip(values(lost), values(without), strict=True):
        assert torch.equal(found[:, : expected.shape[1]], expected) and found.isfinite().all()
    assert all(x.isfinite().all() for x in values(map_))


@SYSTEMS
@torch.no_grad()
@pytest.mark.parametrize("change", [
    lambda T: 0 * T, lambda T: 2 * T, lambda T: T.mT, lambda T: T * math.nan, lambda T: T / 0,
    lambda T: T * torch.tensor([1.0, 1, -1, 1]), lambda T: T * torch.tensor([1.0, 1, 1, 1.1])[:, None],
])  # fmt: skip
def test_a_given_pose_that_is_no_motion_is_unknown(clip, name, change):
    status, poses, map_ = statuses(make(name, "ground-truth"), changed(clip, "T_wc", 2, change))
    assert status == [[0], [0], [TrackingStatus.NO_POSE], [0]] and torch.equal(poses[2], poses[1])
    _, _, expected = statuses(make(name, "ground-truth"), clip[[0, 1, 3]])
    for found, value in zip(values(map_), values(expected), strict=True):
        assert torch.allclose(found[:, : value.shape[1]], value, atol=1e-6)


@torch.no_grad()
def test_poses_that_are_no_motions_do_not_matter_to_icp(clip):
    _, poses, _ = statuses(make("PointFusion"), changed(clip, "T_wc", 2, lambda T: 0 * T))
    _, expected, _ = statuses(make("PointFusion"), clip)
    assert torch.equal(torch.stack(poses), torch.stack(expected))


@SYSTEMS
@torch.no_grad()
def test_a_later_frame_of_colors_up_to_255_is_not_fused(clip, name):
    with pytest.raises(ValueError, match="divide by 255"):
        make(name)(changed(clip, "color", 2, lambda c: 255 * c))
    status, _, map_ = statuses(make(name), changed(clip, "color", 2, lambda c: 255 * c))
    assert status[2] == [TrackingStatus.NO_DEPTH] and status[3] == [0]
    colors = values(map_)[2]
    assert colors.isfinite().all() and colors.max() <= 1


@SYSTEMS
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pixels_without_a_color_take_no_part(clip, name, value):
    """Also where there is no depth; poses and map are about those of frames with holes there, and gradients finite."""
    spots = (slice(1, None), slice(8, 11), slice(15, 22))
    color, depth, holed = clip.color.clone(), clip.depth.clone(), clip.depth.clone()
    color[spots], depth[:, 24:27, 30:38], color[:, 25, 34] = value, 0.0, value
    holed[spots], holed[:, 24:27, 30:38] = 0.0, 0.0
    inputs = [x.clone().requires_grad_() for x in (color, depth, clip.K, clip.T_wc)]
    map_, T_wc = make(name)(RGBDFrames(*inputs))
    with torch.no_grad():
        _, expected = make(name)(replace(clip, depth=holed))
    assert (T_wc - expected).abs().max() < 2e-3
    sum(x.square().sum() for x in (T_wc, *values(map_))).backward()
    for x in inputs:
        assert x.grad is None or x.grad.isfinite().all()
    assert not inputs[0].grad[spots].any() and not inputs[1].grad[spots].any()
    assert all(x.isfinite().all() for x in values(map_))


@SYSTEMS
@pytest.mark.parametrize("broken", ["color", "depth", "K", "T_wc"])
def test_elements_of_a_batch_do_not_touch_each_other(clip, name, broken):
    frames = RGBDFrames.stack([clip] * 3)
    frames = changed(frames, broken, (1, slice(1, 3)), lambda x: x * math.nan)
    inputs = {n: getattr(frames, n).clone().requires_grad_() for n in ("color", "depth", "K", "T_wc")}
    odometry = "ground-truth" if broken == "T_wc" else "gradicp"
    map_, T_wc = make(name, odometry)(RGBDFrames(**inputs))
    with torch.no_grad():
        alone, expected = make(name, odometry)(clip)
    assert torch.allclose(T_wc[[0, 2]], expected, atol=SAME) and T_wc.isfinite().all()
    loss = T_wc[[0, 2]].square().sum()
    if isinstance(map_, SurfelMap) and map_.capacity:
        assert map_.count[[0, 2]].tolist() == 2 * alone.count.tolist()
        loss = loss + map_.points[[0, 2]].square().sum()
    loss.backward()
    for x in inputs.values():
        assert x.grad is None or x.grad.isfinite().all()
    assert inputs["depth"].grad is None or not inputs["depth"].grad[1].any()


HEADS = {
    "softplus": nn.functional.softplus,
    "sigmoid": lambda raw: 4 * torch.sigmoid(raw),
    "relu": torch.relu,
    "exp": torch.exp,
}


@SYSTEMS
def test_depth_from_networks_that_say_nothing_in_places(clip, name):
    """A clip for each head; raw outputs of minus 20 to minus 100, so depths of 2e-9 to 4e-44 m, or zero."""
    z = clip.depth.clamp(max=3.9)
    raw = torch.stack([z + (-(-z).expm1()).log(), (z / 4).logit(), z, z.log()])
    nothing = torch.rand(raw.shape, generator=torch.Generator().manual_seed(0)) < 0.05
    raw = torch.where(nothing, torch.linspace(-20, -100, raw.numel()).reshape(raw.shape), raw).requires_grad_()
    depth = torch.stack([head(x) for head, x in zip(HEADS.values(), raw, strict=True)])
    color = clip.color.expand(len(HEADS), *clip.color.shape)
    map_, T_wc = make(name)(RGBDFrames(color, depth, clip.K[0]))
    sum(x.square().sum() for x in (T_wc, *values(map_))).backward()
    assert raw.grad.isfinite().all() and not raw.grad[nothing].any()
    assert raw.grad.masked_fill(nothing, 0).flatten(1).any(1).all()
    with torch.no_grad():
        _, expected = make(name)(RGBDFrames(color, depth.detach().masked_fill(nothing, 0), clip.K[0]))
    assert torch.allclose(T_wc, expected, atol=SAME)


@SYSTEMS
def test_noise_from_networks_that_say_nothing_in_holes(clip, name):
    """A scale for each head, and raw outputs far below zero where there is no depth."""
    depth = torch.where(torch.arange(SIZE[1])[:, None] % 8 < 2, 0.0, clip.depth)
    scale = nn.Parameter(torch.zeros(len(HEADS)))

    def noise(surface, color):
        raw = scale[:, None, None] + torch.where(surface.weights > 0, surface.vertices[..., 2], -60.0)
        return 0.003 * torch.stack([head(x) for head, x in zip(HEADS.values(), raw, strict=True)])

    frames = RGBDFrames.stack([RGBDFrames(clip.color, depth, clip.K)] * len(HEADS))
    slam, state = make(name, noise=noise), None
    for i in range(len(clip)):
        state = slam.step(state, frames[:, i])
        assert state.tracking.status.tolist() == [0] * len(HEADS)
    sum(x.square().sum() for x in (state.T_wc, *values(state.map))).backward()
    assert scale.grad.isfinite().all() and scale.grad.all()


@SYSTEMS
def test_a_step_without_gradients_leaves_a_differentiable_state_alone(clip, name):
    slam, depth = make(name), clip.depth.clone().requires_grad_()
    frames = RGBDFrames(clip.color, depth, clip.K)
    state = slam.step(slam.step(None, frames[0]), frames[1])
    before = [x.detach().clone() for x in values(state.map)]
    with torch.no_grad():
        ahead = slam.step(slam.step(state, frames[2]), frames[3])
        again = slam.step(slam.step(state, frames[2]), frames[3])
    assert torch.equal(ahead.T_wc, again.T_wc) and not any(x.requires_grad for x in values(ahead.map))
    for found, expected in zip(values(state.map), before, strict=True):
        assert torch.equal(found, expected)
    sum(x.square().sum() for x in (state.T_wc, *values(state.map))).backward()
    assert depth.grad.isfinite().all() and depth.grad[1].any()


@pytest.mark.parametrize("name", ["ICPSLAM", "PointFusion", "KinectFusion"])
@torch.no_grad()
def test_going_on_twice_from_a_state_is_refused_unless_it_was_copied(clip, name):
    slam = make(name)
    state = slam.step(None, clip[0])
    kept = copy.deepcopy(state)
    after = slam.step(state, clip[1])
    with pytest.raises(ValueError, match="updated its map in place"):
        slam.step(state, clip[1])
    assert torch.equal(slam.step(kept, clip[1]).T_wc, after.T_wc)
    slam.step(after, clip[2])
    with torch.enable_grad(), pytest.raises(ValueError, match="updated its map in place"):
        slam.step(after, clip[2])


@SYSTEMS
def test_frames_without_values_are_refused(clip, name):
    with pytest.raises(ValueError, match="color: expected an image with values"):
        make(name)(clip.map(lambda value: value.to("meta")))
