"""The sequence that comes with the repository is the one that its command makes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradslam_ng import datasets
from gradslam_ng.datasets.synthetic import Synthetic

FOLDER = Path(__file__).resolve().parents[2] / "datasets" / "living_room"


def test_small_complete_and_read_by_its_layout():
    sequence = datasets.load(FOLDER)
    assert sequence.layout == "tum"
    assert len(sequence) == 50
    assert sequence.size == (240, 320)
    assert sequence.T_wc.isfinite().all()
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 4_000_000


@pytest.mark.parametrize("index", [0, 49])
def test_frames_are_what_is_rendered_today(index):
    """But for JPEG and the depth unit. A pixel at an edge may fall on the other side on another machine."""
    stored = datasets.load(FOLDER)[index]
    rendered = Synthetic("living_room", frames=50, size=(240, 320), noise="kinect")[index]
    torch.testing.assert_close(stored.K, rendered.K)
    torch.testing.assert_close(stored.T_wc, rendered.T_wc, rtol=0, atol=1e-6)
    assert ((stored.depth - rendered.depth).abs() <= 1.01e-4).float().mean() > 0.995
    assert (stored.color - rendered.color).abs().mean() < 0.02
