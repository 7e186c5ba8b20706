"""Submaps part, move, join, and come back where they are seen again."""

from __future__ import annotations

import math

import pytest
import torch

from gradslam_ng.geometry import se3
from gradslam_ng.loops.submaps import concatenate, partition, reactivate, transform


def turned(yaw: float, x: float = 0.0) -> torch.Tensor:
    return se3.exp(torch.tensor([x, 0, 0, 0, yaw, 0], dtype=torch.float64))


def test_submaps_part_move_and_join(seen):
    _, map_ = seen(turned(0.0))
    n = int(map_.count[0])
    away = torch.zeros(1, map_.capacity, dtype=torch.bool)
    away[:, : n // 3] = True
    stay, gone = partition(map_, away)
    assert int(gone.count[0]) == n // 3 and int(stay.count[0]) == n - n // 3
    both = concatenate(stay, gone)
    assert int(both.count[0]) == n
    torch.testing.assert_close(both[0].points.sum(1), map_[0].points.sum(1), rtol=1e-4, atol=1e-2)
    delta = torch.stack([torch.eye(4, dtype=torch.float64), turned(0.3, 0.1)])
    owner = torch.zeros(1, gone.capacity, dtype=torch.int64)
    owner[:, 5:] = 1
    ridden = transform(gone, owner, delta)
    torch.testing.assert_close(ridden.points[:, :5], gone.points[:, :5])
    expected = se3.transform(delta[1].float(), gone.points[:, 5:])
    torch.testing.assert_close(ridden.points[:, 5:], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ridden.normals.norm(dim=-1), gone.normals.norm(dim=-1), atol=1e-5, rtol=0)


def test_surfels_seen_again_replace_newer_ones(seen):
    live, old = seen(turned(0.0))
    _, new = seen(turned(0.0, 0.002))
    old = old[0]
    active, archive = reactivate(new, old, live, torch.eye(4)[None], frame=77)
    assert int(archive.count[0]) < 0.1 * int(old.count[0])
    assert int(active.count[0]) < 1.3 * int(old.count[0])
    assert (active.updated[active.mask] == 77).float().mean() > 0.7
    elsewhere, kept = reactivate(new, old, live, turned(math.pi).float()[None], frame=77)
    assert int(kept.count[0]) == int(old.count[0]) and int(elsewhere.count[0]) == int(new.count[0])


def test_two_passes_of_one_surface_become_one_between_them(seen):
    """A wall 1 cm nearer in the newer pass: seen again, it ends up between, where confidence has it."""
    live, old = seen(turned(0.0))
    old = old[0]
    new = old.map(torch.clone)
    new.points.add_(0.01 * new.normals)
    new.confidences.mul_(3)
    before = old.map(torch.clone)
    active, _ = reactivate(new, old, live, torch.eye(4)[None], frame=77)
    back = active.compact(active.updated == 77)[0]
    # every surfel that came back lies on the old one's normal, up to 1 cm before it, most at three quarters of that
    gap = torch.cdist(back.points[0], before.points[0])
    nearest = gap.argmin(-1)
    off = ((back.points[0] - before.points[0, nearest]) * before.normals[0, nearest]).sum(-1)
    assert off.median() == pytest.approx(0.0075, abs=5e-4)
    assert off.min() > -1e-4 and off.max() < 0.0101
