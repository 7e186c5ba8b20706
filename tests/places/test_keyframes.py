"""Keyframes carry frames and surfels, and descriptors tell places apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradslam_ng.geometry import se3
from gradslam_ng.places.keyframes import Keyframes, tiny_image_descriptor


def turned(yaw: float, x: float = 0.0) -> torch.Tensor:
    return se3.exp(torch.tensor([x, 0, 0, 0, yaw, 0], dtype=torch.float64))


def test_frames_ride_on_their_keyframes():
    keyframes = Keyframes()
    poses = [turned(0.1 * k, 0.2 * k) for k in range(6)]
    for k, T in enumerate(poses):
        if k in (0, 3):
            keyframes.add(k, T, torch.zeros(1))
        keyframes.attach(T)
    torch.testing.assert_close(keyframes.trajectory(), torch.stack(poses))
    assert keyframes.keyframe_of(torch.tensor([0, 2, 3, 9])).tolist() == [0, 0, 1, 1]
    delta = turned(0.5)
    keyframes.T_wk[1] = delta @ keyframes.T_wk[1]
    expected = torch.stack([*poses[:3], *(delta @ T for T in poses[3:])])
    torch.testing.assert_close(keyframes.trajectory(), expected)
    meters, radians = keyframes.distances(poses[0], before=3)
    assert meters.tolist() == [0.0] and float(radians[0]) < 1e-6
    assert len(keyframes.distances(poses[0], before=0)[0]) == 0


def test_descriptors_know_a_place_from_another(seen):
    here, near, away, dark = (seen(turned(yaw))[0] for yaw in (0.3, 0.38, 2.0, 0.3))
    dark = replace(dark, color=0.5 * dark.color)
    code = tiny_image_descriptor(here)
    assert code.norm() == pytest.approx(1)
    similar = {
        name: float(code @ tiny_image_descriptor(live))
        for name, live in (("near", near), ("away", away), ("dark", dark))
    }
    assert similar["dark"] > 0.999
    assert similar["near"] > similar["away"] + 0.2
