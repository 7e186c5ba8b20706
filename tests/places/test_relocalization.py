"""A camera that was covered and put elsewhere is found again, and nothing enters the map before it is."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.structures import RGBDFrames


@pytest.fixture(scope="module")
def covered(room) -> RGBDFrames:
    """12 frames of a walk, 4 with a hand over the lens, 4 from 20 cm and 10 degrees beside the last."""
    walk = room.walk(12)
    aside = se3.exp(torch.tensor([0.12, -0.1, 0.12, 0.1, 0.12, 0.05], dtype=torch.float64))
    frames = room.view(torch.cat([walk, walk[-1:].expand(4, 4, 4), (walk[-1] @ aside).expand(4, 4, 4)]), (120, 160))
    color, depth = frames.color.clone(), frames.depth.clone()
    color[12:16], depth[12:16] = 0.0, 0.15
    return RGBDFrames(color, depth, frames.K, frames.T_wc)


@pytest.mark.parametrize("system", [gs.PointFusion, gs.KinectFusion], ids=lambda s: s.__name__)
def test_a_camera_put_elsewhere_is_found(covered, room, system):
    slam = system() if system is gs.PointFusion else system(voxel_size=0.04, truncation=0.12)
    result = slam.run(room.InMemory(covered))
    assert result.tracked.tolist() == [True] * 12 + [False] * 4 + [True] * 4
    assert result.relocalized == [16] and (result.statuses[12:16] == TrackingStatus.NO_OVERLAP).all()
    apart = se3.log(result.trajectory.T_wc @ se3.inverse(covered.T_wc.double()))[result.tracked]
    assert apart[:, :3].norm(dim=-1).max() < 0.01 and apart[:, 3:].norm(dim=-1).max() < 0.01
    if system is gs.PointFusion:  # neither the hand nor the frame that was found first
        created = result.map.created[result.map.mask]
        assert not ((created >= 12) & (created <= 16)).any() and (created == 17).any()


def test_another_place_is_not_taken_for_one_that_is_known(covered, room):
    """Seen from the other end of the room, nothing is as the map says."""
    turned = room.walk(1)[0] @ se3.exp(torch.tensor([0.0, 0, 0, 0, 2.5, 0], dtype=torch.float64))
    elsewhere = room.view(turned.expand(3, 4, 4), (120, 160))
    names = ("color", "depth", "K", "T_wc")
    frames = RGBDFrames(*(torch.cat([getattr(covered, name)[:16], getattr(elsewhere, name)]) for name in names))
    result = gs.PointFusion().run(room.InMemory(frames))
    assert not result.tracked[12:].any() and not result.relocalized
