from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest

from gradslam_ng.commands.info import info
from gradslam_ng.commands.recording import SourceOptions


@pytest.fixture
def folder(tmp_path):
    """Two frames in the plain layout."""
    for name in ("color", "depth"):
        (tmp_path / name).mkdir()
        for i in range(2):
            kind = (24, 32, 3) if name == "color" else (24, 32)
            iio.imwrite(tmp_path / name / f"{i}.png", np.full(kind, 200, np.uint8 if name == "color" else np.uint16))
    return tmp_path


def test_prints_facts_and_warnings(folder, capsys):
    info(str(folder), recording=SourceOptions(intrinsics="30,31,15.5,11.5", depth_scale=100.0))
    printed, told = capsys.readouterr()
    assert told == "looking at 2 frames\n"  # it may take half a minute, and nobody sees a bar
    for text in ("folder", "2 of 32x24", "fx 30  fy 31  cx 15.5  cy 11.5", "1/100 m", "median 2.000 m", "ground truth"):
        assert text in printed
    assert "warning: every sampled frame is of one color throughout" in printed
    assert "error: depth is the same, 2.000 m, in all pixels" in printed and "unusual" not in printed
    info(str(folder), recording=SourceOptions(intrinsics="30,31,15.5,11.5", depth_scale=1.0))
    assert "error: median depth of 200 m is unusual" in capsys.readouterr().out
