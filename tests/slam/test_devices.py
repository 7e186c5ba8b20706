"""Nothing in a step may sit on the default device: here that is "meta", which mixes with no other and has no values.

What passes on the CPU with this default passes with frames on a GPU as far as placement goes.
"""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.odometry import ProjectiveICP, align_points


@pytest.fixture
def frames(room) -> gs.RGBDFrames:
    return gs.RGBDFrames.stack([room.view(room.walk(3, seed)) for seed in (0, 1)])


@pytest.mark.parametrize(
    ("system", "odometry", "grad"),
    [(gs.PointFusion, "gradicp", False), (gs.PointFusion, "gradicp", True), (gs.PointFusion, "mean", True),
     (gs.PointFusion, "icp", False), (gs.ICPSLAM, "ground-truth", False), (gs.ICPOdometry, "icp", True)],
)  # fmt: skip
def test_a_clip_stays_on_its_device(frames, system, odometry, grad):
    if odometry == "mean":
        odometry = ProjectiveICP(iterations=(2,), association_window=2)
    slam = system(odometry)
    with torch.device("meta"), torch.set_grad_enabled(grad):
        map_, poses = slam(frames)
        if system is gs.PointFusion:
            map_ = slam.mapper.prune(map_, torch.ones(2, dtype=torch.bool, device="cpu"), 3)
            image = gs.render(map_, poses[:, -1], frames.K[:, -1], (30, 40))
            assert image.color.device.type == "cpu"
    for value in (poses, *map_.attributes().values(), map_.count):
        assert value.device.type == "cpu"


def test_points_stay_on_their_device():
    generator = torch.Generator().manual_seed(0)
    p, q, n = torch.rand(3, 2, 50, 3, generator=generator)
    with torch.device("meta"):
        T, overlap = align_points(p, q, n, max_distance=1.0, iterations=2)
    assert T.device.type == overlap.device.type == "cpu"


def test_a_system_moves_to_a_device():
    assert gs.PointFusion().to("meta").device.type == "meta"
    assert gs.PointFusion().device.type == "cpu"
