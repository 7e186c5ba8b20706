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


def test_near_is_what_is_both_close_and_alike_in_direction():
    keyframes = Keyframes()
    assert not keyframes.is_near(turned(0.0), 10.0, 3.2)
    for i, x in enumerate((0.0, 1.0, 5.0)):
        keyframes.add(i, turned(0.2 * i, x), torch.ones(4))
    assert keyframes.is_near(turned(0.35, 5.1), 0.2, 0.1)
    assert not keyframes.is_near(turned(0.25, 5.1), 0.2, 0.1)  # turned away from the one that is close
    assert not keyframes.is_near(turned(0.4, 4.7), 0.2, 0.1)
    assert keyframes.is_near(turned(0.1, 0.5), 0.6, 0.15)  # of two
    assert not keyframes.is_near(turned(0.0, 2.0), 0.9, 3.2)


def test_descriptors_know_a_place_from_another(seen):
    here, near, away, dark = (seen(turned(yaw))[0] for yaw in (0.3, 0.38, 2.0, 0.3))
    dark = replace(dark, color=0.5 * dark.color)
    keyframes, rows = Keyframes(), tiny_image_descriptor(here)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(rows)))
    for live in (near, away, dark):
        keyframes.add(0, turned(0.0), tiny_image_descriptor(live))
    similar = keyframes.similarities(rows)
    assert similar[2] > 0.999 and similar[0] > similar[1] + 0.2
    assert similar[2] == pytest.approx(float(keyframes.descriptors[2] @ rows[0]))  # as it is, not shifted


def test_a_place_is_known_from_a_camera_that_is_turned(seen):
    """By up to some 25 degrees; the image as it is would not tell."""
    keyframes = Keyframes()
    for yaw in (0.3, 2.0, 3.6):
        keyframes.add(0, turned(yaw), tiny_image_descriptor(seen(turned(yaw))[0]))
    for yaw in (-0.1, 0.7):
        similar = keyframes.similarities(tiny_image_descriptor(seen(turned(yaw))[0]))
        assert int(similar.argmax()) == 0 and similar[0] > similar[1:].max() + 0.1


def test_a_descriptor_may_be_a_single_row():
    keyframes = Keyframes()
    for k in range(3):
        keyframes.add(k, turned(0.0), torch.eye(3)[k])
    assert keyframes.similarities(torch.eye(3)[1]).tolist() == [0, 1, 0]
    assert keyframes.similarities(torch.eye(3)[1:]).tolist() == [0, 1, 1]
    assert keyframes.similarities(torch.eye(3)[1], before=1).tolist() == [0]


def test_keyframes_follow_the_frames_that_they_are():
    keyframes = Keyframes()
    for frame in (0, 2):
        keyframes.add(frame, turned(0.0), torch.zeros(1))
    T_wf = torch.stack([turned(0.1 * k, k) for k in range(4)])
    keyframes.follow(T_wf)
    torch.testing.assert_close(torch.stack(keyframes.T_wk), T_wf[[0, 2]])
