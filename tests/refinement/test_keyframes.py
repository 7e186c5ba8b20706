"""Which frames of a run become keyframes, and which of a sequence they are."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng.preprocessing import axial_noise
from gradslam_ng.refinement.keyframes import choose_keyframes, frames_of_run, read_keyframes


def test_keyframes_are_tracked_and_evenly_spread():
    tracked = torch.ones(101, dtype=torch.bool)
    tracked[:10] = False
    assert choose_keyframes(tracked, 4).tolist() == [10, 40, 70, 100]
    assert choose_keyframes(tracked[:13], 50).tolist() == [10, 11, 12]
    assert choose_keyframes(tracked[:5], 50).tolist() == []


def test_frames_that_could_not_be_read_have_no_pose(room):
    sequence = room.InMemory(room.view(room.walk(6)))
    assert frames_of_run(sequence.timestamps[[0, 1, 3, 5]], sequence) == [0, 1, 3, 5]
    with pytest.raises(ValueError, match="expected the one that was run"):
        frames_of_run(sequence.timestamps + 1, sequence)


def test_frames_that_cannot_be_read_again_are_left_out(room):
    clip, cpu = room.view(room.walk(4)), torch.device("cpu")
    broken = room.InMemory(clip, broken={2: None})
    assert read_keyframes(broken, [0, 2, 3], range(4), axial_noise, 50.0, cpu).number.tolist() == [0, 3]
    with pytest.raises(ValueError, match="none of its keyframes"):
        read_keyframes(broken, [2], range(4), axial_noise, 50.0, cpu)
