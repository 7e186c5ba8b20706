from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradslam_ng.places.consistency import compare_views
from gradslam_ng.preprocessing import measure_surface


@pytest.fixture
def live(room):
    return measure_surface(room.view(room.walk(1)))


def test_a_frame_agrees_with_itself(live):
    depth = live.surface.vertices[..., 2]
    assert compare_views(live, depth, live.surface.intensity) == pytest.approx((1, 1, 1), abs=1e-6)
    assert compare_views(live, depth, None) == pytest.approx((1, 1, 1), abs=1e-6)
    assert compare_views(live, depth, 1 - live.surface.intensity).brightness == pytest.approx(-1, abs=1e-6)


def test_each_share_is_that_of_the_pixels(live):
    depth = live.surface.vertices[..., 2]
    assert bool((depth > 0).all())
    left, upper = torch.zeros_like(depth, dtype=torch.bool), torch.zeros_like(depth, dtype=torch.bool)
    left[..., : depth.shape[-1] // 2], upper[:, : depth.shape[-2] // 2] = True, True
    seen = compare_views(live, torch.where(left, depth + torch.where(upper, 0.5, 0.0), 0.0), live.surface.intensity)
    assert seen == pytest.approx((0.5, 0.5, 1), abs=1e-6)


def test_what_shows_nothing_agrees_in_nothing(live):
    depth, blind = live.surface.vertices[..., 2], torch.zeros_like(live.surface.vertices)
    assert compare_views(live, torch.zeros_like(depth), live.surface.intensity) == (0, 0, 0)
    blind = replace(live, surface=replace(live.surface, vertices=blind))
    assert compare_views(blind, depth, live.surface.intensity) == (0, 0, 0)
    assert compare_views(live, depth, torch.full_like(depth, 0.5)).brightness == 0
