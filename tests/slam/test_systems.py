"""How well each system tracks and maps, on scenes whose truth is known."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.datasets import Synthetic
from gradslam_ng.evaluation import ate
from gradslam_ng.structures import SurfelMap

SYSTEMS = {"pointfusion": gs.PointFusion, "icpslam": gs.ICPSLAM, "icp-odometry": gs.ICPOdometry}


def off_the_surface(map_: SurfelMap, room) -> torch.Tensor:
    """Distance of every point of the first map to the nearest wall or face of the crate, meters."""
    points = map_[0].points[0].double()
    return torch.cat([(points[:, None] - box).abs() for box in (room.corners, room.crate)], 1).amin((1, 2))


@pytest.fixture(scope="module")
def clip(room) -> gs.RGBDFrames:
    return room.view(room.walk(20))


@pytest.mark.parametrize(
    ("name", "odometry", "bound"),
    [("pointfusion", "gradicp", 6e-4), ("pointfusion", "icp", 6e-4), ("icpslam", "gradicp", 3e-3),
     ("icp-odometry", "icp", 3e-3)],
)  # fmt: skip
def test_clean_room(clip, room, name, odometry, bound):
    """20 frames, 13 cm and 5 degrees, in images of 80x60."""
    sequence = room.InMemory(clip)
    result = SYSTEMS[name](odometry).run(sequence)
    assert result.tracked.all() and len(result.trajectory) == 20 and not result.interrupted and not result.skipped
    assert ate(sequence.ground_truth, result.trajectory).rmse < bound
    readings = int((clip.depth > 0).sum())
    count = int(result.map.count)
    if name == "pointfusion":
        assert 60 * 80 < count < 1.25 * 60 * 80
    else:
        assert count == 0 if name == "icp-odometry" else 0.9 * readings < count <= readings
    if count:
        assert off_the_surface(result.map, room).quantile(0.9) < 6e-3


@pytest.mark.parametrize("name", ["pointfusion", "icpslam"])
def test_given_poses_are_taken_as_they_are(clip, room, name):
    sequence = room.InMemory(clip)
    result = SYSTEMS[name]("ground-truth").run(sequence)
    assert torch.allclose(result.trajectory.T_wc, sequence.T_wc, atol=1e-6) and result.tracked.all()
    if name == "pointfusion":
        assert off_the_surface(result.map, room).quantile(0.9) < 3e-3


@pytest.mark.parametrize("noise", ["none", "kinect"])
def test_synthetic_living_room(noise):
    """10 frames of 128x96: the ray-traced scene, furniture, depth edges, and a Kinect's noise."""
    sequence = Synthetic("living_room", frames=300, size=(96, 128), noise=noise)[:10]
    result = gs.PointFusion().run(sequence)
    assert result.tracked.all()
    assert ate(sequence.ground_truth, result.trajectory).rmse < {"none": 6e-4, "kinect": 6e-3}[noise]
    assert int(result.map.count) < 1.5 * 96 * 128


def test_a_closed_walk_ends_where_it_began(room):
    """Out and back: at the end the map is met again, so drift does not add up."""
    T = room.walk(12)
    T = torch.cat([T, T.flip(0)])
    sequence = room.InMemory(room.view(T))
    result = gs.PointFusion().run(sequence)
    assert (result.trajectory.T_wc[-1] - T[0])[:3, 3].norm() < 5e-4
    half = gs.PointFusion().run(sequence[:12])
    assert int(result.map.count) < 1.05 * int(half.map.count)
