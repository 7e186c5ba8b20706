"""Loop closure, piece by piece: keyframes carry frames and surfels, layers part and join, a pose graph closes."""

from __future__ import annotations

import math

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.backend import Loop, LoopCloser
from gradslam_ng.backend.keyframes import Keyframes, thumbnail
from gradslam_ng.backend.layers import bring_back, joined, moved, split
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import Alignment
from gradslam_ng.slam.state import State
from gradslam_ng.structures import LiveFrame


def turned(yaw: float, x: float = 0.0) -> torch.Tensor:
    return se3.exp(torch.tensor([x, 0, 0, 0, yaw, 0], dtype=torch.float64))


@pytest.fixture(scope="module")
def seen(room):
    """Function (T_wc) -> the live frame and a map of what it shows."""

    def see(T_wc: torch.Tensor) -> tuple[LiveFrame, gs.SurfelMap]:
        frame = room.view(T_wc[None])
        system = gs.PointFusion()
        with torch.no_grad():
            state = system.step(None, frame[0])
            return system.prepare(frame[0]), state.map

    return see


def test_frames_ride_on_their_keyframes():
    keyframes = Keyframes()
    poses = [turned(0.1 * k, 0.2 * k) for k in range(6)]
    for k, T in enumerate(poses):
        if k in (0, 3):
            keyframes.add(k, T, torch.zeros(1))
        keyframes.hang(T)
    torch.testing.assert_close(keyframes.trajectory(), torch.stack(poses))
    assert keyframes.owner(torch.tensor([0, 2, 3, 9])).tolist() == [0, 0, 1, 1]
    delta = turned(0.5)
    keyframes.T_wk[1] = delta @ keyframes.T_wk[1]
    expected = torch.stack([*poses[:3], *(delta @ T for T in poses[3:])])
    torch.testing.assert_close(keyframes.trajectory(), expected)
    metres, radians = keyframes.apart(poses[0], before=3)
    assert metres.tolist() == [0.0] and float(radians[0]) < 1e-6
    assert len(keyframes.apart(poses[0], before=0)[0]) == 0


def test_codes_know_a_place_from_another(seen):
    here, near, away, dark = (seen(turned(yaw))[0] for yaw in (0.3, 0.38, 2.0, 0.3))
    dark = LiveFrame(dark.surface, 0.5 * dark.color, dark.sigma, dark.T_wc)
    code = thumbnail(here)
    assert code.norm() == pytest.approx(1)
    similar = {name: float(code @ thumbnail(live)) for name, live in (("near", near), ("away", away), ("dark", dark))}
    assert similar["dark"] > 0.999
    assert similar["near"] > similar["away"] + 0.2


