"""The benchmark's own measures: known answers."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

import gradslam_ng as gs
from benchmarks.robustness import errors, on_visitor
from gradslam_ng.datasets.synthetic import WithMovingObject
from gradslam_ng.evaluation import sample_mesh
from gradslam_ng.geometry import se3


def test_errors_of_poses_in_meters_and_degrees():
    truth = se3.exp(torch.tensor([[0.3, -1.0, 2.0, 0.4, 0.1, -0.7]], dtype=torch.float64)).repeat(2, 1, 1)
    off = se3.exp(torch.tensor([[0, 0, 0, 0, math.radians(10), 0]], dtype=torch.float64))
    off[0, :3, 3] = torch.tensor([0.12, 0.0, 0.16])
    meters, degrees = errors(torch.cat([truth[:1], truth[1:] @ off]), truth)
    torch.testing.assert_close(meters, torch.tensor([0.0, 0.2], dtype=torch.float64))
    torch.testing.assert_close(degrees, torch.tensor([0.0, 10.0], dtype=torch.float64), atol=1e-6, rtol=0)


def test_surfels_on_the_visitor_are_counted_and_others_are_not():
    scene = WithMovingObject("living_room", frames=1, size=(12, 16))
    anywhere = torch.rand(200_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5 - 2.5
    anywhere = anywhere[scene.room.clearance(anywhere) > 0.05]
    away = scene.moving_object(0).distance(anywhere).abs()
    on_box, floating = anywhere[away < 0.02][:30], anywhere[away > 0.3][:100]
    assert len(on_box) == 30 and len(floating) == 100
    points = torch.cat([sample_mesh(scene.mesh, spacing=0.3)[:170], floating, on_box]).float()
    n = len(points)
    map_ = gs.SurfelMap(
        points[None], torch.zeros(1, n, 3), torch.zeros(1, n, 3), torch.zeros(1, n),
        torch.cat([torch.ones(280), torch.zeros(20)])[None], *torch.zeros(2, 1, n, dtype=torch.int64),
        count=torch.tensor([n]),
    )  # fmt: skip
    system = SimpleNamespace(mapper=SimpleNamespace(stable_confidence=0.5))
    all_, lasting = on_visitor(SimpleNamespace(map=map_), scene, system)
    assert all_ == pytest.approx(10)
    assert lasting == pytest.approx(100 * 10 / 280)
