from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from gradslam_ng.geometry import depth_noise, se3
from gradslam_ng.mapping import PointFuser
from gradslam_ng.mapping.frame_surfels import surfels_from_frame
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import LiveFrame, RGBDFrames, SurfelMap

MODES = pytest.mark.parametrize("grad", [False, True], ids=["in place", "functional"])
FOREVER = {"max_unseen_frames": 10**6}


def empty(batch: int = 1) -> SurfelMap:
    return SurfelMap.empty(batch, dtype=torch.float64)


def step(fuser: PointFuser, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> SurfelMap:
    """A frame fused, and the map pruned when it is time to, as a system does."""
    map_ = fuser(map_, live, T_wc, ok, frame)
    return map_ if frame % fuser.prune_every else fuser.prune(map_, ok, frame)


def fused(fuser: PointFuser, *frames: LiveFrame, T_wc: Tensor, ok: Tensor, map_: SurfelMap | None = None) -> SurfelMap:
    for number, live in enumerate(frames):
        map_ = step(fuser, empty() if map_ is None else map_, live, T_wc, ok, number)
    return map_


@MODES
def test_the_first_frame_founds_one_surfel_a_reading(plane, eye, yes, grad):
    z = torch.full((12, 16), 1.5)
    z[3:5] = 0
    live = plane(z)
    with torch.set_grad_enabled(grad):
        map_ = fused(PointFuser(), live, T_wc=eye, ok=yes)
    assert map_.count.tolist() == [10 * 16]
    assert torch.allclose(map_[0].points[0], live.surface.vertices[live.surface.weights > 0])
    assert torch.allclose(map_[0].normals[0], torch.tensor([0.0, 0, -1], dtype=torch.float64))
    assert (map_[0].colors == 0.5).all() and (map_[0].created == 0).all()
    assert (map_[0].confidences > 0).all() and (map_[0].confidences <= 1).all()


@MODES
def test_the_same_frame_again_does_not_grow_the_map_and_raises_confidence(room, grad):
    T = room.walk(1)
    live = measure_surface(room.view(T, dtype=torch.float64))
    fuser, ok = PointFuser(), torch.tensor([True])
    with torch.set_grad_enabled(grad):
        once = fused(fuser, live, T_wc=T, ok=ok)
        before = {name: value.clone() for name, value in once[0].attributes().items()}
        twice = step(fuser, once, live, T, ok, 1)[0]
    assert twice.count.tolist() == [before["points"].shape[1]]
    assert torch.allclose(twice.confidences, 2 * before["confidences"])
    for name in ("points", "normals", "colors", "radii", "created"):
        assert torch.allclose(getattr(twice, name), before[name]), name
    assert (twice.updated == 1).all()


@MODES
def test_averages_are_those_of_the_paper(plane, eye, yes, grad):
    """Keller et al. 2013, equations 1 to 4: v = (c v + a v') / (c + a), and so the rest; normals of unit length."""
    first, second = plane(1.5, color=0.2), plane(1.51, color=0.8)
    tilted = torch.nn.functional.normalize(torch.tensor([0.3, 0.0, -1.0], dtype=torch.float64), dim=0)
    second.surface.normals[:] = tilted
    a = surfels_from_frame(first, eye)["confidences"]
    b = surfels_from_frame(second, eye)["confidences"]
    with torch.set_grad_enabled(grad):
        map_ = fused(PointFuser(), first, second, T_wc=eye, ok=yes)[0]
    assert map_.count.tolist() == [12 * 16]
    assert torch.allclose(map_.confidences, a + b)
    share = (b / (a + b))[..., None]
    points = [live.surface.vertices.flatten(1, 2) for live in (first, second)]
    assert torch.allclose(map_.points, (1 - share) * points[0] + share * points[1])
    assert torch.allclose(map_.colors, ((1 - share) * 0.2 + share * 0.8).expand_as(map_.colors))
    normals = (1 - share) * first.surface.normals.flatten(1, 2) + share * tilted
    assert torch.allclose(map_.normals, normals / normals.norm(dim=-1, keepdim=True))


def test_a_reading_counts_less_towards_the_rim_and_with_its_noise(plane, eye):
    confidence = surfels_from_frame(plane(1.0), eye)["confidences"].unflatten(-1, (12, 16))[0]
    gamma_square = (5.5**2 + 7.5**2) / (0.25 * (12**2 + 16**2))
    assert math.isclose(confidence[0, 0], math.exp(-gamma_square / (2 * 0.6**2)) * 0.001884 / 0.002, rel_tol=1e-6)
    assert confidence.argmax() in (5 * 16 + 7, 5 * 16 + 8, 6 * 16 + 7, 6 * 16 + 8)
    quieter, noisier = (surfels_from_frame(plane(1.0, sigma=s), eye)["confidences"] for s in (0.001, 0.004))
    assert torch.allclose(noisier, quieter * 0.001884 / 0.004, rtol=1e-6)


@pytest.mark.parametrize(("step", "merged"), [(0.014, True), (0.018, False), (-0.014, True), (-0.018, False)])
def test_the_depth_gate(plane, eye, yes, step, merged):
    """1 cm and three standard deviations of 2 mm: 1.6 cm."""
    map_ = fused(PointFuser(**FOREVER), plane(1.5), plane(1.5 + step), T_wc=eye, ok=yes)
    assert map_.count.item() == (1 if merged else 2) * 12 * 16


@pytest.mark.parametrize(("degrees", "merged"), [(40, True), (50, False)])
def test_the_angle_gate(plane, eye, yes, degrees, merged):
    second = plane(1.5)
    angle = math.radians(degrees)
    second.surface.normals[:] = torch.tensor([math.sin(angle), 0, -math.cos(angle)], dtype=torch.float64)
    map_ = fused(PointFuser(**FOREVER), plane(1.5), second, T_wc=eye, ok=yes)
    assert (map_.count.item() == 12 * 16) == merged


def test_a_surface_behind_an_edge_is_not_merged_with_the_one_before_it(plane, eye, yes):
    near_left = torch.where(torch.arange(16) < 8, 1.0, 2.0).expand(12, 16)
    near_right = torch.where(torch.arange(16) < 8, 2.0, 1.0).expand(12, 16)
    map_ = fused(PointFuser(**FOREVER), plane(near_left), plane(near_right), T_wc=eye, ok=yes)[0]
    z = map_.points[0, :, 2]
    assert torch.equal(z.unique(), torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert (z == 1).sum() == (z == 2).sum() == 12 * 16  # both halves of both walls


def test_a_camera_half_a_pixel_away_founds_nothing_new(plane, eye, yes):
    """Every reading lies within a pixel of a surfel of its surface."""
    fuser = PointFuser(**FOREVER)
    map_ = fused(fuser, plane(1.5), T_wc=eye, ok=yes)
    moved = eye.clone()
    moved[0, 0, 3] = 0.5 * 1.5 / 15  # half a pixel to the right, in meters at 1.5 m
    map_ = step(fuser, map_, plane(1.5), moved, yes, 1)
    assert map_.count.item() == 12 * 16
    moved[0, 0, 3] = 3 * 1.5 / 15  # three pixels: what was seen is known, three columns are new
    map_ = step(fuser, map_, plane(1.5), moved, yes, 2)
    assert map_.count.item() in (12 * (16 + 2), 12 * (16 + 3))


@MODES
def test_what_stays_unstable_is_removed(plane, eye, yes, grad):
    """A thing seen once in front of the wall is gone after `max_unseen_frames` frames; the wall, seen often, stays."""
    fuser = PointFuser(max_unseen_frames=4, prune_every=1, stable_confidence=0.8)
    thing = torch.where(torch.arange(16) < 3, 1.46, 1.5).expand(12, 16)
    with torch.set_grad_enabled(grad):
        map_ = fused(fuser, *[plane(1.5)] * 4, plane(thing), T_wc=eye, ok=yes)
        assert map_.count.item() == 12 * (16 + 3)
        nothing = plane(0.0)
        for number in range(5, 8):
            map_ = step(fuser, map_, nothing, eye, yes, number)
            assert map_.count.item() == 12 * (16 + 3)
        map_ = step(fuser, map_, nothing, eye, yes, 8)
    assert map_.count.item() == 12 * 16
    assert (map_[0].points[..., 2] == 1.5).all()


@MODES
@pytest.mark.parametrize(("frames", "stays"), [(4, False), (8, True)])
def test_what_is_seen_for_long_stays_however_faint(plane, eye, yes, grad, frames, stays):
    fuser = PointFuser(max_unseen_frames=3, prune_every=1, min_track_length=5, stable_confidence=100.0)
    with torch.set_grad_enabled(grad):
        map_ = fused(fuser, *[plane(1.5)] * frames, T_wc=eye, ok=yes)
        assert (map_[0].confidences < fuser.stable_confidence).all()
        for number in range(frames, frames + 5):
            map_ = step(fuser, map_, plane(0.0), eye, yes, number)
    assert (map_.count.item() > 0) == stays


@MODES
@pytest.mark.parametrize("frames, stays", [(8, False), (40, True)], ids=["walks by", "comes to stay"])
def test_what_comes_before_a_known_wall_counts_once_it_has_stood_for_a_second(plane, eye, yes, grad, frames, stays):
    wall, z = plane(1.2), torch.full((12, 16), 1.2)
    z[3:9, 5:11] = 0.8
    visitor, fuser = plane(z), PointFuser()
    with torch.set_grad_enabled(grad):
        map_ = fused(fuser, *[wall] * 10, T_wc=eye, ok=yes)
        for number in range(10, 10 + frames):
            map_ = step(fuser, map_, visitor, eye, yes, number)
        near = map_.mask & (map_.points[..., 2] < 1.0)
        assert near.sum() == 36
        weight = map_.confidences[near] / (map_.confidences[near] + fuser.stable_confidence)
        assert (weight > 0.5).all() if stays else (weight < 0.1).all()
        for number in range(10 + frames, 40 + frames):
            map_ = step(fuser, map_, wall, eye, yes, number)
        assert not (map_.mask & (map_.points[..., 2] < 1.0)).any()


def test_what_has_come_close_weighs_less_in_tracking_than_the_wall_behind_it(plane, eye, yes):
    """However much more precise its readings are: weight of the model times information, by which pairs are weighed."""
    near, far, when = 0.5, 5.0, 20
    sigma = depth_noise.axial_sigma(torch.tensor([near, far], dtype=torch.float64))
    noise = torch.full((12, 16), sigma[1], dtype=torch.float64)
    z = torch.full((12, 16), far)
    z[3:9, 5:11], noise[3:9, 5:11] = near, sigma[0]
    visitor = dataclasses.replace(plane(z), sigma=noise[None])
    fuser, wall = PointFuser(), plane(far, sigma=float(sigma[1]))
    map_ = fused(fuser, *[wall] * when, T_wc=eye, ok=yes)
    for number in range(when, when + 29):
        map_ = step(fuser, map_, visitor, eye, yes, number)
    trust = map_.confidences / (map_.confidences + fuser.stable_confidence)
    close = map_.points[..., 2] < 1.0
    assert (map_.mask & close).sum() == 36
    assert trust[map_.mask & close].max() / sigma[0] ** 2 < trust[map_.mask & ~close].max() / sigma[1] ** 2


@MODES
def test_what_floats_in_free_space_is_removed(plane, eye, yes, grad):
    """A wall at 1 m, stable and long seen; then the camera sees through it to 2 m."""
    fuser = PointFuser(max_unseen_frames=3, prune_every=1)
    with torch.set_grad_enabled(grad):
        map_ = fused(fuser, *[plane(1.0)] * 7, T_wc=eye, ok=yes)
        peak = map_[0].confidences.max()
        assert map_.count.item() == 12 * 16 and peak > 2
        map_ = step(fuser, map_, plane(2.0), eye, yes, 7)
        wall = map_[0].points[0, :, 2] == 1.0
        assert torch.allclose(map_[0].confidences[0, wall].max(), 0.5 * peak)  # one look is not enough
        for number in range(8, 18):
            map_ = step(fuser, map_, plane(2.0), eye, yes, number)
    assert map_.count.item() == 12 * 16 and (map_[0].points[..., 2] == 2.0).all()


def test_holes_and_what_is_hidden_violate_nothing(plane, eye, yes):
    fuser = PointFuser(**FOREVER)
    map_ = fused(fuser, *[plane(2.0)] * 3, T_wc=eye, ok=yes)
    before = map_[0].confidences.clone()
    for z in (0.0, 1.0):  # nothing read; something before the wall
        map_ = step(fuser, map_, plane(z), eye, yes, 3)
    old = map_[0].points[0, :, 2] == 2.0
    assert torch.equal(map_[0].confidences[0, old], before[0])


@MODES
def test_a_lost_frame_leaves_its_map_alone_and_the_others_not(plane, eye, grad):
    fuser = PointFuser(max_unseen_frames=1, prune_every=1, stable_confidence=100.0)
    T_wc, both, one = eye.expand(2, 4, 4), torch.tensor([True, True]), torch.tensor([True, False])
    with torch.set_grad_enabled(grad):
        map_ = step(fuser, empty(2), plane(1.5, batch=2), T_wc, both, 0)
        before = {name: value.clone() for name, value in map_[1].attributes().items()}
        for number in range(1, 4):
            map_ = step(fuser, map_, plane(1.0, batch=2), T_wc, one, number)
    for name, value in map_[1].attributes().items():
        assert torch.equal(value, before[name]), name
    assert (map_[0].points[..., 2] == 1.0).all()


def test_the_map_does_not_grow_while_the_camera_looks_at_the_same_thing(room):
    """Thirty views from one place, with the sensor's noise and holes."""
    clean = room.view(room.walk(1))
    generator = torch.Generator().manual_seed(0)
    fuser, T, ok = PointFuser(), room.walk(1).float(), torch.tensor([True])
    map_, counts = SurfelMap.empty(), []
    with torch.no_grad():
        for number in range(30):
            noise = depth_noise.axial_sigma(clean.depth) * torch.randn(clean.depth.shape, generator=generator)
            holes = torch.rand(clean.depth.shape, generator=generator) < 0.02
            depth = torch.where(holes, 0.0, clean.depth + noise)
            map_ = step(fuser, map_, measure_surface(RGBDFrames(clean.color, depth, clean.K)), T, ok, number)
            counts.append(map_.count.item())
    assert counts[0] < 60 * 80 and counts[-1] < 1.05 * counts[0]
    assert (map_[0].confidences >= fuser.stable_confidence).float().mean() > 0.95


def test_averaging_lowers_the_noise(plane, eye, yes):
    generator = torch.Generator().manual_seed(0)
    frames = [plane(1.5 + 0.002 * torch.randn(12, 16, generator=generator)) for _ in range(16)]
    map_ = fused(PointFuser(), *frames, T_wc=eye, ok=yes)[0]
    assert map_.count.item() == 12 * 16
    assert (map_.points[0, :, 2] - 1.5).std() < 0.002 / 4 * 1.2


@pytest.mark.parametrize(
    "setting",
    ["sigma", "depth_gate", "max_angle", "stable_confidence", "max_unseen_frames", "min_track_length", "prune_every"],
)
def test_settings_that_are_not_positive_are_refused(setting):
    with pytest.raises(ValueError, match=f"{setting}: expected more than 0"):
        PointFuser(**{setting: 0})


def test_anywhere_in_the_world_and_in_float32(room):
    T = se3.exp(torch.tensor([[4.0, -3, 2, 2.5, 0.4, -1]])) @ room.walk(1).float()
    live = measure_surface(room.view(room.walk(1)))
    fuser, ok = PointFuser(), torch.tensor([True])
    map_ = fused(fuser, live, T_wc=T, ok=ok, map_=SurfelMap.empty())
    first = map_.count.item()
    assert step(fuser, map_, live, T, ok, 1).count.item() == first


@pytest.mark.parametrize(
    "setting", [{"max_angle": 400.0}, {"sigma": 0.0}, {"prune_every": 0}, {"depth_gate": math.nan}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}: expected"):
        PointFuser(**setting)
