from __future__ import annotations

import torch


def test_the_map_completes_better_than_smoothness(demo, tmp_path):
    numbers = demo("depth_completion").main(tmp_path, size=(48, 64), frames=3, block=8, steps=12)
    assert 0.5 <= numbers["share of the depth removed"] < 0.8
    flat, prior, both = (numbers[name] for name in ("median of what is left", "prior alone", "map and prior"))
    assert both["median error, cm"] < 0.8 * prior["median error, cm"] < 0.8 * flat["median error, cm"]
    assert both["mean error, cm"] < prior["mean error, cm"] < flat["mean error, cm"]
    assert (tmp_path / "depth_completion.png").stat().st_size > 10_000


def test_half_of_the_blocks_are_holes(demo):
    lost = demo("depth_completion").holes((64, 96), 16, seed=3)
    assert lost.sum() * 2 == lost.numel()
    blocks = lost.unfold(0, 16, 16).unfold(1, 16, 16).flatten(2)
    assert torch.equal(blocks.all(-1), blocks.any(-1))
