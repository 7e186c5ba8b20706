from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gradslam_ng.odometry import KnownPoses
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import RGBDFrames


def test_takes_what_the_frames_came_with(room):
    T = room.walk(3)
    live = measure_surface(room.view(T))
    given = live.T_wc.clone()
    given[1] = math.nan
    live = replace(live, T_wc=given)
    start = torch.eye(4).expand(3, 4, 4)
    found = KnownPoses()(live, live.surface, start, start)
    assert found.ok.tolist() == [True, False, True]
    assert torch.equal(found.T_wc[[0, 2]], T[[0, 2]].float()) and torch.equal(found.T_wc[1], torch.eye(4))


def test_frames_without_any_poses_are_refused(room):
    frame = room.view(room.walk(1))
    live = measure_surface(RGBDFrames(frame.color, frame.depth, frame.K))
    with pytest.raises(ValueError, match=r"ground-truth.*poses"):
        KnownPoses()(live, live.surface, torch.eye(4)[None], torch.eye(4)[None])
