"""What the benchmark of trust counts as wrong, and as told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from benchmarks.trust import judge, squared_error
from benchmarks.trust_scenes import Scene, dropped, frozen
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.structures import Trajectory

TRACKED, LOST, UNCERTAIN = TrackingStatus.TRACKED, TrackingStatus.NO_OVERLAP, TrackingStatus.UNCONFIRMED


def test_wrong_ones_are_those_that_moved_otherwise_since_the_last_with_a_pose():
    truth = torch.eye(4, dtype=torch.float64).repeat(6, 1, 1)
    truth[:, 0, 3] = 0.1 * torch.arange(6)
    found = truth.clone()
    found[2, 0, 3] += 0.07  # called tracked, and wrong; the next one, back in place, moved otherwise too, and says so
    found[4] = found[3]  # lost: stays 10 cm behind
    statuses = torch.tensor([TRACKED, TRACKED, TRACKED, UNCERTAIN, LOST, TRACKED])
    covariances = (1e-4 * torch.eye(6, dtype=torch.float64)).repeat(6, 1, 1)
    result = SimpleNamespace(statuses=statuses, trajectory=Trajectory(torch.arange(6), found), covariances=covariances)
    row = judge(Scene("", "", lambda: None, True), SimpleNamespace(T_wc=truth), result)
    assert (row.called, row.silent, row.wrong, row.lost, row.uncertain) == (3, 1, 3, 1, 1)
    assert row.nees == pytest.approx([0.0, 0.07**2 / 2e-4])


def test_the_error_is_normalized_by_both_covariances():
    T = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    off = torch.tensor([0.03, 0, 0, 0, 0, 0.02], dtype=torch.float64)
    covariances = torch.diag_embed(torch.tensor([[2e-4] * 6, [1e-4] * 6], dtype=torch.float64))
    assert squared_error(off, T, covariances) == pytest.approx((0.03**2 + 0.02**2) / 3e-4)


def test_frames_freeze_and_are_dropped():
    assert frozen(10) == [0, 0, 0, 0, 4, 5, 6, 7, 8, 8]
    kept = dropped(48)
    assert kept == sorted(set(kept)) and not {9, 10, 11, 21} & set(kept) and 12 < len(kept) < 36
