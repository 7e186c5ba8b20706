"""The building that a camera is carried through: what Open3D's rays meet is what the renderer of scenes draws."""

from __future__ import annotations

import pytest
import torch

from benchmarks import building, building_walk
from gradslam_ng.datasets.synthetic.render import render
from gradslam_ng.datasets.synthetic.scene import Room

SIZE = (30, 40)


@pytest.fixture
def walk(monkeypatch) -> building_walk.Building:
    """Frames without noise."""
    pytest.importorskip("open3d")
    monkeypatch.setattr(building_walk, "kinect", lambda color, depth, normal, K, seed: (color, depth, normal))
    return building_walk.Building(frames=200, meters=60, laps=1, size=SIZE)


@pytest.mark.parametrize("index", [0, 60, 100, 150])  # 100: in the shaft
def test_frames_are_those_of_the_renderer(walk, index):
    color, depth, normal = walk.read(index)
    scene = Room("building", walk.solids, (), shaded=False)
    expected = render(scene, walk.T_wc[index], walk.K, SIZE, antialias=False)
    same = (depth - expected.depth).abs()[..., 0] < 1e-3  # but for a pixel at an edge now and then
    assert same.float().mean() > 0.99
    assert torch.allclose(color[same], expected.color[same].float(), atol=0.02)
    assert torch.allclose(normal[same], expected.normal[same].float(), atol=1e-4)


def test_the_walk_returns_after_a_lap_and_ends_upstairs(walk):
    twice = building_walk.Building(frames=201, meters=63, laps=2, size=SIZE)
    around = 4 * twice.side
    x, y, _ = twice.at(0.0)
    assert twice.at(around)[:2] == pytest.approx((x, y))
    heights = twice.T_wc[:, 2, 3]
    assert heights[0] == pytest.approx(1.4) and heights[-1] == pytest.approx(1.4 + building_walk.STOREY, abs=0.03)
    steps = (twice.T_wc[1:, :3, 3] - twice.T_wc[:-1, :3, 3]).norm(dim=-1)
    assert steps.max() < 1.5 * 63 / 200


def test_growth_is_the_slope_in_logarithms():
    rows = [{"frames": n, "ms": 2.0 * n**0.5} for n in (1000, 2000, 4000, 8000)]
    assert building.growth(rows, "ms") == pytest.approx(0.5)
    assert building.growth(rows[:2], "ms") is None
