from __future__ import annotations

import math

import torch


def test_poses_and_map_are_better_afterwards(demo, tmp_path):
    numbers = demo("bundle_by_rendering").main(tmp_path, clips=1, seed=40, frames=5, steps=50, size=(60, 80))
    assert numbers["ATE before, cm (mean)"] > 0.5
    assert numbers["ATE after, cm (mean)"] < 0.6 * numbers["ATE before, cm (mean)"]
    assert (tmp_path / "bundle_by_rendering.png").stat().st_size > 10_000


def test_the_disturbance_is_as_large_as_asked_and_spares_the_first(demo):
    T_wc = torch.eye(4).expand(2000, 4, 4)
    moved = demo("bundle_by_rendering").perturb(T_wc, 0.01, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(moved[0], T_wc[0])
    assert abs(moved[:, :3, 3].std() - 0.01) < 5e-4
    assert abs(moved[:, 2, 1].std() - math.radians(0.5)) < 5e-4
