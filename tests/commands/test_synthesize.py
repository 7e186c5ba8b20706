"""`gradslam-ng synthesize`."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng import datasets
from gradslam_ng.commands.synthesize import synthesize
from gradslam_ng.datasets.synthetic import Synthetic
from gradslam_ng.io.ply import read_ply


def test_writes_a_sequence_that_loads(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gradslam_ng.commands.console.PRINTED_EVERY", 0.0)
    synthesize("corner", out=tmp_path / "out", frames=3, size="64x48", noise="kinect", seed=5, path="orbit")
    read = datasets.load(tmp_path / "out")
    expected = Synthetic("corner", frames=3, size=(48, 64), noise="kinect", path="orbit", seed=5)
    assert read.size == (48, 64)
    torch.testing.assert_close(read[2].depth, expected[2].depth, rtol=0, atol=1.01e-4)
    torch.testing.assert_close(read[2].T_wc, expected[2].T_wc, rtol=0, atol=1e-6)
    assert len(read_ply(tmp_path / "out" / "mesh.ply")[1]) == len(expected.mesh[1])
    printed = capsys.readouterr().out
    assert "2 of 3 frames\n" in printed and "3 frames of 64x48" in printed


@pytest.mark.parametrize("size", ["640", "640x", "0x480", "axb", "640x480x3"])
def test_bad_size(tmp_path, size):
    with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
        synthesize("corner", out=tmp_path / "out", frames=1, size=size)
    assert not (tmp_path / "out").exists()


def test_unknown_room(tmp_path):
    with pytest.raises(ValueError, match=r"attic.*living_room"):
        synthesize("attic", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
