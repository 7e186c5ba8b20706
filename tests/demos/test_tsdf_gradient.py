from __future__ import annotations

import json


def test_the_gradient_of_a_volume_points_at_the_occluder(demo, tmp_path):
    """A quarter of the resolution, mesh and ray-cast depth, poses known and tracked."""
    numbers = demo("tsdf_gradient").main(tmp_path, size=(60, 80), side=10, frames=4)
    assert json.loads((tmp_path / "tsdf_gradient.json").read_text()) == numbers
    assert (tmp_path / "tsdf_gradient.png").stat().st_size > 10_000
    chance = numbers.pop("share of pixels inside")
    assert len(numbers) == 4
    for name, figures in numbers.items():
        assert figures["share of the strongest 1% inside"] > 15 * chance, name
        assert figures["mean gradient inside / outside"] > 20, name
