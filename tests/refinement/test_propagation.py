"""Frames follow their keyframes."""

from __future__ import annotations

import torch

from gradslam_ng.geometry import se3
from gradslam_ng.refinement.propagation import follow_keyframes


def test_frames_follow_their_keyframes(room):
    T_wc, number = room.walk(9), torch.tensor([2, 4, 7])
    correction = se3.exp(torch.tensor([0.1, 0, 0.02, 0, 0.05, 0], dtype=torch.float64))
    assert torch.allclose(follow_keyframes(T_wc, number, correction @ T_wc[number]), correction @ T_wc)
    T_wk = se3.exp(torch.tensor([[0.0] * 6, [0.02] * 6, [0.0] * 6], dtype=torch.float64)) @ T_wc[number]
    moved = follow_keyframes(T_wc, number, T_wk)
    assert torch.allclose(moved[number], T_wk)
    assert torch.allclose(moved[[0, 1, 8]], T_wc[[0, 1, 8]])
    half = se3.exp(torch.tensor([0.01] * 6, dtype=torch.float64))
    assert torch.allclose(moved[3], half @ T_wc[3])
