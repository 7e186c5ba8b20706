"""Loops where looks deceive: a corridor whose every stretch is like the last, and two places that are the same."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import camera, se3
from gradslam_ng.loops import LoopCloser
from gradslam_ng.places.verification import PlaceVerifier
from gradslam_ng.rendering import predict_surfels

LOW, HIGH = torch.tensor([[-1.4, -1.5], [1.2, 2.6]], dtype=torch.float64)  # floor, ceiling and walls: y and z, meters


def view(T_wc: Tensor, crates: Tensor, period: float, size: tuple[int, int] = (60, 80)) -> gs.RGBDFrames:
    """What cameras at T_wc (L, 4, 4) see between endless walls that are painted alike every `period` meters along x,
    with crates (C, 2, 3), corners: closed form."""
    height, width = size
    f = 0.8 * width
    K = torch.tensor([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]], dtype=torch.float64)
    rays = camera.unproject(torch.ones(height, width, 1, dtype=torch.float64), K).reshape(-1, 3)
    o, d = T_wc[:, None, :3, 3], se3.rotate(T_wc, rays)
    depth = torch.maximum((LOW - o[..., 1:]) / d[..., 1:], (HIGH - o[..., 1:]) / d[..., 1:]).amin(-1)
    for low, high in crates:
        first, second = (low - o) / d, (high - o) / d
        enter, leave = torch.minimum(first, second).amax(-1), torch.maximum(first, second).amin(-1)
        depth = torch.where((enter > 0) & (enter < leave), torch.minimum(enter, depth), depth)
    x, y, z = (o + depth[..., None] * d).unbind(-1)
    turn = 2 * math.pi * x / period
    color = torch.stack([turn + 4 * y + z, 2 * turn - 5 * y + 3 * z, 3 * turn + 2 * y - 4 * z], -1).sin() * 0.4 + 0.5
    depth = depth * (1 + 0.004 * torch.randn(depth.shape, generator=torch.Generator().manual_seed(0)))
    color, depth = color.reshape(-1, *size, 3), depth.reshape(-1, *size, 1)
    return gs.RGBDFrames(color.float(), depth.float(), K.float(), T_wc.float())


def crates(*at: float) -> Tensor:
    """Two before the wall at each x: one that stands, one on a shelf."""
    pairs = ((0.0, 0.3, 1.3, 0.5, 1.2, 2.0), (-0.5, -0.6, 1.8, -0.1, -0.1, 2.6))
    return torch.tensor([[[x + a, b, c], [x + e, f, g]] for x in at for a, b, c, e, f, g in pairs], dtype=torch.float64)


def placed(x: float, yaw: float) -> Tensor:
    """A camera (4, 4) at x, meters, turned by yaw, radians."""
    move, turn = torch.tensor([[x, 0, 0, 0, 0, 0], [0, 0, 0, 0, yaw, 0]], dtype=torch.float64)
    return se3.exp(move) @ se3.exp(turn)


def there_and_back(length: float, frames: int) -> Tensor:
    """Along x and back, looking at the wall, now a little ahead and now a little back."""
    ways = (k / (frames - 1) for k in range(frames))
    return torch.stack([placed(0.5 * length * (1 - math.cos(2 * math.pi * s)), 0.25 * math.sin(9 * s)) for s in ways])


def past_the_wall(first: float, count: int) -> gs.RGBDFrames:
    """What a camera that goes on from x = first sees of a wall which repeats, painted with edges, for features."""
    T_wc = torch.stack([placed(first + 0.13 * k, 0.25 * math.sin(0.65 * k)) for k in range(count)])
    frames = view(T_wc, crates(*(1.5 * k for k in range(-3, 9))), 1.5, (96, 128))
    return replace(frames, color=0.5 + 0.4 * torch.tanh(10 * (frames.color - 0.5)))


SCENES = {"every 1.5 m alike": (1.5, (-3.0, -1.5, 0.0, 1.5, 3.0, 4.5, 6.0, 7.5)), "two places alike": (4.5, (0.0, 4.5))}


@pytest.mark.parametrize("name", SCENES)
def test_what_is_elsewhere_looks_the_same(name):
    """The scenes are what they are meant to be: a frame is found, in shape and color, a whole period away."""
    period, at = SCENES[name]
    here, there = (placed(x, 0.1) for x in (0.0, period))
    frames = view(torch.stack([here, there]), crates(*at), period)
    system = gs.PointFusion()
    with torch.no_grad():
        before = system.step(None, frames[0]).map
        live = system.preprocess(frames[1])
        predict_before = partial(
            predict_surfels, before, K=live.surface.K, size=live.surface.size, stable_confidence=1.0
        )
        T_wc = here.float()[None]
        match = PlaceVerifier.for_loop_closure().locate(live, predict_before, T_wc, T_wc)
    assert match is not None
    assert se3.distance(match.T_wc[0].double(), here)[0] < 0.03  # and it is at `there`


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_no_false_loop_where_it_looks_the_same(name, room):
    """Walked there and back: what is closed are the true revisits on the way back, to the last."""
    period, at = SCENES[name]
    T_wc = there_and_back(4.5, 320)
    sequence, closer = room.InMemory(view(T_wc, crates(*at), period)), LoopCloser(window=50)
    result = gs.PointFusion().run(sequence, loops=closer, compile=False)
    errors = []
    for loop in closer.loops:
        i, j = (T_wc[closer.keyframes.frames[k]] for k in (loop.i, loop.j))
        meters, radians = se3.distance(se3.inverse(i) @ j, loop.T_ij)
        errors.append((float(meters), math.degrees(float(radians))))
    assert errors and all(meters < 0.05 and degrees < 3 for meters, degrees in errors), errors
    assert gs.evaluation.ate(sequence.ground_truth, result.trajectory).rmse < 0.03
