"""The command for a GPU runs to its end on a CPU, where nothing is captured and nothing differs."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from benchmarks import gpu


@pytest.mark.slow
def test_all_of_it_on_small_images(room, monkeypatch, capsys):
    frames = room.view(room.walk(7), (24, 32))
    monkeypatch.setattr(
        gpu, "clip", lambda size, frames_: gs.RGBDFrames(frames.color, frames.depth, frames.K)[None, :frames_]
    )
    monkeypatch.setattr(gpu, "PRESETS", ("fast",))
    monkeypatch.setattr(gpu, "BACKWARD", ("implicit-gn",))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    saved = {}
    monkeypatch.setattr(gpu, "save", lambda name, figures, **_: saved.update({name: figures}))
    gpu.main(frames=7)
    figures = saved["gpu_on_cpu"]
    rows = figures["rows"]
    assert len(rows) == 4 + 3 + 1 and figures["complete"] and not figures["not_captured_because"]
    assert all(row["ms"] > 0 for row in rows.values())
    assert all(row.get("mm_from_cpu", 0) == 0 and row.get("gradient_from_cpu", 0) == 0 for row in rows.values())
    assert "stopped" not in capsys.readouterr().out
    gpu.main(frames=7, minutes=0)
    assert not saved["gpu_on_cpu"]["complete"] and len(saved["gpu_on_cpu"]["rows"]) == 3  # the first of each
