from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradslam_ng.places.consistency import compare_views, coverage
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import LiveFrame, SurfaceView


def showing(live: LiveFrame, depth: torch.Tensor, intensity: torch.Tensor | None) -> SurfaceView:
    """What a map shows of these images (1, H, W)."""
    vertices = torch.cat([live.surface.vertices[..., :2], depth[..., None]], -1)
    return replace(live.surface, vertices=vertices, weights=(depth > 0).to(depth.dtype), intensity=intensity)


@pytest.fixture
def live(room):
    return measure_surface(room.view(room.walk(1)))


def test_a_frame_agrees_with_itself(live):
    depth, intensity = live.surface.vertices[..., 2], live.surface.intensity
    assert compare_views(live, showing(live, depth, intensity)) == pytest.approx((1, 1, 1), abs=1e-6)
    assert compare_views(live, showing(live, depth, None)) == pytest.approx((1, 1, 1), abs=1e-6)
    assert compare_views(live, showing(live, depth, 1 - intensity)).intensity_ncc == pytest.approx(-1, abs=1e-6)


def test_each_share_is_that_of_the_pixels(live):
    depth = live.surface.vertices[..., 2]
    assert bool((depth > 0).all())
    left, upper = torch.zeros_like(depth, dtype=torch.bool), torch.zeros_like(depth, dtype=torch.bool)
    left[..., : depth.shape[-1] // 2], upper[:, : depth.shape[-2] // 2] = True, True
    model = showing(live, torch.where(left, depth + torch.where(upper, 0.5, 0.0), 0.0), live.surface.intensity)
    seen = compare_views(live, model)
    assert seen == pytest.approx((0.5, 0.5, 1), abs=1e-6) and seen.overlap == pytest.approx(0.25, abs=1e-6)
    assert float(coverage(live, model)) == seen.coverage


def test_what_shows_nothing_agrees_in_nothing(live):
    depth, intensity = live.surface.vertices[..., 2], live.surface.intensity
    assert compare_views(live, showing(live, torch.zeros_like(depth), intensity)) == (0, 0, 0)
    blind = replace(live, surface=replace(live.surface, vertices=torch.zeros_like(live.surface.vertices)))
    assert compare_views(blind, showing(live, depth, intensity)) == (0, 0, 0)
    assert compare_views(live, showing(live, depth, torch.full_like(depth, 0.5))).intensity_ncc == 0
