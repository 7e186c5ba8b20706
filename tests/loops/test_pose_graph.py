"""Pose graphs of keyframes: loops close, false ones are outvoted, unlikely ones stand out; the map moves along."""

from __future__ import annotations

import math

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph.edges import Edge
from gradslam_ng.loops import Loop, LoopCloser
from gradslam_ng.loops.pose_graph import mahalanobis_distance, odometry_weight, optimize_pose_graph
from gradslam_ng.odometry import TrackingResult
from gradslam_ng.slam.state import State


def turned(yaw: float, x: float = 0.0) -> torch.Tensor:
    return se3.exp(torch.tensor([x, 0, 0, 0, yaw, 0], dtype=torch.float64))


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
    live, _ = seen(turned(0.0))
    T_wc, still, yes = before[-1:].float(), torch.eye(4)[None], torch.ones(1, dtype=torch.bool)
    state = State(
        last,
        T_wc,
        still,
        400,
        torch.tensor(400),
        tracking,
        live,
        live.surface,
        yes,
        torch.zeros(1, 3).double(),
        torch.full((2,), torch.inf),
        torch.full((1, 4, 4), torch.nan).double(),
    )
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


def test_a_loop_is_unlikely_that_odometry_cannot_have_drifted_into():
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


def test_mahalanobis_distance_is_the_distance_in_standard_deviations():
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
