"""A camera whose gain and bias change from frame to frame, where brightness alone fixes part of the pose."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.datasets.synthetic import Corrupted, Synthetic

GAINS = (1.0, 0.8, 0.96, 1.15, 0.92, 0.74, 0.89, 1.07)  # a fifth up or down at each frame


def auto_exposure(index, color, depth):
    gain = GAINS[index % len(GAINS)]
    return (gain * color + 0.05 * (gain - 1.0)).clamp(0.0, 1.0), depth


@pytest.fixture(scope="module")
def errors():
    """Largest error of position, meters, on a wall full of texture: steady, with auto exposure, and by depth alone."""
    wall = Synthetic("wall", frames=8, size=(60, 80))
    by_depth = gs.PointFusion(gs.odometry.ProjectiveICP(photometric=False))
    found = {}
    for name, slam, sequence in (
        ("steady", gs.PointFusion(), wall),
        ("exposed", gs.PointFusion(), Corrupted(wall, auto_exposure)),
        ("by depth", by_depth, wall),
    ):
        frames = gs.RGBDFrames.stack([sequence[i] for i in range(8)])
        with torch.no_grad():
            T_wc = slam(frames[None])[1][0].double()
        found[name] = float((T_wc[:, :3, 3] - frames.T_wc[:, :3, 3]).norm(dim=-1).max())
    return found


def test_gain_that_changes_by_a_fifth_a_frame_is_tracked(errors):
    assert errors["steady"] < 0.003
    assert errors["exposed"] < errors["steady"] + 0.003


def test_depth_alone_slides_along_the_wall(errors):
    """So that it is brightness which finds the motion in the test above."""
    assert errors["by depth"] > 3 * errors["exposed"]
