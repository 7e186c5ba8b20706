"""A large correction must be found twice."""

from __future__ import annotations

import torch

from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser


def turned(yaw: float, x: float = 0.0) -> torch.Tensor:
    return se3.exp(torch.tensor([x, 0, 0, 0, yaw, 0], dtype=torch.float64))


def test_a_large_correction_waits_for_a_second_loop_that_agrees():
    detector, T_wc = LoopCloser().detector, turned(0.4, 1.0)
    far = turned(0.0, 0.8)
    assert detector.is_confirmed(turned(0.0, 0.1) @ T_wc, T_wc)
    assert not detector.is_confirmed(far @ T_wc, T_wc)
    assert not detector.is_confirmed(turned(0.0, 1.2) @ T_wc, T_wc)  # does not agree with the one before
    assert not detector.is_confirmed(far @ T_wc, T_wc)
    assert detector.is_confirmed(far @ turned(0.4, 1.2), turned(0.4, 1.2))
