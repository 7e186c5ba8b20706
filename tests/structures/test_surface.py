from __future__ import annotations

import dataclasses

import torch

from gradslam_ng.preprocessing import measure_surface


def test_where_chooses_by_batch_element(room):
    first, second = (measure_surface(room.view(room.walk(2, seed))).surface for seed in (0, 1))
    second = dataclasses.replace(second, K=2 * second.K)
    mixed = first.where(torch.tensor([True, False]), second)
    for name in ("vertices", "normals", "weights", "K"):
        value, mine, theirs = (getattr(s, name) for s in (mixed, first, second))
        assert torch.equal(value[0], mine[0]) and torch.equal(value[1], theirs[1])
