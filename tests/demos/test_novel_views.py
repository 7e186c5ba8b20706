from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gradslam_ng as gs


def test_views_that_were_held_back_are_shown(demo, tmp_path):
    embedded = Path(__file__).parents[2] / "datasets" / "living_room"
    numbers = demo("novel_views").main(str(embedded), tmp_path, frames=6, views=2)
    assert all(i % 2 for i in numbers["views"])
    for name, alike, shown in (("volume", 0.45, 0.85), ("surfels", 0.7, 0.9)):  # three noisy frames leave holes
        assert numbers[name]["psnr_db"] > 24 and numbers[name]["ssim"] > alike, numbers
        assert numbers[name]["depth_median_cm"] <= numbers[name]["depth_l1_cm"] < 1.0, numbers
        assert numbers[name]["shown"] > shown, numbers
    assert (tmp_path / "novel_views.png").stat().st_size > 10_000


def test_figures_have_known_answers(demo):
    """Gray off by a tenth is 20 dB; one pixel in four is 4 cm off, one is not shown."""
    depth = torch.full((1, 32, 32, 1), 2.0)
    frame = gs.RGBDFrames(torch.full((1, 32, 32, 3), 0.5), depth, torch.eye(3)[None])
    seen = depth.clone()
    seen[:, :16, :16] += 0.04
    seen[:, 31, 31] = 0
    numbers = demo("novel_views").figures(frame.color + 0.1, seen, frame)
    assert numbers["psnr_db"] == pytest.approx(20, abs=1e-3)
    assert numbers["depth_l1_cm"] == pytest.approx(1.0, rel=2e-3) and numbers["depth_median_cm"] == pytest.approx(0)
    assert numbers["shown"] == pytest.approx(1 - 1 / 1024)
