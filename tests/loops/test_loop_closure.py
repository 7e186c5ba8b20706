"""Loop closure, piece by piece: keyframes carry frames and surfels, layers part and join, a pose graph closes."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph.edges import Edge
from gradslam_ng.loops import Loop, LoopCloser
from gradslam_ng.loops.pose_graph import mahalanobis_distance, odometry_weight, optimize_pose_graph
from gradslam_ng.loops.submaps import concatenate, partition, reactivate, transform
from gradslam_ng.odometry import TrackingResult
from gradslam_ng.places.keyframes import Keyframes, distance, tiny_image_descriptor
from gradslam_ng.places.verification import PlaceVerifier
from gradslam_ng.rendering import predict_surfels
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
        keyframes.attach(T)
    torch.testing.assert_close(keyframes.trajectory(), torch.stack(poses))
    assert keyframes.keyframe_of(torch.tensor([0, 2, 3, 9])).tolist() == [0, 0, 1, 1]
    delta = turned(0.5)
    keyframes.T_wk[1] = delta @ keyframes.T_wk[1]
    expected = torch.stack([*poses[:3], *(delta @ T for T in poses[3:])])
    torch.testing.assert_close(keyframes.trajectory(), expected)
    metres, radians = keyframes.distances(poses[0], before=3)
    assert metres.tolist() == [0.0] and float(radians[0]) < 1e-6
    assert len(keyframes.distances(poses[0], before=0)[0]) == 0


def test_codes_know_a_place_from_another(seen):
    here, near, away, dark = (seen(turned(yaw))[0] for yaw in (0.3, 0.38, 2.0, 0.3))
    dark = replace(dark, color=0.5 * dark.color)
    code = tiny_image_descriptor(here)
    assert code.norm() == pytest.approx(1)
    similar = {
        name: float(code @ tiny_image_descriptor(live))
        for name, live in (("near", near), ("away", away), ("dark", dark))
    }
    assert similar["dark"] > 0.999
    assert similar["near"] > similar["away"] + 0.2


def test_layers_part_move_and_join(seen):
    _, map_ = seen(turned(0.0))
    n = int(map_.count[0])
    away = torch.zeros(1, map_.capacity, dtype=torch.bool)
    away[:, : n // 3] = True
    stay, gone = partition(map_, away)
    assert int(gone.count[0]) == n // 3 and int(stay.count[0]) == n - n // 3
    both = concatenate(stay, gone)
    assert int(both.count[0]) == n
    torch.testing.assert_close(both[0].points.sum(1), map_[0].points.sum(1), rtol=1e-4, atol=1e-2)
    delta = torch.stack([torch.eye(4, dtype=torch.float64), turned(0.3, 0.1)])
    owner = torch.zeros(1, gone.capacity, dtype=torch.int64)
    owner[:, 5:] = 1
    ridden = transform(gone, owner, delta)
    torch.testing.assert_close(ridden.points[:, :5], gone.points[:, :5])
    expected = se3.transform(delta[1].float(), gone.points[:, 5:])
    torch.testing.assert_close(ridden.points[:, 5:], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ridden.normals.norm(dim=-1), gone.normals.norm(dim=-1), atol=1e-5, rtol=0)


def test_surfels_seen_again_replace_newer_ones(seen):
    live, old = seen(turned(0.0))
    _, new = seen(turned(0.0, 0.002))
    old = old[0]
    active, archive = reactivate(new, old, live, torch.eye(4)[None], frame=77)
    assert int(archive.count[0]) < 0.1 * int(old.count[0])
    assert int(active.count[0]) < 1.3 * int(old.count[0])
    assert (active.updated[active.mask] == 77).float().mean() > 0.7
    elsewhere, kept = reactivate(new, old, live, turned(math.pi).float()[None], frame=77)
    assert int(kept.count[0]) == int(old.count[0]) and int(elsewhere.count[0]) == int(new.count[0])


def test_two_passes_of_one_surface_become_one_between_them(seen):
    """A wall 1 cm nearer in the newer pass: seen again, it ends up between, where confidence has it."""
    live, old = seen(turned(0.0))
    old = old[0]
    new = old.map(torch.clone)
    new.points.add_(0.01 * new.normals)
    new.confidences.mul_(3)
    before = old.map(torch.clone)
    active, _ = reactivate(new, old, live, torch.eye(4)[None], frame=77)
    back = active.compact(active.updated == 77)[0]
    # every surfel that came back lies on the old one's normal, up to 1 cm before it, most at three quarters of that
    gap = torch.cdist(back.points[0], before.points[0])
    nearest = gap.argmin(-1)
    off = ((back.points[0] - before.points[0, nearest]) * before.normals[0, nearest]).sum(-1)
    assert off.median() == pytest.approx(0.0075, abs=5e-4)
    assert off.min() > -1e-4 and off.max() < 0.0101


def weight(sigma: float) -> optim.FullWeight:
    """Of one edge, the same standard deviation in every direction."""
    return optim.FullWeight(torch.eye(6, dtype=torch.float64)[None] / sigma)


W, SURE = weight(0.002), {"coverage": 1.0, "intensity_ncc": 1.0}


def circle(n: int = 40):
    """A closer that went around a circle with a steady error, and the truth."""
    truth = torch.stack([turned(2 * math.pi * k / n) @ turned(0.0, 1.0) for k in range(n)])
    closer = LoopCloser()
    T = truth[0]
    for k in range(n):
        if k:
            step = se3.inverse(truth[k - 1]) @ truth[k] @ se3.exp(torch.tensor([2e-3, 0, 1e-3, 0, 2e-3, 0]).double())
            T = T @ step
            closer.odometry_edges.append(Edge(k - 1, k, step, weight(0.004)))
        closer.keyframes.add(10 * k, T, torch.zeros(1))
        closer.keyframes.attach(T)
    return closer, torch.stack(closer.keyframes.T_wk), truth


def seen_again(truth: torch.Tensor, i: int, j: int) -> Loop:
    return Loop(i, j, se3.inverse(truth[i]) @ truth[j], W, **SURE)


def test_a_loop_pulls_keyframes_and_map_back(seen):
    closer, before, truth = circle()
    _, map_ = seen(turned(0.0))
    last = map_[0]
    last.created.fill_(10 * (len(truth) - 1))  # all founded at the last keyframe
    closer.archive = gs.SurfelMap.empty()
    tracking = TrackingResult.from_pose(before[-1:].float(), torch.ones(1, dtype=torch.bool))
    state = State(last, before[-1:].float(), torch.eye(4)[None], 400, tracking, None, torch.ones(1) > 0)
    state = closer.deform(
        state, optimize_pose_graph(before, closer.odometry_edges, [seen_again(truth, 0, len(truth) - 1)])
    )
    after = torch.stack(closer.keyframes.T_wk)

    def error(T):
        return (T[:, :3, 3] - truth[:, :3, 3]).norm(dim=-1)

    assert error(after).max() < 0.5 * error(before).max() and error(after)[-1] < 0.02
    delta = after[-1] @ se3.inverse(before[-1])
    torch.testing.assert_close(state.T_wc[0].double(), delta @ before[-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(state.map.points[0], se3.transform(delta.float(), last.points[0]), atol=1e-4, rtol=0)


def test_one_false_loop_among_true_ones_is_outvoted():
    closer, before, truth = circle()
    loops = [seen_again(truth, k, len(truth) - 5 + k) for k in range(5)]
    clean = optimize_pose_graph(before, closer.odometry_edges, loops)
    false = Loop(3, 20, torch.eye(4, dtype=torch.float64), W, **SURE)
    assert (optimize_pose_graph(before, closer.odometry_edges, [*loops, false])[:, :3, 3] - clean[:, :3, 3]).norm(
        dim=-1
    ).max() < 0.05


def test_a_loop_is_surprising_that_odometry_cannot_have_drifted_into():
    closer, before, truth = circle()
    last = len(truth) - 1
    assert mahalanobis_distance(before, closer.odometry_edges, [], seen_again(truth, 0, last)) < 6
    shifted = Loop(0, last, se3.inverse(truth[0]) @ truth[last] @ turned(0.0, 0.5), W, **SURE)
    assert mahalanobis_distance(before, closer.odometry_edges, [], shifted) > 12
    # one loop taken, the next of the same size is more surprising: less is left to have drifted
    loops = [seen_again(truth, 0, last)]
    again = Loop(1, last - 1, se3.inverse(truth[1]) @ truth[last - 1] @ turned(0.0, 0.1), W, **SURE)
    assert mahalanobis_distance(before, closer.odometry_edges, loops, again) > mahalanobis_distance(
        before, closer.odometry_edges, [], again
    )


def test_surprise_is_the_distance_in_standard_deviations():
    """Two keyframes: odometry's covariance and the loop's add up."""
    T_wk = torch.stack([turned(0.3, 0.2), turned(0.3, 0.2) @ turned(0.0, 1.0)])
    steps = [Edge(0, 1, turned(0.0, 1.0), weight(0.03))]
    off = Loop(0, 1, turned(0.0, 1.1), weight(0.04), **SURE)
    assert mahalanobis_distance(T_wk, steps, [], off) == pytest.approx(0.1 / 0.05, rel=1e-6)


def test_odometry_along_a_wall_says_nothing():
    """A direction that the shape of what is seen does not fix is worth no information; the others keep theirs."""
    H = torch.diag(torch.tensor([0.3, 1e-7, 0.4, 0.2, 0.3, 0.1], dtype=torch.float64))
    spread = (
        torch.linalg.inv((w := odometry_weight(H, 0.2, 0.1, sigma=0.0003, drift=0.005).value[0]).mT @ w)
        .diagonal()
        .sqrt()
    )
    assert spread[1] > 0.5 and spread[[0, 2, 3, 4, 5]].max() < 0.01


def test_a_large_correction_waits_for_a_second_loop_that_agrees():
    closer, T_wc = LoopCloser(), turned(0.4, 1.0)
    far = turned(0.0, 0.8)
    assert closer.is_confirmed(turned(0.0, 0.1) @ T_wc, T_wc)
    assert not closer.is_confirmed(far @ T_wc, T_wc)
    assert not closer.is_confirmed(turned(0.0, 1.2) @ T_wc, T_wc)  # does not agree with the one before
    assert not closer.is_confirmed(far @ T_wc, T_wc)
    assert closer.is_confirmed(far @ turned(0.4, 1.2), turned(0.4, 1.2))


def locate(verifier, live, before, T_wm, T_wc):
    """The frame in a map, of which the view from T_wm is taken first, expected at T_wc (4, 4)."""
    K, size = live.surface.K, live.surface.size
    return verifier.locate(
        live,
        partial(predict_surfels, before, K=K, size=size, stable_confidence=1.0),
        T_wm.float()[None],
        T_wc.float()[None],
    )


def test_a_frame_is_found_in_an_earlier_pass(seen):
    live, _ = seen(turned(0.3, 0.05))
    _, before = seen(turned(0.3))
    verifier = PlaceVerifier.for_loop_closure(max_sigma=(1.0, 45.0))
    match = locate(verifier, live, before, turned(0.3), turned(0.33, 0.03))
    assert match is not None and match.consistency.coverage > 0.8 and match.consistency.intensity_ncc > 0.9
    metres, radians = distance(match.T_wc[0].double(), turned(0.3, 0.05))
    assert metres < 0.01 and radians < 0.01
    assert locate(verifier, live, before, turned(0.3), turned(2.0)) is None  # looks elsewhere
    dark = replace(live, color=1 - live.color)
    assert locate(verifier, dark, before, turned(0.3), turned(0.33, 0.03)) is None  # shaped alike, colored unlike


def test_each_threshold_of_a_place_holds(seen):
    """A frame and the map there, whose figures are known: each threshold just below passes, just above does not."""
    live, _ = seen(turned(0.3, 0.05))
    _, before = seen(turned(0.3))
    found = locate(PlaceVerifier.for_relocalization(), live, before, turned(0.3), turned(0.3))
    covered, inliers, ncc = found.consistency
    assert found.consistency.overlap == covered * inliers < 1
    for name, value in {
        "coverage": covered,
        "depth_inliers": inliers,
        "overlap": covered * inliers,
        "ncc": ncc,
    }.items():
        for threshold, holds in ((value - 1e-6, True), (value + 1e-6, False)):
            verifier = PlaceVerifier.for_relocalization(**{name: threshold})
            assert (locate(verifier, live, before, turned(0.3), turned(0.3)) is not None) == holds, name


def test_a_flat_wall_closes_no_loop():
    """Depth constrains three directions of six; where color adds nothing, no loop is closed."""
    K = torch.tensor([[64.0, 0, 39.5], [0, 64.0, 29.5], [0, 0, 1]])
    plain = gs.RGBDFrames(torch.full((60, 80, 3), 0.5), torch.full((60, 80, 1), 1.5), K)
    system = gs.PointFusion()
    with torch.no_grad():
        state = system.step(None, plain)
        live = system.prepare(plain)
        still = torch.eye(4, dtype=torch.float64)
        strict, loose = (
            PlaceVerifier.for_loop_closure(ncc=-1.0, **more) for more in ({}, {"max_sigma": (99.0, 9999.0)})
        )
        assert locate(strict, live, state.map, still, still) is None
        assert locate(loose, live, state.map, still, still) is not None


@pytest.fixture(scope="module")
def there_and_back(room):
    """Looking from one corner of the closed-form room to the next and back, noise in the depth."""
    count = 90
    yaw = 0.1 + 0.65 * (1 - torch.cos(torch.arange(count, dtype=torch.float64) / count * 2 * math.pi))
    tilt = se3.exp(torch.tensor([0, 0, 0, -0.4, 0, 0], dtype=torch.float64))
    clip = room.view(torch.stack([turned(float(a), 0.1 * float(a)) @ tilt for a in yaw]))
    clip.depth.mul_(1 + 0.004 * torch.randn(clip.depth.shape, generator=torch.Generator().manual_seed(0)))
    return room.InMemory(clip)


@pytest.mark.slow
def test_a_system_that_is_followed(there_and_back):
    """Looking beside tracking comes to the same as tracking that waits; loops are true, and do no harm."""
    sequence, errors, ways = there_and_back, {}, {}
    for name, loops in (("without", None), ("beside", LoopCloser(40)), ("waiting", LoopCloser(40, asynchronous=False))):
        result = gs.PointFusion().run(sequence, loops=loops)
        assert len(result.trajectory) == len(sequence) and bool(result.tracked.all())
        errors[name] = gs.evaluation.ate(sequence.ground_truth, result.trajectory).rmse
        ways[name] = result.trajectory.T_wc
    torch.testing.assert_close(ways["beside"], ways["waiting"])
    for loop in loops.loops:
        frames = [loops.keyframes.frames[k] for k in (loop.i, loop.j)]
        truth = se3.inverse(sequence.T_wc[frames[0]]) @ sequence.T_wc[frames[1]]
        assert (se3.inverse(truth) @ loop.T_ij)[:3, 3].norm() < 0.03
    assert errors["beside"] < 1.1 * errors["without"] + 0.002


def test_ctrl_c_while_a_loop_is_put_into_effect_waits_for_its_end(there_and_back):
    """Keyframes and map move together, and what was done stays."""
    done = []

    class Closer(LoopCloser):
        def process(self, system, state, live, in_map):
            if state.frames == 12:
                os.kill(os.getpid(), signal.SIGINT)
            state = super().process(system, state, live, in_map)
            done.append(state.frames)
            return state

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
    try:
        result = gs.PointFusion().run(there_and_back, loops=Closer(4))
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.interrupted and done == list(range(1, 13))
    assert len(result.trajectory) == 11 and int(result.map.count[0]) > 0
