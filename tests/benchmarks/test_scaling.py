"""What the measurements of time are made on."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from benchmarks.scaling import APART, grown, views
from benchmarks.throughput import _factor, shrunk
from gradslam_ng.geometry import camera


@pytest.fixture(scope="module")
def frames() -> gs.RGBDFrames:
    generator = torch.Generator().manual_seed(0)
    color, depth = torch.rand(2, 480, 640, 4, generator=generator).split([3, 1], -1)
    K = torch.tensor([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
    return gs.RGBDFrames(color, 2 + 0.001 * depth, K)


@pytest.mark.parametrize("width", [160, 320, 640, 1280])
def test_frames_at_another_size_see_the_same(frames, width):
    view = views(width, 2, frames)[1]
    assert view.color.shape == (2, width * 3 // 4, width, 3)
    assert torch.equal(view.depth[0], view.depth[1])
    corner = torch.tensor([0.4, 0.3, 2.0])  # what one camera sees at three quarters of the width, all do
    u, _ = camera.project(corner, view.K[0])
    reference, _ = camera.project(corner, frames.K[0])
    torch.testing.assert_close((u + 0.5) / width, (reference + 0.5) / 640)
    assert view.color.mean() == pytest.approx(float(frames.color[1].mean()), abs=0.01)


def test_only_whole_factors_shrink():
    assert _factor((480, 640), "320x240") == 2
    assert _factor((480, 640), "640x480") == 1
    for wanted in ("300x200", "213x160", "1280x960", "small"):
        with pytest.raises(ValueError, match="640x480 divided by a whole number"):
            _factor((480, 640), wanted)


def test_a_frame_that_is_not_shrunk_stays(frames):
    frame = frames[0]
    assert shrunk(frame, 1) is frame
    assert shrunk(frame, 4).size == (120, 160)


@pytest.mark.parametrize("surfels", [40, 100, 950])
def test_a_large_map_is_copies_of_a_small_one(surfels):
    points = torch.rand(1, 100, 3)
    zeros = torch.zeros(1, 100)
    stamps = torch.arange(100)[None]
    room = gs.SurfelMap(points, points, points, zeros, zeros + 3, stamps, stamps, count=torch.tensor([100]))
    large = grown(room, surfels)
    assert int(large.count[0]) == surfels
    assert large.capacity > surfels  # there is room to grow
    found, stamp = large.points[0, :surfels], large.created[0, :surfels]
    shift = found - points[0, stamp]
    torch.testing.assert_close(shift, APART * (shift / APART).round(), atol=1e-4, rtol=0)
    assert len(found.unique(dim=0)) == surfels
