from __future__ import annotations

import json


def test_the_gradient_of_the_map_points_at_the_occluder(demo, tmp_path):
    """A quarter of the resolution; the strongest gradients lie on the thing that was held before the camera."""
    numbers = demo("map_to_pixels").main(tmp_path, size=(60, 80), side=10, frames=4)
    assert json.loads((tmp_path / "map_to_pixels.json").read_text()) == numbers
    assert (tmp_path / "map_to_pixels.png").stat().st_size > 10_000
    chance = numbers.pop("share of pixels inside")
    assert len(numbers) == 3
    for name, figures in numbers.items():
        assert figures["share of the strongest 1% inside"] > 20 * chance, name
        assert figures["mean gradient inside / outside"] > 5, name
