"""Corruptions: each does what it says, the same every time, and leaves the rest alone."""

from __future__ import annotations

import itertools
import math
import pickle

import pytest
import torch

from gradslam_ng.datasets.synthetic import Concatenated, Corrupted, Dropout, GainDrift, LensCover, Synthetic, put_back
from gradslam_ng.geometry import se3

SIZE = (24, 32)


@pytest.fixture(scope="module")
def still() -> Synthetic:
    return Synthetic("corner", frames=12, size=SIZE)


def test_nothing_but_the_images_changes(still):
    disturbed = Corrupted(still, Dropout(0.3), GainDrift(0.5, frames=4))
    assert torch.equal(disturbed.T_wc, still.T_wc)
    assert torch.equal(disturbed.timestamps, still.timestamps)
    assert disturbed.mesh is still.mesh
    assert any("Dropout(share=0.3" in note for note in disturbed.notes)
    for a, b in ((disturbed[0], still[0]), (disturbed[5], still[5])):
        assert torch.equal(a.K, b.K) and torch.equal(a.T_wc, b.T_wc)
        assert not torch.equal(a.depth, b.depth)


def test_a_slice_of_what_is_disturbed_is_what_is_disturbed_of_the_slice(still):
    disturbed = Corrupted(still, Dropout(0.5, seed=3))
    assert torch.equal(disturbed[4::3][1].depth, disturbed[7].depth)
    assert torch.equal(pickle.loads(pickle.dumps(disturbed))[7].depth, disturbed[7].depth)
    assert not torch.equal(Corrupted(still, Dropout(0.5, seed=4))[7].depth, disturbed[7].depth)


def test_dropout_takes_its_share_of_readings_anew_in_each_frame(still):
    depth = torch.ones(200, 200, 1)
    _, first = Dropout(0.3)(0, depth, depth)
    _, second = Dropout(0.3)(1, depth, depth)
    assert (first == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert ((first == 0) & (second == 0)).float().mean() == pytest.approx(0.09, abs=0.01)
    assert (first[first > 0] == 1).all()


def test_gain_halves_in_equal_ratios_and_comes_back():
    drift = GainDrift(0.5, frames=10)
    gains = [drift.gain(i) for i in range(21)]
    assert gains[0] == gains[20] == 1
    assert gains[10] == pytest.approx(0.5)
    assert all(b / a == pytest.approx(0.5**0.1) for a, b in itertools.pairwise(gains[:11]))
    color, _ = GainDrift(2.0, frames=1)(1, torch.tensor([0.2, 0.4, 0.7]), torch.ones(1))
    torch.testing.assert_close(color, torch.tensor([0.4, 0.8, 1.0]))


def test_a_cover_is_black_and_has_no_depth_or_the_palm_s(still):
    for palm in (None, (0.1, 0.2)):
        covered = Corrupted(still, LensCover(first=3, count=5, palm=palm))
        for i in range(12):
            frame, under = covered[i], 3 <= i < 8
            assert bool((frame.color == 0).all()) == under
            if not under:
                assert torch.equal(frame.depth, still[i].depth)
            elif palm is None:
                assert (frame.depth == 0).all()
            else:
                assert 0.1 <= frame.depth.min() < 0.12 and 0.13 < frame.depth.max() <= 0.2


def test_put_back_as_far_away_as_said_and_walking_on_as_before(still):
    T_wc = put_back(still.T_wc, first=4, count=3, meters=0.2, degrees=10)
    T = se3.inverse(T_wc[3]) @ T_wc[7]
    assert torch.equal(T_wc[:4], still.T_wc[:4])
    assert T[:3, 3].norm() == pytest.approx(0.2)
    assert math.degrees(se3.log(T)[3:].norm()) == pytest.approx(10)
    step, before = (se3.inverse(a) @ b for a, b in ((T_wc[7], T_wc[8]), (still.T_wc[3], still.T_wc[4])))
    torch.testing.assert_close(step, before)
    moved = still.along(T_wc)
    assert torch.equal(moved.ground_truth.T_wc, T_wc)
    assert torch.equal(moved[3].depth, still[3].depth) and not torch.equal(moved[7].depth, still[7].depth)
    with pytest.raises(ValueError, match="frames 1 to 11, got 8 to 12"):
        put_back(still.T_wc, first=8, count=5)


def test_joined_sequences_follow_one_another(still):
    parts = Concatenated(still[:3], still[8:])
    assert len(parts) == 7
    assert torch.equal(parts[4].depth, still[9].depth)
    assert torch.equal(parts[4].T_wc, still[9].T_wc)
    assert torch.equal(parts.ground_truth.T_wc, torch.cat([still.T_wc[:3], still.T_wc[8:]]))


def test_what_does_not_join_is_told(still):
    with pytest.raises(ValueError, match="begin after"):
        Concatenated(still[5:], still[:5])
    with pytest.raises(ValueError, match="one camera"):
        Concatenated(still[:5], Synthetic("corner", frames=12, size=(12, 16))[5:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dropout(1.5), "share: expected 0 to 1"),
        (lambda: GainDrift(0.0), "positive factor"),
        (lambda: GainDrift(0.5, frames=0), "at least 1 frame"),
    ],
)
def test_wrong_settings_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
