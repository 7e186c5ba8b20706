"""Files for the viewer of Rerun: what is in them, read back by its own library."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from gradslam_ng.viz.rerun_file import write_rerun
from gradslam_ng.viz.scene import Cloud, Scene


@pytest.fixture
def scene() -> Scene:
    """Two points, three frames, the second lost, and a loop."""
    points, none = torch.tensor([[0.0, 0, 2], [1, 0, 2]]), torch.zeros(2, dtype=torch.int64)
    cloud = Cloud(points, torch.full((2, 3), 90, dtype=torch.uint8), torch.zeros(2, 3), none, none)
    T_wc = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    T_wc[:, 0, 3] = torch.arange(3.0)
    return Scene(cloud, T_wc, torch.tensor([0, 2, 0]), torch.arange(3).double(), ((0, 2),))


def test_what_is_written(scene, tmp_path):
    rerun = pytest.importorskip("rerun")
    asked: list[float] = []

    def images(seconds: float) -> np.ndarray | None:
        asked.append(seconds)
        return None if seconds == 1 else np.full((6, 8, 3), 200, np.uint8)

    path = tmp_path / "new" / "out.rrd"
    write_rerun(path, scene, torch.tensor([[10.0, 0, 4], [0, 10, 3], [0, 0, 1]]), (6, 8), images)
    assert asked == [0, 1, 2] and path.read_bytes()[:4] == b"RRF2"
    data = path.read_bytes()
    for name in (b"/world/map", b"/world/path", b"/world/loops", b"/world/camera/image"):
        assert name in data
    assert rerun.__version__


def test_a_place_where_nothing_can_be_written(scene, tmp_path):
    pytest.importorskip("rerun")
    (tmp_path / "out.rrd").mkdir()
    with pytest.raises(OSError, match=r"out\.rrd"):
        write_rerun(tmp_path / "out.rrd", scene, None, (6, 8), lambda seconds: None)


def test_without_its_library(scene, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ImportError, match=r"needs rerun-sdk .*gradslam_ng\[rerun\]"):
        write_rerun(tmp_path / "out.rrd", scene, None, (6, 8), lambda seconds: None)
    assert not list(tmp_path.iterdir())
