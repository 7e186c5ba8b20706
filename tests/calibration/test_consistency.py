"""Halves of a recording: which pairs are of which, and what they disagree about."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.calibration import CameraPair
from gradslam_ng.calibration.cameras import NAMES
from gradslam_ng.calibration.consistency import IS_DEPTH, difference, disagreement, split

K = torch.tensor([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]], dtype=torch.float64)
SIZE = 480, 640
TOLD = CameraPair.registered(K)


def moved(**by: float) -> CameraPair:
    return TOLD.retract(torch.tensor([by.get(name, 0.0) for name in NAMES], dtype=torch.float64))


def judge(found: CameraPair, first: CameraPair, second: CameraPair) -> Tensor:
    return disagreement(TOLD, found, (first, second), SIZE)


def test_differences_are_in_units_that_are_seen() -> None:
    """A center 5 pixels off turns rays by a hundredth; color 3 pixels off is 3 pixels."""
    found = difference(TOLD, moved(cx=5.0), SIZE)
    assert abs(found.depth - 0.01) < 1e-6 and found.color < 1e-9  # color moves along
    found = difference(TOLD, moved(**{"color cx": 3.0}), SIZE)
    assert found.depth == 0 and abs(found.color - 3) < 1e-6
    assert difference(TOLD, moved(**{"time offset": 0.02}), SIZE) == (0.0, 0.0, 0.02)


def test_what_halves_tell_alike_is_taken() -> None:
    found = moved(fx=0.03, **{"color cx": 2.0})
    near = moved(fx=0.028, **{"color cx": 2.2}), moved(fx=0.032, **{"color cx": 1.8})
    assert not judge(found, *near).any()


def test_what_they_tell_otherwise_is_not() -> None:
    """Depth's camera, which they disagree on, but not color's, which they agree on; and the other way round."""
    found = moved(fx=0.03, **{"color cx": 2.0})
    depth_apart = moved(fx=-0.02, **{"color cx": 2.2}), moved(fx=0.06, **{"color cx": 1.8})
    assert torch.equal(judge(found, *depth_apart), IS_DEPTH)
    color_apart = moved(fx=0.028, **{"color cx": -1.0}), moved(fx=0.032, **{"color cx": 4.0})
    is_time = torch.arange(len(NAMES)) == len(NAMES) - 1
    assert torch.equal(judge(found, *color_apart), ~IS_DEPTH & ~is_time)
    late = moved(**{"time offset": 0.02})
    assert torch.equal(judge(late, TOLD, late), is_time)


def test_halves_share_no_pair() -> None:
    i, j = torch.triu_indices(10, 10, 1)
    early, late = split(i, j)
    assert len(early[0]) + len(late[0]) == len(i) and min(len(early[0]), len(late[0])) > len(i) // 3
    assert (early[0] + early[1]).max() <= (late[0] + late[1]).min()
