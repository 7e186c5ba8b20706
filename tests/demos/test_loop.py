from __future__ import annotations

import math

import pytest
import torch

from gradslam_ng.geometry import se3


@pytest.mark.slow
def test_the_loop_is_closed(demo, room, tmp_path):
    """A turn and a fifth in the closed-form room, odometry turning too far: the error falls to a half at most.

    By 0.4 degrees a frame: from 0.7 on what is seen again lies farther away than loops are looked for, or just so."""
    loop, frames = demo("loop"), 150
    turn, out = torch.zeros(frames, 6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    turn[:, 4] = 1.2 * 2 * math.pi * torch.arange(frames) / (frames - 1)
    out[2] = 0.5
    sequence = room.InMemory(room.view(se3.exp(turn) @ se3.exp(out)))
    results, figures = loop.compare_views(sequence, math.radians(0.4), window=50)
    assert figures["with loops"]["loops"] > 0
    assert figures["with loops"]["ate_cm"] < 0.5 * figures["without loops"]["ate_cm"]
    loop.draw(tmp_path / "loop.png", sequence, results, figures)
    assert (tmp_path / "loop.png").stat().st_size > 10_000
