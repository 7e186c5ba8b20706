"""Which way is up, by level surfaces and the cameras."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng.geometry import se3
from gradslam_ng.geometry.upright import estimate_upright


def test_up_of_a_world_whose_z_is_up():
    floor = torch.tensor([[0.0, 0, 1]]).expand(50, 3)
    T_wc = se3.exp(torch.tensor([0, 0, 1.5, -1.9, 0.0, 0.0], dtype=torch.float64))[None]  # looks down a little
    up = estimate_upright(floor, T_wc)
    assert up.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="a known pose"):
        estimate_upright(floor, T_wc * torch.nan)