def test_layers_part_move_and_join(seen):
    _, map_ = seen(turned(0.0))
    n = int(map_.count[0])
    away = torch.zeros(1, map_.capacity, dtype=torch.bool)
    away[:, : n // 3] = True
    stay, gone = split(map_, away)
    assert int(gone.count[0]) == n // 3 and int(stay.count[0]) == n - n // 3
    both = joined(stay, gone)
    assert int(both.count[0]) == n
    torch.testing.assert_close(both[0].points.sum(1), map_[0].points.sum(1), rtol=1e-4, atol=1e-2)
    delta = torch.stack([torch.eye(4, dtype=torch.float64), turned(0.3, 0.1)])
    owner = torch.zeros(1, gone.capacity, dtype=torch.int64)
    owner[:, 5:] = 1
    ridden = moved(gone, owner, delta)
    torch.testing.assert_close(ridden.points[:, :5], gone.points[:, :5])
    expected = se3.transform(delta[1].float(), gone.points[:, 5:])
    torch.testing.assert_close(ridden.points[:, 5:], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ridden.normals.norm(dim=-1), gone.normals.norm(dim=-1), atol=1e-5, rtol=0)


def test_surfels_seen_again_replace_newer_ones(seen):
    live, old = seen(turned(0.0))
    _, new = seen(turned(0.0, 0.002))
    old = old[0]
    active, archive = bring_back(new, old, live, torch.eye(4)[None], frame=77)
    assert int(archive.count[0]) < 0.1 * int(old.count[0])
    assert int(active.count[0]) < 1.3 * int(old.count[0])
    assert (active.updated[active.mask] == 77).float().mean() > 0.7
    elsewhere, kept = bring_back(new, old, live, turned(math.pi).float()[None], frame=77)
    assert int(kept.count[0]) == int(old.count[0]) and int(elsewhere.count[0]) == int(new.count[0])


def drifted(n: int = 40):
    """A closer that went around a circle with a steady error, and the truth."""
    truth = torch.stack([turned(2 * math.pi * k / n) @ turned(0.0, 1.0) for k in range(n)])
    closer = LoopCloser()
    T = truth[0]
    for k in range(n):
        if k:
            step = se3.inverse(truth[k - 1]) @ truth[k] @ se3.exp(torch.tensor([2e-3, 0, 1e-3, 0, 2e-3, 0]).double())
            T = T @ step
            closer.steps.append((step, 0.16, 0.16))
        closer.keyframes.add(10 * k, T, torch.zeros(1))
        closer.keyframes.hang(T)
    return closer, truth


def test_a_loop_pulls_keyframes_and_map_back(seen):
    closer, truth = drifted()
    before = torch.stack(closer.keyframes.T_wk)
    _, map_ = seen(turned(0.0))
    last = map_[0]
    last.created.fill_(10 * (len(truth) - 1))  # all founded at the last keyframe
    closer.archive = gs.SurfelMap.empty()
    T_ij = se3.inverse(truth[0]) @ truth[-1]
    W = torch.eye(6, dtype=torch.float64) / 0.002
    closer.loops.append(Loop(0, len(truth) - 1, T_ij, W, 1.0, 1.0))
    tracking = Alignment.known(before[-1:].float(), torch.ones(1, dtype=torch.bool))
    state = State(last, before[-1:].float(), torch.eye(4)[None], 400, tracking, None, torch.ones(1) > 0)
    state = closer.deform(state)
    after = torch.stack(closer.keyframes.T_wk)

    def error(T):
        return (T[:, :3, 3] - truth[:, :3, 3]).norm(dim=-1)

    assert error(after).max() < 0.5 * error(before).max() and error(after)[-1] < 0.02
    delta = after[-1] @ se3.inverse(before[-1])
    torch.testing.assert_close(state.T_wc[0].double(), delta @ before[-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(state.map.points[0], se3.transform(delta.float(), last.points[0]), atol=1e-4, rtol=0)


def test_one_false_loop_among_true_ones_is_outvoted():
    closer, truth = drifted()
    W = torch.eye(6, dtype=torch.float64) / 0.002
    for k in range(5):
        i, j = k, len(truth) - 5 + k
        closer.loops.append(Loop(i, j, se3.inverse(truth[i]) @ truth[j], W, 1.0, 1.0))
    clean = closer.optimum()
    closer.loops.append(Loop(3, 20, torch.eye(4, dtype=torch.float64), W, 1.0, 1.0))
    assert (closer.optimum()[:, :3, 3] - clean[:, :3, 3]).norm(dim=-1).max() < 0.05


@pytest.mark.slow
def test_a_system_closes_a_loop(room):
    """Looking from one corner of the closed-form room to the next and back, noise in the depth: the ends meet."""
    count = 150
    yaw = 0.1 + 0.65 * (1 - torch.cos(torch.arange(count, dtype=torch.float64) / count * 2 * math.pi))
    tilt = se3.exp(torch.tensor([0, 0, 0, -0.4, 0, 0], dtype=torch.float64))
    clip = room.view(torch.stack([turned(float(a), 0.1 * float(a)) @ tilt for a in yaw]))
    clip.depth.mul_(1 + 0.004 * torch.randn(clip.depth.shape, generator=torch.Generator().manual_seed(0)))
    sequence = room.InMemory(clip)
    errors = {}
    for name, loops in (("without", None), ("with", LoopCloser(window=40))):
        result = gs.PointFusion().run(sequence, loops=loops)
        assert len(result.trajectory) == count and bool(result.tracked.all())
        errors[name] = gs.evaluation.ate(sequence.ground_truth, result.trajectory).rmse
    assert result.loops > 0
    for loop in loops.loops:
        frames = [loops.keyframes.frames[k] for k in (loop.i, loop.j)]
        truth = se3.inverse(sequence.T_wc[frames[0]]) @ sequence.T_wc[frames[1]]
        assert (se3.inverse(truth) @ loop.T_ij)[:3, 3].norm() < 0.03
    assert errors["with"] < 1.1 * errors["without"] + 0.002
