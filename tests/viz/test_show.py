"""A map shown from Python."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.viz import show


def test_a_map_and_its_cameras_far_from_the_origin(free_port):
    pytest.importorskip("viser", reason="viser comes with the extra `view`")
    origin = torch.tensor([[160.0, 0, 0]], dtype=torch.float64)
    number, ones = torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5)
    points, count = torch.rand(1, 5, 3), torch.tensor([5])
    map_ = SurfelMap(points, points, points, ones, ones, number, number, count, origin)
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    poses[:, 0, 3] = torch.tensor([160.5, 161.0])
    page = show(map_, Trajectory(torch.arange(2), poses), port=free_port)
    try:
        assert torch.equal(page.scene.cloud.points, points[0])
        assert page.scene.T_wc[:, 0, 3].tolist() == [0.5, 1.0]
        assert page.url in page._repr_html_()
    finally:
        page.close()
